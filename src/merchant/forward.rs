//! From [`Outbound`] to the request a merchant receives: an allow-list, then ours.
//!
//! Nothing of the agent's travels that is not named here.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, FORWARDED, USER_AGENT,
};
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri};

use super::client::Sendable;
use super::countersign::{Countersigner, acp_signature};
use super::exchange::NotSent;
use super::names;
use super::outbound::Outbound;
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;
use crate::http_signature::{CONTENT_DIGEST, MessageView, SIGNATURE, SIGNATURE_INPUT, content_digest};
use crate::registry::{Merchant, OutwardSignature};
use crate::structured_fields::{Dictionary, Lines, NotSerializable};

/// Our name in `User-Agent`.
const PRODUCT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How to write to one merchant, worked out at start.
pub(super) struct Destination {
    merchant: MerchantId,
    pub(super) scheme: Scheme,
    authority: Authority,
    /// The base URL's path, without a trailing slash.
    prefix: String,
    /// Scheme, authority and path of the public base URL: what is signed.
    public: PublicUrl,
    credential: HeaderValue,
    signature: OutwardSignature,
    /// How long after `created` a signature expires.
    signature_life: Duration,
}

/// The most lines of a head, `Host` and what HTTP adds among them.
const MAX_LINES: usize = 24;

/// What is written of a request before it is signed.
struct Head {
    headers: HeaderMap,
    /// The path and query it is sent to.
    target: PathAndQuery,
}

/// The URL a merchant knows itself by.
struct PublicUrl {
    scheme: Scheme,
    /// Lower-case, without the scheme's default port (RFC 9421 §2.2.3).
    authority: String,
    /// Without a trailing slash.
    prefix: String,
}

/// A merchant's entry that no request can be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The base URL is not absolute.
    #[error("base_url is not an absolute http or https URL")]
    BaseUrl,
    /// The public base URL is not absolute.
    #[error("public_base_url is not an absolute URL")]
    PublicBaseUrl,
    /// The credential cannot be a header's value.
    #[error("the credential is not visible ASCII")]
    Credential,
}

impl Destination {
    /// Reads a merchant's entry, for requests to this base URL of it.
    ///
    /// # Errors
    /// [`DestinationError`] names the member.
    pub(super) fn new(merchant: &Merchant, base_url: &Uri) -> Result<Self, DestinationError> {
        let base = base_url.clone().into_parts();
        let scheme = base.scheme.filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS);
        let (Some(scheme), Some(authority)) = (scheme, base.authority) else {
            return Err(DestinationError::BaseUrl);
        };
        let public = PublicUrl::read(merchant.endpoint.public_base_url.as_ref().unwrap_or(base_url))?;
        let mut credential = HeaderValue::from_str(&format!("Bearer {}", merchant.credential.expose()))
            .map_err(|_| DestinationError::Credential)?;
        credential.set_sensitive(true);
        Ok(Self {
            merchant: merchant.id.clone(),
            scheme,
            authority,
            prefix: prefix(base_url),
            public,
            credential,
            signature: merchant.signature.clone(),
            signature_life: merchant.signature_life(),
        })
    }

    /// The request as it goes out, signed.
    ///
    /// # Errors
    /// [`NotSent::NotBuilt`]: nothing was sent.
    pub(super) fn write(
        &self,
        countersigner: &Countersigner,
        outbound: Outbound,
    ) -> Result<Sendable, NotSent> {
        let Head { mut headers, target } = self.head(&outbound)?;
        match &self.signature {
            OutwardSignature::Countersign => {
                // One that is the same is not written again.
                let path = if self.public.prefix == self.prefix {
                    Cow::Borrowed(target.path())
                } else {
                    Cow::Owned([&self.public.prefix, &*outbound.path].concat())
                };
                let message = MessageView {
                    method: outbound.method.as_str(),
                    scheme: self.public.scheme.as_str(),
                    authority: &self.public.authority,
                    path: &path,
                    query: outbound.query.as_deref(),
                    headers: &headers,
                };
                let signed = countersigner.sign(&message, outbound.now, self.signature_life)?;
                headers.insert(SIGNATURE_INPUT, signed.input);
                headers.insert(SIGNATURE, signed.signature);
            }
            OutwardSignature::Acp(key) => {
                // A grant is worth nothing that no countersignature covers.
                headers.remove(names::COUNTERSIGN_GRANT);
                let timestamp = whole_seconds(outbound.now).to_rfc3339();
                headers.insert(SIGNATURE, acp_signature(key, &timestamp, outbound.body.as_bytes())?);
            }
        }
        let uri = self.uri(target)?;
        let mut request = Request::new(outbound.body.into_bytes());
        *request.method_mut() = outbound.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn uri(&self, target: PathAndQuery) -> Result<Uri, NotSent> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).map_err(|_| NotSent::NotBuilt)
    }

    fn head(&self, outbound: &Outbound) -> Result<Head, NotSent> {
        let passing = &outbound.headers;
        let mut headers = HeaderMap::with_capacity(MAX_LINES);
        let mut lines = Lines::with_capacity(1024 + outbound.grant.as_ref().map_or(0, String::len));
        let target = match &outbound.query {
            Some(query) => lines.aside(&[&self.prefix, &outbound.path, "?", query]),
            None => lines.aside(&[&self.prefix, &outbound.path]),
        };
        // The agent's.
        lines.add_text(names::API_VERSION, &passing.version)?;
        if let Some(languages) = &passing.accept_language {
            headers.insert(ACCEPT_LANGUAGE, languages.clone());
        }
        // Without a type no merchant reads a body; an agent that sent one sent JSON, or was refused.
        let declared = passing.content_type.clone();
        if let Some(content_type) =
            declared.or_else(|| (!outbound.body.as_bytes().is_empty()).then_some(JSON))
        {
            headers.insert(CONTENT_TYPE, content_type);
        }
        headers.insert(ACCEPT, passing.accept.clone().unwrap_or(JSON));
        headers.insert(USER_AGENT, user_agent(passing.user_agent.as_ref())?);
        lines.add_text(names::REQUEST_ID, &passing.request_id)?;
        if let Some(traceparent) = &passing.traceparent {
            lines.add_text(names::TRACEPARENT, traceparent)?;
        }
        // Ours.
        headers.insert(AUTHORIZATION, self.credential.clone());
        let timestamp = whole_seconds(outbound.now);
        lines.add(names::TIMESTAMP, |out| {
            timestamp.append_rfc3339(out);
            Ok::<_, NotSerializable>(())
        })?;
        lines.add(FORWARDED, |out| forwarded(passing.forwarded_for, &passing.host, out))?;
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = &outbound.idempotency_key {
            lines.add_text(names::IDEMPOTENCY_KEY, key)?;
        }
        lines.add(names::COUNTERSIGN_CONTEXT, |out| self.context(outbound, out))?;
        if let Some(grant) = &outbound.grant {
            lines.add_text(names::COUNTERSIGN_GRANT, grant)?;
        }
        lines.add(CONTENT_DIGEST, |out| {
            content_digest::append(outbound.body.as_bytes(), out);
            Ok::<_, NotSerializable>(())
        })?;
        let text = lines.put(&mut headers)?;
        let target = PathAndQuery::from_maybe_shared(text.slice(target)).map_err(|_| NotSent::NotBuilt)?;
        Ok(Head { headers, target })
    }

    fn context(&self, outbound: &Outbound, out: &mut String) -> Result<(), NotSerializable> {
        let context = &outbound.context;
        let mut dictionary = Dictionary::onto(out);
        dictionary.string("merchant", self.merchant.as_str())?;
        dictionary.string("agent", context.agent.as_str())?;
        dictionary.string("proof", context.proof.as_str())?;
        if let Some(key) = &context.key {
            dictionary.string("key", key.as_str())?;
        }
        dictionary.string("rid", &outbound.headers.request_id)?;
        if let Some(complete) = &context.complete {
            if let Some(token) = &complete.token {
                dictionary.string("token", token.as_str())?;
            }
            dictionary.string("claim", complete.claim.as_str())?;
            dictionary.integer("amount", complete.checked.amount.get())?;
            dictionary.string("currency", complete.checked.currency.as_str())?;
            dictionary.integer("attempt", complete.attempt.into())?;
            dictionary.boolean("review", complete.review);
        }
        Ok(())
    }
}

