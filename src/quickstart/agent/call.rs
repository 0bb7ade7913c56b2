//! A call an agent is about to make: described first, signed last.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::Value;

use super::{Agent, AgentError, Prepared, SIGNATURE_LIFE};
use crate::acp::canonical::canonicalize;
use crate::acp::header::{API_VERSION, IDEMPOTENCY_KEY, TIMESTAMP};
use crate::crypto::random;
use crate::domain::clock::Timestamp;
use crate::http_signature::{
    CONTENT_DIGEST, Component, MessageView, SIGNATURE, SIGNATURE_INPUT, Signing, content_digest,
};
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
    covering: Option<Vec<String>>,
    life: Option<Duration>,
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
            covering: None,
            life: Some(SIGNATURE_LIFE),
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

    /// With an RFC 9421 signature over these components and no others, such as `@method`.
    pub fn covering(mut self, components: &[&str]) -> Self {
        self.covering = Some(components.iter().map(|name| (*name).to_owned()).collect());
        self
    }

    /// With a signature that expires so long after it was made, or never.
    pub const fn lasting(mut self, life: Option<Duration>) -> Self {
        self.life = life;
        self
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
        let mut prepared = Prepared {
            method: self.method.clone(),
            authority: settings.authority.clone(),
            path: self.path.clone(),
            headers: self.headers()?,
            body: self.body.clone(),
            base: None,
        };
        let at = self.created.unwrap_or_else(|| settings.clock.now());
        match self.signed {
            Signed::Not => {}
            Signed::Rfc9421 => self.sign_rfc9421(&mut prepared, at)?,
            Signed::AcpBound => self.sign_acp_bound(&mut prepared, at)?,
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

    /// Adds `Content-Digest` and an RFC 9421 signature.
    fn sign_rfc9421(&self, prepared: &mut Prepared, at: Timestamp) -> Result<(), AgentError> {
        if prepared.method != Method::GET {
            prepared.headers.insert(CONTENT_DIGEST, content_digest::make(&prepared.body));
        }
        let (path, query) = match prepared.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (prepared.path.as_str(), None),
        };
        let components = match &self.covering {
            Some(names) => names.iter().map(|name| Component::parse(name)).collect::<Result<_, _>>()?,
            None => all_that_matters(&prepared.headers, query),
        };
        let nonce = self.nonce.then(|| random::base62(RANDOM_CHARS)).transpose()?;
        let signing = Signing {
            label: "sig1",
            components: &components,
            created: at,
            expires: self.life.map(|life| at.plus(life)),
            keyid: &self.agent.settings.key_id,
            nonce: nonce.as_deref(),
            tag: None,
        };
        let message = MessageView {
            method: prepared.method.as_str(),
            scheme: "https",
            authority: &prepared.authority,
            path,
            query,
            headers: &prepared.headers,
        };
        let signature = signing.sign(&message, &self.agent.settings.key)?;
        prepared.headers.insert(SIGNATURE_INPUT, signature.input);
        prepared.headers.insert(SIGNATURE, signature.signature);
        prepared.base = Some(signature.base);
        Ok(())
    }

    /// Adds `Timestamp` and ACP's `Signature` in the `acp-bound` profile.
    fn sign_acp_bound(&self, prepared: &mut Prepared, at: Timestamp) -> Result<(), AgentError> {
        let timestamp = at.to_rfc3339();
        let key = prepared.headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).unwrap_or("");
        let path = prepared.path.split('?').next().unwrap_or("");
        let mut base = format!("{timestamp}.{}.{path}.{key}.", prepared.method).into_bytes();
        if !prepared.body.is_empty() {
            canonicalize(&prepared.body, &mut base).map_err(|_| AgentError::NotCanonical)?;
        }
        let signature = URL_SAFE_NO_PAD.encode(self.agent.settings.key.sign(&base)?);
        prepared.headers.insert(TIMESTAMP, HeaderValue::try_from(timestamp).map_err(http::Error::from)?);
        prepared.headers.insert(SIGNATURE, HeaderValue::try_from(signature).map_err(http::Error::from)?);
        prepared.base = Some(base);
        Ok(())
    }
}

/// What money routes need covered, and the content type.
fn all_that_matters(headers: &HeaderMap, query: Option<&str>) -> Vec<Component> {
    let mut components = vec![Component::Method, Component::Authority, Component::Path];
    components.extend(query.map(|_| Component::Query));
    let fields = [CONTENT_DIGEST, CONTENT_TYPE, IDEMPOTENCY_KEY];
    components.extend(fields.into_iter().filter(|field| headers.contains_key(field)).map(Component::Field));
    components
}
