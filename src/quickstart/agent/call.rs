//! A call an agent is about to make: described first, signed last.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::Value;

use super::{Agent, AgentError, Prepared, SIGNATURE_LIFE};
use crate::acp::canonical::canonicalize;
use crate::acp::header::{API_VERSION, IDEMPOTENCY_KEY, TIMESTAMP};
use crate::auth::http_signature::{
    CONTENT_DIGEST, Component, MessageView, SIGNATURE, SIGNATURE_INPUT, Signing, content_digest,
};
use crate::crypto::random;
use crate::domain::clock::Timestamp;
use crate::quickstart::client::Answer;

/// Length of the keys and nonces an agent makes: 131 bits in base62.
const RANDOM_CHARS: usize = 22;

/// How a call is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// RFC 9421, covering all that money routes need.
    Rfc9421,
    /// ACP's header over `Timestamp . METHOD . path . Idempotency-Key . JCS(body)`.
    AcpBound,
    /// Not at all.
    Not,
}

/// Which idempotency key a call has.
enum Key {
    /// A new one on every method but GET.
    Fresh,
    Given(String),
    Absent,
}

/// A call under construction.
#[must_use = "a call does nothing until it is sent"]
pub struct Call<'a> {
    agent: &'a Agent,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    without: Vec<String>,
    body: Bytes,
    key: Key,
    signed: Signed,
    nonce: bool,
    created: Option<Timestamp>,
}

impl<'a> Call<'a> {
    pub(super) fn new(agent: &'a Agent, method: Method, path: String) -> Self {
        Self {
            agent,
            method,
            path,
            headers: Vec::new(),
            without: Vec::new(),
            body: Bytes::new(),
            key: Key::Fresh,
            signed: Signed::Rfc9421,
            nonce: true,
            created: None,
        }
    }

    /// With this JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    /// With these bytes as body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With this `Idempotency-Key`.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Key::Given(key.into());
        self
    }

    /// Without an `Idempotency-Key`.
    pub fn without_key(mut self) -> Self {
        self.key = Key::Absent;
        self
    }

    /// Adds a header line before signing, beside any of the same name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Leaves out a header the agent would send.
    pub fn without(mut self, name: impl Into<String>) -> Self {
        self.without.push(name.into());
        self
    }

    /// Signed this way.
    pub const fn signed(mut self, signed: Signed) -> Self {
        self.signed = signed;
        self
    }

    /// Not signed.
    pub const fn unsigned(self) -> Self {
        self.signed(Signed::Not)
    }

    /// Signed without a nonce.
    pub const fn without_nonce(mut self) -> Self {
        self.nonce = false;
        self
    }

    /// Signed as if it were made at this time.
    pub const fn created(mut self, at: Timestamp) -> Self {
        self.created = Some(at);
        self
    }

    /// Signs it, and stops short of sending.
    ///
    /// # Errors
    /// [`AgentError`], but for [`AgentError::NotAnswered`].
    pub fn prepare(self) -> Result<Prepared, AgentError> {
        let settings = &self.agent.settings;
        let headers = self.headers()?;
        let mut prepared = Prepared {
            method: self.method,
            authority: settings.authority.clone(),
            path: self.path,
            headers,
            body: self.body,
            base: None,
        };
        let at = self.created.unwrap_or_else(|| settings.clock.now());
        match self.signed {
            Signed::Not => {}
            Signed::Rfc9421 => prepared.sign_rfc9421(self.agent, at, self.nonce)?,
            Signed::AcpBound => prepared.sign_acp_bound(self.agent, at)?,
        }
        Ok(prepared)
    }

    /// Signs and sends it.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn send(self) -> Result<Answer, AgentError> {
        let agent = self.agent;
        agent.send(&self.prepare()?).await
    }

    fn headers(&self) -> Result<HeaderMap, AgentError> {
        let settings = &self.agent.settings;
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", settings.credential.expose());
        let mut bearer = HeaderValue::try_from(bearer).map_err(http::Error::from)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(API_VERSION, HeaderValue::from_static(settings.version.as_str()));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let key = match &self.key {
            Key::Fresh if self.method != Method::GET => Some(random::base62(RANDOM_CHARS)?),
            Key::Given(key) => Some(key.clone()),
            Key::Fresh | Key::Absent => None,
        };
        if let Some(key) = key {
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(key).map_err(http::Error::from)?);
        }
        for name in &self.without {
            headers.remove(name.as_str());
        }
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(http::Error::from)?;
            headers.append(name, HeaderValue::try_from(value.as_str()).map_err(http::Error::from)?);
        }
        Ok(headers)
    }
}

impl Prepared {
    /// Adds `Content-Digest` and an RFC 9421 signature over all that money routes need.
    fn sign_rfc9421(&mut self, agent: &Agent, at: Timestamp, nonce: bool) -> Result<(), AgentError> {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path.as_str(), None),
        };
        let mut components = vec![Component::Method, Component::Authority, Component::Path];
        components.extend(query.map(|_| Component::Query));
        if self.method != Method::GET {
            self.headers.insert(CONTENT_DIGEST, content_digest::make(&self.body));
        }
        let fields = [CONTENT_DIGEST, CONTENT_TYPE, IDEMPOTENCY_KEY];
        let present = fields.into_iter().filter(|field| self.headers.contains_key(field));
        components.extend(present.map(Component::Field));
        let nonce = nonce.then(|| random::base62(RANDOM_CHARS)).transpose()?;
        let signing = Signing {
            label: "sig1",
            components: &components,
            created: at,
            expires: Some(at.plus(SIGNATURE_LIFE)),
            keyid: &agent.settings.key_id,
            nonce: nonce.as_deref(),
            tag: None,
        };
        let message = MessageView {
            method: self.method.as_str(),
            scheme: "https",
            authority: &self.authority,
            path,
            query,
            headers: &self.headers,
        };
        let signature = signing.sign(&message, &agent.settings.key)?;
        self.headers.insert(SIGNATURE_INPUT, signature.input);
        self.headers.insert(SIGNATURE, signature.signature);
        self.base = Some(signature.base);
        Ok(())
    }

    /// Adds `Timestamp` and ACP's `Signature` in the `acp-bound` profile.
    fn sign_acp_bound(&mut self, agent: &Agent, at: Timestamp) -> Result<(), AgentError> {
        let timestamp = at.to_rfc3339();
        let key = self.headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).unwrap_or("");
        let path = self.path.split('?').next().unwrap_or("");
        let mut base = format!("{timestamp}.{}.{path}.{key}.", self.method).into_bytes();
        if !self.body.is_empty() {
            canonicalize(&self.body, &mut base).map_err(|_| AgentError::NotCanonical)?;
        }
        let signature = URL_SAFE_NO_PAD.encode(agent.settings.key.sign(&base)?);
        self.headers.insert(TIMESTAMP, HeaderValue::try_from(timestamp).map_err(http::Error::from)?);
        self.headers.insert(SIGNATURE, HeaderValue::try_from(signature).map_err(http::Error::from)?);
        self.base = Some(base);
        Ok(())
    }
}