impl PublicUrl {
    fn read(url: &Uri) -> Result<Self, DestinationError> {
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(DestinationError::PublicBaseUrl);
        };
        let default_port = if *scheme == Scheme::HTTP { 80 } else { 443 };
        let host = authority.host().to_ascii_lowercase();
        let authority = match authority.port_u16().filter(|port| *port != default_port) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        Ok(Self { scheme: scheme.clone(), authority, prefix: prefix(url) })
    }
}

/// A URL's path, to be continued by one that begins with `/`.
fn prefix(url: &Uri) -> String {
    url.path().trim_end_matches('/').to_owned()
}

/// `Timestamp`: whole seconds, rounded down, because one merchant refuses any that is ahead of its
/// clock (`src/acp/README.md`, "Dialects").
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(now.unix_seconds())
}

fn user_agent(agents: Option<&HeaderValue>) -> Result<HeaderValue, NotSent> {
    match agents {
        None => Ok(HeaderValue::from_static(PRODUCT)),
        Some(agents) => {
            let extended = [agents.as_bytes(), b" ", PRODUCT.as_bytes()].concat();
            HeaderValue::from_maybe_shared(Bytes::from(extended)).map_err(|_| NotSent::NotBuilt)
        }
    }
}

/// `Forwarded` (RFC 7239 §4): the agent's address, an IPv6 one in brackets and quotes, and the
/// authority it used. Our listener speaks TLS alone.
fn forwarded(address: IpAddr, host: &str, out: &mut String) -> fmt::Result {
    if host.contains(['"', '\\']) {
        return Err(fmt::Error);
    }
    match address.to_canonical() {
        IpAddr::V4(address) => write!(out, "for={address}")?,
        IpAddr::V6(address) => write!(out, "for=\"[{address}]\"")?,
    }
    out.push_str(";host=\"");
    out.push_str(host);
    out.push_str("\";proto=https");
    Ok(())
}

/// Text that cannot be a header's value is never sent.
impl From<NotSerializable> for NotSent {
    fn from(_: NotSerializable) -> Self {
        Self::NotBuilt
    }
}
