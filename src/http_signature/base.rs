//! The signature base (RFC 9421 §2.5): the bytes that are signed, rebuilt from a message.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

use super::{Component, HttpSignatureError as Error};
use crate::structured_fields::dictionary;
use crate::structured_fields::write::is_printable_or_tab;

/// A request as a signature sees it. All parts are what the two ends agree on, not what stands in
/// the local socket: behind TLS termination they are rebuilt from the public URL.
#[derive(Clone, Copy)]
pub struct MessageView<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// `https`, lower-case.
    pub scheme: &'a str,
    /// Host and port, lower-case, without the scheme's default port.
    pub authority: &'a str,
    /// The absolute path as sent; empty means `/`.
    pub path: &'a str,
    /// The query without its question mark.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// The signature base over `components`, ending in `@signature-params` with the bytes `parameters`:
/// those received when verifying, those about to be sent when signing.
///
/// # Errors
/// [`Error::MissingComponent`], or [`Error::NotAscii`] for a value that could not stand in a base.
pub fn signature_base(
    message: &MessageView<'_>,
    components: &[Component],
    parameters: &str,
) -> Result<Vec<u8>, Error> {
    let mut base = String::with_capacity(message.estimate(components) + 2 * parameters.len());
    for component in components {
        component.write(&mut base)?;
        base.push_str(": ");
        message.write_value(component, &mut base)?;
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(parameters);
    Ok(base.into_bytes())
}

impl MessageView<'_> {
    fn write_value(&self, component: &Component, out: &mut String) -> Result<(), Error> {
        let start = out.len();
        match component {
            Component::Method => out.push_str(self.method),
            Component::Scheme => out.push_str(self.scheme),
            Component::Authority => out.push_str(self.authority),
            Component::Path => out.push_str(self.absolute_path()),
            // A request without a query has the query component "?" (RFC 9421 §2.2.7).
            Component::Query => write_query(self.query.or(Some("")), out),
            Component::RequestTarget => self.write_request_target(out),
            Component::TargetUri => {
                out.push_str(self.scheme);
                out.push_str("://");
                out.push_str(self.authority);
                self.write_request_target(out);
            }
            Component::Field(field) => out.push_str(&field_value(self.headers, field)?),
            Component::Member { field, key } => {
                let value = field_value(self.headers, field)?;
                let members = dictionary(&value)?;
                let member = members.iter().find(|m| m.key == key).ok_or(Error::MissingComponent)?;
                // A key alone, or with parameters only, stands for the value true (RFC 8941 §3.2).
                if member.raw.is_empty() || member.raw.starts_with(';') {
                    out.push_str("?1");
                }
                out.push_str(member.raw);
            }
        }
        // Anything else could forge a line of the base.
        if out.get(start..).is_some_and(is_printable_or_tab) { Ok(()) } else { Err(Error::NotAscii) }
    }

    /// Bytes of a base over these without names, which stand in the parameters too: so many that the
    /// usual base is written in one piece.
    fn estimate(&self, components: &[Component]) -> usize {
        let field = |name| self.headers.get(name).map_or(0, http::HeaderValue::len);
        let values = components.iter().map(|component| match component {
            Component::Field(name) | Component::Member { field: name, .. } => field(name),
            Component::Method
            | Component::TargetUri
            | Component::Authority
            | Component::Scheme
            | Component::RequestTarget
            | Component::Path
            | Component::Query => 8,
        });
        let target = self.authority.len() + self.path.len() + self.query.map_or(0, str::len);
        64 + 4 * components.len() + 2 * target + values.sum::<usize>()
    }

    fn write_request_target(&self, out: &mut String) {
        out.push_str(self.absolute_path());
        write_query(self.query, out);
    }

    fn absolute_path(&self) -> &str {
        if self.path.is_empty() { "/" } else { self.path }
    }
}

fn write_query(query: Option<&str>, out: &mut String) {
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
}

/// A field's lines, trimmed and joined by `, ` (RFC 9421 §2.1).
pub(super) fn field_value<'a>(headers: &'a HeaderMap, field: &HeaderName) -> Result<Cow<'a, str>, Error> {
    let mut joined: Option<Cow<'a, str>> = None;
    for line in headers.get_all(field) {
        let line = line.to_str().map_err(|_| Error::NotAscii)?.trim_matches([' ', '\t']);
        joined = Some(match joined {
            None => Cow::Borrowed(line),
            Some(before) => Cow::Owned(format!("{before}, {line}")),
        });
    }
    joined.ok_or(Error::MissingComponent)
}
