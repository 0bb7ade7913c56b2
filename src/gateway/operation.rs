//! One use of an idempotency key: its scope, its body's fingerprint and the key it becomes upstream.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use crate::acp::canonical;
use crate::acp::problem::Problem;
use crate::crypto::aead::{Sealed, SealingKey};
use crate::crypto::keyset::Ring;
use crate::crypto::rings::KeyRings;
use crate::domain::id::{AgentId, KeyId, MerchantId};
use crate::idempotency::{KeyRecord, KeyState, LeaseMark, Scope, ScopeParts, StoredAnswer, StoredRequest};
use crate::records::codec;

/// The body of a request that has none: for idempotency, absent is `{}`.
const EMPTY_OBJECT: &[u8] = b"{}";

/// One use of a key.
pub(super) struct Operation {
    rings: Arc<KeyRings>,
    /// Names the key's record.
    pub scope: Scope,
    record_name: Vec<u8>,
    /// What the fingerprint is made of; holds card data on a mint, so it is wiped.
    exact: Zeroizing<Vec<u8>>,
    upstream_key: String,
}

impl Operation {
    /// Reads the body's exact form and derives what the key stands for. Every body is one JSON
    /// object, or empty.
    pub fn new(
        rings: &Arc<KeyRings>,
        agent: &AgentId,
        merchant: Option<&MerchantId>,
        method: &http::Method,
        path: &str,
        key: &str,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let parts = ScopeParts { agent, merchant, method: method.as_str(), path, key };
        // At most twice as long as the body: never moved, so that no copy of it is left behind.
        let mut exact = Zeroizing::new(Vec::with_capacity(2 * body.len() + 2));
        let body = if body.trim_ascii().is_empty() { EMPTY_OBJECT } else { body };
        canonical::exact_form(body, &mut exact)
            .map_err(|error| Refusal::Malformed(Box::new(invalid_json(error))))?;
        if !exact.starts_with(b"{") {
            return Err(Refusal::Malformed(Box::new(no_object())));
        }
        let scope = parts.scope();
        Ok(Self {
            rings: Arc::clone(rings),
            scope,
            record_name: scope.record_key(None).name().as_bytes().to_vec(),
            exact,
            upstream_key: parts.upstream_key(rings.derivation.current().1),
        })
    }

    /// The key the merchant receives: the stored one if there is one.
    pub fn upstream_key(&self, record: Option<&KeyRecord>) -> String {
        record.map_or(&self.upstream_key, |record| &record.upstream_key).clone()
    }

    /// Whether a record was made for this body.
    pub fn same_body(&self, record: &KeyRecord) -> bool {
        self.rings
            .fingerprint
            .find(&record.fingerprint_key)
            .is_some_and(|key| key.verifies(&self.exact, &record.fingerprint))
    }

    /// A digest of the body under the current fingerprint key, for replay records.
    pub fn body_digest(&self) -> [u8; 32] {
        self.rings.fingerprint.current().1.tag(&[&self.exact])
    }

    /// The record of a first use.
    pub fn new_record(&self, lease: LeaseMark, request: Option<Sealed>) -> KeyRecord {
        let (fingerprint_key, key) = self.rings.fingerprint.current();
        KeyRecord {
            fingerprint: key.tag(&[&self.exact]),
            fingerprint_key: fingerprint_key.clone(),
            upstream_key: self.upstream_key.clone(),
            derivation_key: self.derivation_key().clone(),
            state: KeyState::Leased(lease),
            request,
            token: None,
            kept: None,
        }
    }

    fn derivation_key(&self) -> &KeyId {
        self.rings.derivation.current().0
    }

    fn sealing(&self) -> &Ring<SealingKey> {
        &self.rings.sealing
    }

    fn associated(&self, what: &str) -> Vec<u8> {
        [what.as_bytes(), b"/", &self.record_name].concat()
    }

    /// Seals the request, to be re-sent from the record.
    pub fn seal_request(&self, request: &StoredRequest) -> Result<Sealed, Refusal> {
        let bytes = Zeroizing::new(codec::encode_plain(request)?);
        self.sealing()
            .seal(&self.associated("request"), &bytes)
            .map_err(|error| Refusal::Internal(Internal::NotSealed(error)))
    }

    /// Opens the request of the first use, where one is kept.
    pub fn open_request(&self, sealed: Option<&Sealed>) -> Result<Option<StoredRequest>, Refusal> {
        let Some(sealed) = sealed else { return Ok(None) };
        let opened = self
            .sealing()
            .open(&self.associated("request"), sealed)
            .map_err(|error| Refusal::Internal(Internal::RequestUnopened(error)))?;
        Ok(Some(codec::decode_plain(opened.expose())?))
    }

    /// Seals an answer to be kept. `None` for a 5xx, which is never kept (rfc.agentic_checkout §6.5).
    pub fn seal_answer(&self, reply: &Reply) -> Result<Option<StoredAnswer>, Refusal> {
        if reply.status.is_server_error() {
            return Ok(None);
        }
        let body = self
            .sealing()
            .seal(&self.associated("answer"), &reply.body)
            .map_err(|error| Refusal::Internal(Internal::NotSealed(error)))?;
        Ok(Some(StoredAnswer { status: reply.status.as_u16(), content_type: reply.content_type(), body }))
    }

    /// Opens a kept answer: the same status and bytes, marked as a replay.
    pub fn open_answer(&self, answer: &StoredAnswer) -> Result<Reply, Refusal> {
        let body = self
            .sealing()
            .open(&self.associated("answer"), &answer.body)
            .map_err(|error| Refusal::Internal(Internal::AnswerUnopened(error)))?;
        let status = http::StatusCode::from_u16(answer.status)
            .map_err(|_| Refusal::Internal(Internal::AnswerUnusable))?;
        let media_type = answer
            .content_type
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or(http::HeaderValue::from_static("application/json"));
        Ok(Reply::bytes(status, media_type, Bytes::copy_from_slice(body.expose()), "replayed").replayed())
    }
}

/// The ACP error for a body that is no JSON we can act on.
pub(super) fn invalid_json(error: canonical::JsonError) -> Problem {
    let message = format!("The request body is not acceptable JSON: {error}.");
    Problem::invalid_request(http::StatusCode::BAD_REQUEST, "invalid_json", message).with_param("$")
}

fn no_object() -> Problem {
    let message = "The body must be one JSON object.";
    Problem::invalid_request(http::StatusCode::BAD_REQUEST, "invalid_body", message).with_param("$")
}
