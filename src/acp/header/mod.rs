//! The request head as typed values. A header that means two things to two readers is an attack,
//! so those that decide who, what and how often may stand only once.

pub mod media_type;
#[cfg(test)]
mod tests;

use http::header::{ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};

use media_type::MediaType;

use super::version::Version;

/// `API-Version`.
pub const API_VERSION: HeaderName = HeaderName::from_static("api-version");
/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// `Idempotent-Replayed`: `true` on replays, absent otherwise.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// `Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// `Signature`, of ACP or of RFC 9421.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// `Signature-Input` of RFC 9421.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// `Timestamp`.
pub const TIMESTAMP: HeaderName = HeaderName::from_static("timestamp");

/// Longest `Request-Id` taken over from a caller, in bytes.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// Longest `Idempotency-Key`, in characters (rfc.agentic_checkout §6.1).
const MAX_KEY_CHARS: usize = 255;
/// Longest `Accept-Language` passed on, in bytes.
const MAX_ACCEPT_LANGUAGE_BYTES: usize = 512;

/// Why a request head cannot be used. Holds no byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A header that must be single stands more than once.
    #[error("the header {0} is repeated")]
    Repeated(&'static str),
    /// `Authorization` is not `Bearer` and a credential.
    #[error("the Authorization header is not a bearer credential")]
    MalformedAuthorization,
    /// `API-Version` names no known version.
    #[error("the API-Version is not supported")]
    UnsupportedVersion,
    /// `Idempotency-Key` is repeated, empty, too long, or has characters that are not visible.
    #[error("the Idempotency-Key is not 1 to 255 visible characters")]
    InvalidIdempotencyKey,
    /// The body is declared as something other than UTF-8 JSON.
    #[error("the media type is not application/json")]
    UnsupportedMediaType,
    /// The body is declared as encoded.
    #[error("a content encoding is not accepted")]
    UnsupportedEncoding,
}

/// What a request's head says, apart from who sends it. Its parts can also be read one by one, for
/// answering a request whose head is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Absent when the header is: 400, unless the agent's configuration fills it in.
    pub version: Option<Version>,
    /// The caller's own key; whether it is needed is the route's rule.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The caller's own id; the gateway mints one when it is absent or unusable.
    pub request_id: Option<RequestId<'a>>,
    /// What the body is declared as.
    pub content_type: ContentType,
}

/// What a body is declared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`, in UTF-8.
    Json,
    /// Nothing: fine only without a body.
    Absent,
}

impl<'a> RequestHead<'a> {
    /// Reads a request head. In this order: repeats, encoding, media type, version, key.
    ///
    /// # Errors
    /// The first [`HeaderError`] in that order.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, HeaderError> {
        refuse_repeats(headers)?;
        refuse_encoding(headers)?;
        Ok(Self {
            content_type: content_type(headers)?,
            version: api_version(headers)?,
            idempotency_key: idempotency_key(headers)?,
            request_id: request_id(headers),
        })
    }
}

/// An agent's idempotency key: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(HeaderValue);

impl IdempotencyKey {
    /// Reads a key; `None` when it is not 1 to 255 visible ASCII characters.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        is_visible(value.to_str().ok()?, MAX_KEY_CHARS).then(|| Self(value.clone()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The key as it is told again.
    pub const fn as_value(&self) -> &HeaderValue {
        &self.0
    }
}

/// A request id: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId<'a>(&'a str);

impl<'a> RequestId<'a> {
    /// Reads a request id; `None` when it is not 1 to 128 visible ASCII characters.
    pub fn parse(text: &'a str) -> Option<Self> {
        is_visible(text, MAX_REQUEST_ID_BYTES).then_some(Self(text))
    }

    /// The id as text.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

/// A bearer credential, borrowed from the head. Cannot be printed.
#[derive(Clone, Copy)]
pub struct Credential<'a>(&'a str);

impl<'a> Credential<'a> {
    /// The credential, named so that every use can be found.
    pub const fn expose(self) -> &'a str {
        self.0
    }
}

/// Refuses heads in which `Authorization`, `API-Version`, `Idempotency-Key`, `Timestamp` or
/// `Signature` stands more than once (`src/acp/README.md`, "Names and heads").
///
/// # Errors
/// [`HeaderError::Repeated`], or [`HeaderError::InvalidIdempotencyKey`] for the key.
pub fn refuse_repeats(headers: &HeaderMap) -> Result<(), HeaderError> {
    single(headers, &AUTHORIZATION, "Authorization")?;
    single(headers, &API_VERSION, "API-Version")?;
    single(headers, &IDEMPOTENCY_KEY, "Idempotency-Key").map_err(|_| HeaderError::InvalidIdempotencyKey)?;
    single(headers, &TIMESTAMP, "Timestamp")?;
    single(headers, &SIGNATURE, "Signature")?;
    Ok(())
}

