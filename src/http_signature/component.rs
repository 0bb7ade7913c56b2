//! Component identifiers (RFC 9421 §2): what a signature says it covers.

use http::HeaderName;

use super::{CONTENT_DIGEST, HttpSignatureError as Error};
use crate::structured_fields::{Bare, Item, NotSerializable, write};

/// Fields that nearly every signature of ours covers: their names need no memory.
const USUAL: [HeaderName; 3] =
    [CONTENT_DIGEST, HeaderName::from_static("idempotency-key"), HeaderName::from_static("api-version")];

/// A part of a request that a signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    /// `@method`
    Method,
    /// `@target-uri`: scheme, authority, path and query.
    TargetUri,
    /// `@authority`
    Authority,
    /// `@scheme`
    Scheme,
    /// `@request-target`: path and query.
    RequestTarget,
    /// `@path`
    Path,
    /// `@query`
    Query,
    /// A header, all its lines.
    Field(HeaderName),
    /// One member of a header that is a dictionary: `"signature-agent";key="a"`.
    Member {
        /// The header.
        field: HeaderName,
        /// The member's key.
        key: String,
    },
}

impl Component {
    /// Reads a name without parameters, such as `@method` or `content-digest`.
    ///
    /// # Errors
    /// [`Error::UnsupportedComponent`] for other derived components, [`Error::Malformed`] for what is
    /// no lower-case header name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "@method" => Ok(Self::Method),
            "@target-uri" => Ok(Self::TargetUri),
            "@authority" => Ok(Self::Authority),
            "@scheme" => Ok(Self::Scheme),
            "@request-target" => Ok(Self::RequestTarget),
            "@path" => Ok(Self::Path),
            "@query" => Ok(Self::Query),
            derived if derived.starts_with('@') => Err(Error::UnsupportedComponent(unsupported(derived))),
            field => match USUAL.iter().find(|usual| usual.as_str() == field) {
                Some(usual) => Ok(Self::Field(usual.clone())),
                None => HeaderName::from_lowercase(field.as_bytes())
                    .map(Self::Field)
                    .map_err(|_| Error::Malformed),
            },
        }
    }

    pub(super) fn of_item(item: &Item<'_>) -> Result<Self, Error> {
        let Bare::String(name) = &item.bare else { return Err(Error::Malformed) };
        let component = Self::parse(name)?;
        match (component, item.parameters.as_slice()) {
            (component, []) => Ok(component),
            (Self::Field(field), [("key", Bare::String(key))]) => {
                Ok(Self::Member { field, key: key.clone().into_owned() })
            }
            (_, parameters) => {
                let other = parameters.iter().find(|(name, _)| *name != "key").or(parameters.first());
                let name = other.map(|(name, _)| *name);
                let known = [";sf", ";bs", ";key", ";req", ";tr", ";name"];
                let known = known.into_iter().find(|known| known.strip_prefix(';') == name);
                Err(Error::UnsupportedComponent(known.unwrap_or("a parameter of a component")))
            }
        }
    }

    /// The name within quotes.
    pub fn name(&self) -> &str {
        match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::Authority => "@authority",
            Self::Scheme => "@scheme",
            Self::RequestTarget => "@request-target",
            Self::Path => "@path",
            Self::Query => "@query",
            Self::Field(field) | Self::Member { field, .. } => field.as_str(),
        }
    }

    /// Appends the serialised identifier (RFC 9421 §2, step 1 of §2.5).
    pub(super) fn write(&self, out: &mut String) -> Result<(), NotSerializable> {
        write::string(self.name(), out)?;
        if let Self::Member { key, .. } = self {
            write::parameter("key", out);
            write::string(key, out)?;
        }
        Ok(())
    }
}

/// What may be said of a derived component that is not supported: a name that a standard gives it.
fn unsupported(derived: &str) -> &'static str {
    let known = ["@query-param", "@status", "@signature-params"];
    known.into_iter().find(|known| *known == derived).unwrap_or("a derived component")
}
