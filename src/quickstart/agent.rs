//! A sample agent: signs every request and sends it to the gateway. For tests it is also a raw one:
//! each part of a call can be set, and what was [prepared](Prepared) can be changed before it goes.

mod call;
mod prepared;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use serde_json::Value;

use super::client::{Client, ClientError, Http};
use crate::acp::version::Version;
use crate::crypto::random::RandomUnavailable;
use crate::crypto::sign::SigningKey;
use crate::domain::clock::Clock;
use crate::domain::secret::SecretString;
use crate::http_signature::HttpSignatureError;

pub use call::{Call, Signed};
pub use prepared::Prepared;
pub(crate) use prepared::quoted;

/// How long after `created` a signature expires: the longest the gateway accepts.
pub const SIGNATURE_LIFE: Duration = Duration::from_secs(300);

/// Who an agent is and where it calls.
#[derive(Clone)]
pub struct AgentSettings {
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// The gateway's authority: host, and port where it is not 443.
    pub authority: String,
    /// TLS that trusts the gateway.
    pub tls: ClientConfig,
    /// Which HTTP is spoken.
    pub http: Http,
    /// The bearer credential.
    pub credential: Arc<SecretString>,
    /// The key that signs.
    pub key: Arc<SigningKey>,
    /// What the gateway knows the key as.
    pub key_id: String,
    /// `API-Version`.
    pub version: Version,
    /// What signatures are dated by.
    pub clock: Arc<dyn Clock>,
}

/// An agent.
#[derive(Clone)]
pub struct Agent {
    settings: AgentSettings,
    client: Client,
}

/// A call was not made, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It cannot be signed.
    #[error("the request cannot be signed: {0}")]
    NotSigned(#[from] HttpSignatureError),
    /// The body cannot be signed: `acp-bound` needs JSON.
    #[error("the body has no canonical form")]
    NotCanonical,
    /// A method, path or header that cannot be sent.
    #[error("the request cannot be written: {0}")]
    NotWritten(#[from] http::Error),
    /// No randomness for a key or nonce.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// No whole answer.
    #[error(transparent)]
    NotAnswered(#[from] ClientError),
}

impl Agent {
    /// An agent; it connects when it first calls.
    pub fn new(settings: AgentSettings) -> Self {
        let client = Client::new(settings.address, settings.tls.clone(), settings.http);
        Self { settings, client }
    }

    /// What it was made with.
    pub const fn settings(&self) -> &AgentSettings {
        &self.settings
    }

    /// A call to be described further. `path` begins with `/` and may have a query.
    pub fn call(&self, method: Method, path: impl Into<String>) -> Call<'_> {
        Call::new(self, method, path.into())
    }

    /// A GET.
    pub fn get(&self, path: impl Into<String>) -> Call<'_> {
        self.call(Method::GET, path)
    }

    /// A POST with a JSON body and an idempotency key of its own.
    pub fn post(&self, path: impl Into<String>, body: &Value) -> Call<'_> {
        self.call(Method::POST, path).json(body)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::crypto::sign::Algorithm;
    use crate::domain::clock::{ManualClock, Timestamp};
    use crate::http_signature::{CONTENT_DIGEST, MessageView, SIGNATURE, content_digest, received};

    fn agent() -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix_seconds(1_790_000_000);
        let certificates =
            super::super::certificates::Certificates::ensure(directory.path(), &[], now).unwrap();
        Agent::new(AgentSettings {
            address: ([127, 0, 0, 1], 1).into(),
            authority: "pay.test".to_owned(),
            tls: certificates.client().unwrap(),
            http: Http::Two,
            credential: Arc::new(SecretString::new("c".to_owned())),
            key: Arc::new(SigningKey::generate(Algorithm::Ed25519).unwrap().0),
            key_id: "k1".to_owned(),
            version: Version::LATEST,
            clock: Arc::new(ManualClock::new(now)),
        })
    }

    fn view(prepared: &Prepared) -> MessageView<'_> {
        MessageView {
            method: prepared.method.as_str(),
            scheme: "https",
            authority: &prepared.authority,
            path: prepared.path.split('?').next().unwrap(),
            query: prepared.path.split_once('?').map(|(_, query)| query),
            headers: &prepared.headers,
        }
    }

    #[test]
    fn a_signed_call_verifies_and_covers_what_money_routes_need() {
        let agent = agent();
        let prepared = agent.post("/m/a/b?x=1", &json!({"a": 1})).prepare().unwrap();
        let read = received(&prepared.headers).unwrap().remove(0);
        let base = read.base(&view(&prepared)).unwrap();
        assert!(agent.settings.key.public().verifies(&base, &read.signature));
        content_digest::verify(&prepared.headers, &prepared.body).unwrap();
        let covered: Vec<_> = read.components.iter().map(|component| component.name()).collect();
        let expected =
            ["@method", "@authority", "@path", "@query", "content-digest", "content-type", "idempotency-key"];
        assert_eq!(covered, expected);
        assert_eq!(read.parameters.expires.unwrap() - read.parameters.created.unwrap(), 300);
        assert!(read.parameters.nonce.is_some());
    }

    #[test]
    fn acp_bound_signs_what_is_published() {
        let agent = agent();
        let call = agent.post("/p", &json!({"b": 1, "a": 2})).key("k-1").signed(Signed::AcpBound);
        let prepared = call.prepare().unwrap();
        let at = prepared.headers["timestamp"].to_str().unwrap();
        assert_eq!(
            prepared.base.as_deref(),
            Some(format!("{at}.POST./p.k-1.{{\"a\":2,\"b\":1}}").as_bytes())
        );
        assert!(!prepared.headers.contains_key(CONTENT_DIGEST));
    }

    #[test]
    fn a_call_can_be_told_to_lie() {
        let agent = agent();
        let call = agent.post("/p", &json!({})).without("api-version").header("x-a", "1").header("x-a", "2");
        let mut prepared = call.unsigned().prepare().unwrap();
        assert!(!prepared.headers.contains_key(SIGNATURE));
        assert!(!prepared.headers.contains_key("api-version"));
        assert_eq!(prepared.headers.get_all("x-a").iter().count(), 2);
        prepared.body = "other".into();
        prepared.headers.insert("authorization", HeaderValue::from_static("Bearer other"));
        let request = prepared.request().unwrap();
        assert_eq!(request.uri(), "https://pay.test/p");
        assert_eq!(request.headers()["authorization"], "Bearer other");
    }

    #[test]
    fn a_prepared_call_is_a_command_to_paste() {
        let mut prepared = agent().get("/a").unsigned().prepare().unwrap();
        prepared.headers.clear();
        prepared.headers.insert("x-quote", HeaderValue::from_static("it's"));
        prepared.body = r#"{"a":"b'c"}"#.into();
        let expected = "curl --cacert ca.pem -X GET 'https://pay.test/a' \\\n  -H 'x-quote: it'\\''s' \\\n  --data-binary '{\"a\":\"b'\\''c\"}'";
        assert_eq!(prepared.curl(std::path::Path::new("ca.pem")), expected);
    }
}
