//! Requests as users have them: as arguments, or as the text that went over the wire.

use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::error::CommandError;
use crate::acp::authority::Authority;
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::auth::signature::SignedRequest;
use crate::http_signature::MessageView;

/// Largest file read: well above any request the gateway takes.
const MAX_FILE_BYTES: u64 = 16 << 20;

const UNREADABLE_URL: CommandError = CommandError::Request("the URL cannot be read");

/// A request, whole.
pub(super) struct GivenRequest {
    pub(super) method: String,
    scheme: &'static str,
    pub(super) authority: Authority,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl GivenRequest {
    /// A request to a URL of the gateway.
    pub(super) fn to(method: &str, url: &str, body: Option<&Path>) -> Result<Self, CommandError> {
        let uri: Uri = url.parse().map_err(|_| UNREADABLE_URL)?;
        if uri.scheme_str() != Some("https") {
            return Err(CommandError::Request(
                "the URL must start with https://, as agents reach the gateway",
            ));
        }
        let body = body.map(read_file).transpose()?.unwrap_or_default().into();
        Self::assemble(method, &uri, HeaderMap::new(), body)
    }

    /// The same request at the URL its sender meant. What stands in a socket is another where a proxy
    /// or no TLS is in between.
    pub(super) fn meant_for(mut self, url: &str) -> Result<Self, CommandError> {
        let uri: Uri = url.parse().map_err(|_| UNREADABLE_URL)?;
        let (scheme, default_port) = match uri.scheme_str() {
            Some("https") => ("https", 443),
            Some("http") => ("http", 80),
            _ => return Err(CommandError::Request("the URL must start with https:// or http://")),
        };
        let authority = uri.authority().and_then(|text| Authority::parse_for(text.as_str(), default_port));
        self.scheme = scheme;
        self.authority = authority.ok_or(UNREADABLE_URL)?;
        self.path = uri.path().to_owned();
        self.query = uri.query().map(str::to_owned);
        Ok(self)
    }

    /// A request as it went over the wire in HTTP/1.1: request line, headers, empty line, body. A
    /// body longer than `Content-Length` is cut there, because editors add a line end.
    pub(super) fn from_wire(text: &[u8]) -> Result<Self, CommandError> {
        let mut rest = text;
        let line = take_line(&mut rest).unwrap_or_default();
        let mut words = line.split(' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (method, target, version) else {
            return Err(CommandError::Request("expected a request line such as: POST /path HTTP/1.1"));
        };
        let mut headers = HeaderMap::new();
        loop {
            let line = take_line(&mut rest).ok_or(CommandError::Request("a header line is not UTF-8"))?;
            if line.is_empty() {
                break;
            }
            add_header(&mut headers, line)?;
        }
        let uri: Uri = target.parse().map_err(|_| CommandError::Request("the target cannot be read"))?;
        let declared = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = declared.and_then(|text| text.parse().ok()).unwrap_or(rest.len());
        let body = Bytes::copy_from_slice(rest.get(..length).unwrap_or(rest));
        Self::assemble(method, &uri, headers, body)
    }

    fn assemble(method: &str, uri: &Uri, headers: HeaderMap, body: Bytes) -> Result<Self, CommandError> {
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(CommandError::Request("the method must be upper-case letters"));
        }
        let authority = Authority::of_request(uri, &headers)
            .map_err(|_| CommandError::Request("the request must name one valid authority"))?;
        Ok(Self {
            method: method.to_owned(),
            scheme: "https",
            authority,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            headers,
            body,
        })
    }

    pub(super) fn signed(&self, money_route: bool) -> SignedRequest<'_> {
        SignedRequest {
            message: MessageView {
                method: &self.method,
                scheme: self.scheme,
                authority: self.authority.as_str(),
                path: &self.path,
                query: self.query.as_deref(),
                headers: &self.headers,
            },
            body: &self.body,
            idempotency_key: self.headers.get(IDEMPOTENCY_KEY).and_then(|value| value.to_str().ok()),
            money_route,
        }
    }
}

/// Adds a header written as `Name: value`.
pub(super) fn add_header(headers: &mut HeaderMap, line: &str) -> Result<(), CommandError> {
    const EXPECTED: CommandError = CommandError::Request("expected a header such as: Name: value");
    let (name, value) = line.split_once(':').ok_or(EXPECTED)?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| EXPECTED)?;
    let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_| EXPECTED)?;
    headers.append(name, value);
    Ok(())
}

/// The next line without its end, which may be `\r\n` or `\n`; the end of the text ends a line too.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = rest.iter().position(|b| *b == b'\n');
    let (line, after) = match length {
        Some(length) => (rest.get(..length)?, rest.get(length + 1..)?),
        None => (*rest, <&[u8]>::default()),
    };
    *rest = after;
    std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).ok()
}

/// Reads a file within bounds.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    let failed = |source| CommandError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(failed(io::Error::other("larger than 16 MiB")));
    }
    Ok(bytes)
}