/// The bearer credential of `Authorization` (RFC 6750 §2.1); `None` when the header is absent.
///
/// # Errors
/// [`HeaderError::MalformedAuthorization`] for another scheme or a malformed credential.
pub fn credential(headers: &HeaderMap) -> Result<Option<Credential<'_>>, HeaderError> {
    let Some(value) = single(headers, &AUTHORIZATION, "Authorization")? else { return Ok(None) };
    let text = value.to_str().map_err(|_| HeaderError::MalformedAuthorization)?;
    let (scheme, rest) = text.split_once(' ').ok_or(HeaderError::MalformedAuthorization)?;
    let credential = rest.trim_start_matches(' ');
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    if !is_bearer || credential.is_empty() || !credential.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(HeaderError::MalformedAuthorization);
    }
    Ok(Some(Credential(credential)))
}

/// The version of `API-Version`; `None` when the header is absent.
///
/// # Errors
/// [`HeaderError::UnsupportedVersion`] for a value that is no known version.
pub fn api_version(headers: &HeaderMap) -> Result<Option<Version>, HeaderError> {
    let Some(value) = single(headers, &API_VERSION, "API-Version")? else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| Version::parse(text.trim()));
    version.map(Some).ok_or(HeaderError::UnsupportedVersion)
}

/// The caller's `Idempotency-Key`; `None` when the header is absent.
///
/// # Errors
/// [`HeaderError::InvalidIdempotencyKey`], for a repeated header too: ACP's closed list of codes
/// has no other word for it (`src/acp/README.md`, "Idempotency").
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, HeaderError> {
    let value = single(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")
        .map_err(|_| HeaderError::InvalidIdempotencyKey)?;
    let Some(value) = value else { return Ok(None) };
    IdempotencyKey::parse(value).map(Some).ok_or(HeaderError::InvalidIdempotencyKey)
}

/// The caller's `Request-Id`, if it is usable: anything else is as good as absent, because the id
/// serves nothing but correlation.
pub fn request_id(headers: &HeaderMap) -> Option<RequestId<'_>> {
    let value = single(headers, &REQUEST_ID, "Request-Id").ok()??;
    RequestId::parse(value.to_str().ok()?)
}

/// `Accept-Language` as it goes on to the merchant: unchanged, several lines joined as RFC 9110
/// §5.3 allows; `None` when absent, absurdly long or not ASCII.
pub fn accept_language(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(ACCEPT_LANGUAGE).iter();
    if let (Some(only), None) = (values.next(), values.next()) {
        let fits = (1..=MAX_ACCEPT_LANGUAGE_BYTES).contains(&only.len()) && only.to_str().is_ok();
        return fits.then(|| only.clone());
    }
    let mut joined = String::new();
    for value in headers.get_all(ACCEPT_LANGUAGE) {
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(value.to_str().ok()?);
        if joined.len() > MAX_ACCEPT_LANGUAGE_BYTES {
            return None;
        }
    }
    if joined.is_empty() { None } else { HeaderValue::from_str(&joined).ok() }
}

/// What the body is declared as: `application/json`, in UTF-8 if it says in what. JSON has no parameters
/// of its own (RFC 8259 §11), so others say nothing.
///
/// # Errors
/// [`HeaderError::UnsupportedMediaType`] for anything else.
pub fn content_type(headers: &HeaderMap) -> Result<ContentType, HeaderError> {
    let value =
        single(headers, &CONTENT_TYPE, "Content-Type").map_err(|_| HeaderError::UnsupportedMediaType)?;
    let Some(value) = value else { return Ok(ContentType::Absent) };
    let media_type = MediaType::parse(value.as_bytes()).ok_or(HeaderError::UnsupportedMediaType)?;
    let in_utf8 = media_type.values("charset").all(|charset| charset.eq_ignore_ascii_case(b"utf-8"));
    if media_type.is("application/json") && in_utf8 {
        Ok(ContentType::Json)
    } else {
        Err(HeaderError::UnsupportedMediaType)
    }
}

/// Refuses any `Content-Encoding`: signatures and limits are over the bytes as sent.
///
/// # Errors
/// [`HeaderError::UnsupportedEncoding`].
pub fn refuse_encoding(headers: &HeaderMap) -> Result<(), HeaderError> {
    if headers.contains_key(CONTENT_ENCODING) { Err(HeaderError::UnsupportedEncoding) } else { Ok(()) }
}

/// The only value of a header.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a HeaderValue>, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(HeaderError::Repeated(shown)) } else { Ok(first) }
}

fn is_visible(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
