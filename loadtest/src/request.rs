//! Requests as agents send them, signed, and written once into bytes or parts.
//!
//! Drafted, signed in one of the ways agents sign, and written once into the bytes of HTTP/1.1 or the
//! parts of HTTP/2.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use clap::ValueEnum;
use countersign::acp::canonical::canonicalize;
use countersign::acp::version::Version;
use countersign::crypto::mac::MacKey;
use countersign::crypto::random;
use countersign::crypto::sign::SigningKey;
use countersign::domain::clock::{Clock as _, SystemClock, Timestamp};
use countersign::http_signature::{Component, MessageView, Signing, content_digest};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;

use crate::population::Agent;

const API_VERSION: HeaderName = HeaderName::from_static("api-version");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The longest life the gateway accepts of a signature, in seconds.
const SIGNATURE_LIFE: std::time::Duration = std::time::Duration::from_secs(300);
/// Length of keys, nonces and ids of requests: 131 bits in base62.
const RANDOM_CHARS: usize = 22;

/// How agents sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// RFC 9421, covering all that money routes need.
    Rfc9421,
    /// The same with a nonce, for which the gateway keeps a record.
    Rfc9421Nonce,
    /// ACP's header, bound to method, path and key.
    AcpBound,
    /// ACP's header over timestamp and body.
    Acp,
    /// Not at all.
    Unsigned,
}

/// How a request proves itself.
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// By the agent's own key.
    Key(Style),
    /// By HMAC-SHA256 with a shared secret over `Timestamp . Idempotency-Key . body`.
    Shared(&'a MacKey),
    /// By a JWT of its own as bearer, signed with this key.
    Jwt(&'a SigningKey),
}

/// A request before it is signed.
#[derive(Clone)]
pub struct Draft {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its body, empty on GET.
    pub body: Bytes,
}

impl Draft {
    /// A GET.
    pub fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Bytes::new() }
    }

    /// A POST.
    pub fn post(path: String, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path, body: body.into() }
    }

    /// The request as `agent` sends it now: with an id and idempotency key of its own.
    ///
    /// # Errors
    /// When there is no randomness, or the body has no canonical form.
    pub fn sign(self, agent: &Agent, authority: &str, proof: Proof<'_>) -> Result<Request> {
        let mut headers = HeaderMap::with_capacity(12);
        let bearer = match proof {
            Proof::Jwt(key) => jwt(agent, key)?,
            Proof::Key(_) | Proof::Shared(_) => agent.credential.clone(),
        };
        headers.insert(AUTHORIZATION, text(format!("Bearer {bearer}"))?);
        headers.insert(API_VERSION, HeaderValue::from_static(Version::LATEST.as_str()));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(REQUEST_ID, text(random::base62(RANDOM_CHARS)?)?);
        if self.method != Method::GET {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(IDEMPOTENCY_KEY, text(random::base62(RANDOM_CHARS)?)?);
        }
        let mut request = Request {
            method: self.method,
            authority: authority.to_owned(),
            path: self.path,
            headers,
            body: self.body,
        };
        match proof {
            Proof::Key(style) => request.sign(agent, style)?,
            Proof::Shared(secret) => request.sign_shared(secret)?,
            Proof::Jwt(_) => {}
        }
        Ok(request)
    }
}

/// A request ready to be written. Every part is open: an attack is an edit.
#[derive(Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The authority it names.
    pub authority: String,
    /// Its path.
    pub path: String,
    /// Its headers, but for `Host` and `Content-Length`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Request {
    fn sign(&mut self, agent: &Agent, style: Style) -> Result<()> {
        let now = SystemClock.now();
        match style {
            Style::Unsigned => Ok(()),
            Style::Rfc9421 => self.sign_rfc9421(agent, now, None),
            Style::Rfc9421Nonce => self.sign_rfc9421(agent, now, Some(&random::base62(RANDOM_CHARS)?)),
            Style::AcpBound => {
                let prefix = format!("{}.{}.{}.", self.method, self.path, self.key());
                self.sign_acp(agent, now, &prefix)
            }
            Style::Acp => self.sign_acp(agent, now, ""),
        }
    }

    fn sign_rfc9421(&mut self, agent: &Agent, now: Timestamp, nonce: Option<&str>) -> Result<()> {
        let mut components = vec![Component::Method, Component::Authority, Component::Path];
        if self.method != Method::GET {
            self.headers.insert(CONTENT_DIGEST, content_digest::make(&self.body));
            components.extend([CONTENT_DIGEST, CONTENT_TYPE, IDEMPOTENCY_KEY].map(Component::Field));
        }
        let signing = Signing {
            label: "sig1",
            components: &components,
            created: now,
            expires: Some(now.plus(SIGNATURE_LIFE)),
            keyid: &agent.key_id,
            nonce,
            tag: None,
        };
        let message = MessageView {
            method: self.method.as_str(),
            scheme: "https",
            authority: &self.authority,
            path: &self.path,
            query: None,
            headers: &self.headers,
        };
        let signed = signing.sign(&message, &agent.key)?;
        self.headers.insert(SIGNATURE_INPUT, signed.input);
        self.headers.insert(SIGNATURE, signed.signature);
        Ok(())
    }

    fn sign_acp(&mut self, agent: &Agent, now: Timestamp, prefix: &str) -> Result<()> {
        let timestamp = now.to_rfc3339();
        let mut base = format!("{timestamp}.{prefix}").into_bytes();
        if !self.body.is_empty() {
            canonicalize(&self.body, &mut base).ok().context("a body without a canonical form")?;
        }
        let signature = URL_SAFE_NO_PAD.encode(agent.key.sign(&base)?);
        self.headers.insert(TIMESTAMP, text(timestamp)?);
        self.headers.insert(SIGNATURE, text(signature)?);
        Ok(())
    }

    fn sign_shared(&mut self, secret: &MacKey) -> Result<()> {
        let timestamp = SystemClock.now().to_rfc3339();
        let tag = secret.tag(&[timestamp.as_bytes(), b".", self.key().as_bytes(), b".", &self.body]);
        self.headers.insert(TIMESTAMP, text(timestamp)?);
        self.headers.insert(SIGNATURE, text(URL_SAFE_NO_PAD.encode(tag))?);
        Ok(())
    }

    fn key(&self) -> String {
        let key = self.headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
        key.unwrap_or_default().to_owned()
    }

    /// The bytes of the request in HTTP/1.1.
    pub fn written(&self) -> Bytes {
        let mut out = Vec::with_capacity(1024 + self.body.len());
        let line = format!("{} {} HTTP/1.1\r\n{HOST}: {}\r\n", self.method, self.path, self.authority);
        out.extend_from_slice(line.as_bytes());
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if self.method != Method::GET {
            out.extend_from_slice(format!("{CONTENT_LENGTH}: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        Bytes::from(out)
    }
}

/// An ES256 JWT that is good for five minutes, another each time.
fn jwt(agent: &Agent, key: &SigningKey) -> Result<String> {
    let expires = SystemClock.now().plus(SIGNATURE_LIFE).unix_seconds();
    let header = json!({ "alg": key.public().algorithm().jose_name(), "typ": "JWT", "kid": "agents" });
    let claims = json!({
        "iss": "agents", "aud": "shop", "sub": agent.id, "exp": expires, "jti": random::base62(RANDOM_CHARS)?,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

fn text(text: String) -> Result<HeaderValue> {
    Ok(HeaderValue::try_from(text)?)
}

#[cfg(test)]
mod tests {
    use countersign::http_signature::received;

    use super::*;
    use crate::population::{Keys, Population};

    #[test]
    fn a_request_is_signed_as_the_gateway_reads_it() {
        let everyone = Population::new(2, 1, Keys::Both).unwrap();
        for agent in everyone.agents.iter() {
            let draft = Draft::post("/m/a/checkout_sessions".to_owned(), r#"{"b":1,"a":2}"#);
            let signed = draft.sign(agent, "pay.test", Proof::Key(Style::Rfc9421)).unwrap();
            let read = received(&signed.headers).unwrap().remove(0);
            let message = MessageView {
                method: "POST",
                scheme: "https",
                authority: "pay.test",
                path: &signed.path,
                query: None,
                headers: &signed.headers,
            };
            assert!(agent.key.public().verifies(&read.base(&message).unwrap(), &read.signature));
            content_digest::verify(&signed.headers, &signed.body).unwrap();
        }
    }

    #[test]
    fn what_is_written_is_the_request() {
        let everyone = Population::new(1, 1, Keys::Ed25519).unwrap();
        let agent = everyone.agent(0).unwrap();
        let draft = Draft::post("/p".to_owned(), "{}");
        let request = draft.sign(agent, "pay.test", Proof::Key(Style::Acp)).unwrap();
        let written = request.written();
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Request::new(&mut fields);
        let end = parsed.parse(&written).unwrap().unwrap();
        assert_eq!((parsed.method, parsed.path), (Some("POST"), Some("/p")));
        assert_eq!(&written[end..], b"{}");
        assert_eq!(parsed.headers.len(), request.headers.len() + 2);
    }
}
