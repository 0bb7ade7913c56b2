//! One use of an idempotency key: its scope, its body's fingerprint and the key it becomes upstream.

use std::sync::Arc;

use bytes::Bytes;
use byteview::StrView;
use smallvec::SmallVec;

use super::record::{KeyRecord, KeyState, LeaseMark, StoredAnswer, StoredRequest};
use super::scope::{Scope, ScopeParts};
use super::{Peek, peek};
use crate::acp::canonical;
use crate::crypto::aead::{SealError, Sealed, SealingKey};
use crate::crypto::keyset::Ring;
use crate::crypto::rings::KeyRings;
use crate::domain::id::{AgentId, KeyId, MerchantId};
use crate::domain::session::Moment;
use crate::domain::wiping::WipedBytes;
use crate::records::{StoreError, codec};

/// The body of a request that has none: for idempotency, absent is `{}`.
const EMPTY_OBJECT: &[u8] = b"{}";
/// Room for what is stored of a request beside its body: a version, a media type, most lists of languages.
const STORED_HEAD_BYTES: usize = 1024;

/// Why a body is no operation's: every body is one JSON object, or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It has no canonical form.
    #[error(transparent)]
    Json(#[from] canonical::JsonError),
    /// It is JSON, and no object.
    #[error("the body is no JSON object")]
    NotAnObject,
}

/// Why something is not kept against a key, or not read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It cannot be sealed.
    #[error("it cannot be sealed: {0}")]
    Unsealed(SealError),
    /// A kept request does not open.
    #[error("the kept request does not open: {0}")]
    RequestUnopened(SealError),
    /// A kept answer does not open.
    #[error("the kept answer does not open: {0}")]
    AnswerUnopened(SealError),
    /// A kept answer has no status of HTTP.
    #[error("the kept answer has no status of HTTP")]
    AnswerUnusable,
    /// What was sealed is not what was kept.
    #[error(transparent)]
    Damaged(#[from] StoreError),
}

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Its operation is under way, or ended a moment ago: the next try finds the answer.
    #[error("the operation of this idempotency key is under way")]
    InFlight,
    /// It was used for another body.
    #[error("this idempotency key was used for another request")]
    Conflict,
}

/// A key that is taken.
pub struct Taken<'r> {
    /// Its record, under the lease.
    pub record: &'r mut KeyRecord,
    /// Whether it was never used before.
    pub is_first_use: bool,
    /// The request that an earlier use kept.
    pub earlier_request: Option<Sealed>,
}

/// An answer that was kept against a key. Cannot be printed: no body is ever logged.
pub struct KeptAnswer {
    /// Its status.
    pub status: http::StatusCode,
    /// Its media type.
    pub content_type: Option<StrView>,
    /// Its body, byte for byte.
    pub body: Bytes,
}

/// One use of a key.
pub struct Operation {
    rings: Arc<KeyRings>,
    /// Names the key's record.
    pub scope: Scope,
    /// What the fingerprint is made of; holds card data on a mint, so it is wiped.
    exact: WipedBytes,
    upstream_key: StrView,
}

impl Operation {
    /// Reads the body's exact form and derives what the key stands for.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn new(
        rings: &Arc<KeyRings>,
        agent: &AgentId,
        merchant: Option<&MerchantId>,
        method: &http::Method,
        path: &str,
        key: &str,
        body: &[u8],
    ) -> Result<Self, BodyError> {
        let parts = ScopeParts { agent, merchant, method: method.as_str(), path, key };
        // At most twice as long as the body: never moved, so that no copy of it is left behind.
        let mut exact = WipedBytes::with_capacity(2 * body.len() + 2);
        let body = if body.trim_ascii().is_empty() { EMPTY_OBJECT } else { body };
        canonical::exact_form(body, &mut exact)?;
        if !exact.starts_with(b"{") {
            return Err(BodyError::NotAnObject);
        }
        let scope = parts.scope();
        Ok(Self {
            rings: Arc::clone(rings),
            scope,
            exact,
            upstream_key: parts.upstream_key(rings.derivation.current().1),
        })
    }

    /// The key the merchant receives: the stored one if there is one.
    pub fn upstream_key<'a>(&'a self, record: Option<&'a KeyRecord>) -> &'a StrView {
        record.map_or(&self.upstream_key, |record| &record.upstream_key)
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
    pub fn new_record(&self, lease: LeaseMark) -> KeyRecord {
        let (fingerprint_key, key) = self.rings.fingerprint.current();
        KeyRecord {
            fingerprint: key.tag(&[&self.exact]),
            fingerprint_key: fingerprint_key.clone(),
            upstream_key: self.upstream_key.clone(),
            derivation_key: self.derivation_key().clone(),
            state: KeyState::Leased(lease),
            request: None,
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

    fn associated(&self, what: &str) -> SmallVec<[u8; 64]> {
        let mut text = SmallVec::from_slice(what.as_bytes());
        text.push(b'/');
        text.extend_from_slice(self.scope.name().as_bytes());
        text
    }

    /// Inside a transaction: whether the key is free to work on.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    pub fn refuse_unless_free(&self, record: Option<&KeyRecord>, moment: Moment) -> Result<(), KeyRefusal> {
        match peek(record, |record| self.same_body(record), moment) {
            Peek::Fresh | Peek::Resume => Ok(()),
            Peek::InFlight | Peek::Replay(_) => Err(KeyRefusal::InFlight),
            Peek::Conflict => Err(KeyRefusal::Conflict),
        }
    }

    /// Inside a transaction: takes the key under `lease`, keeping `request` where none is kept.
    ///
    /// # Errors
    /// [`KeyRefusal`]; nothing has changed then.
    pub fn take<'r>(
        &self,
        record: &'r mut Option<KeyRecord>,
        lease: LeaseMark,
        request: Option<&Sealed>,
        moment: Moment,
    ) -> Result<Taken<'r>, KeyRefusal> {
        self.refuse_unless_free(record.as_ref(), moment)?;
        let is_first_use = record.is_none();
        let record = record.get_or_insert_with(|| self.new_record(lease));
        record.state = KeyState::Leased(lease);
        let earlier_request = record.request.clone();
        if record.request.is_none() {
            record.request = request.cloned();
        }
        Ok(Taken { record, is_first_use, earlier_request })
    }

    /// Seals the request, to be re-sent from the record.
    ///
    /// # Errors
    /// [`NotKept`].
    pub fn seal_request(&self, request: &StoredRequest) -> Result<Sealed, NotKept> {
        // Once large enough, so that no copy of a body is left behind.
        let mut bytes = WipedBytes::with_capacity(request.body.as_bytes().len() + STORED_HEAD_BYTES);
        codec::append_plain(request, &mut bytes)?;
        self.sealing().seal(&self.associated("request"), &bytes).map_err(NotKept::Unsealed)
    }

    /// Opens the request of the first use, where one is kept.
    ///
    /// # Errors
    /// [`NotKept`].
    pub fn open_request(&self, sealed: Option<&Sealed>) -> Result<Option<StoredRequest>, NotKept> {
        let Some(sealed) = sealed else { return Ok(None) };
        let opened =
            self.sealing().open(&self.associated("request"), sealed).map_err(NotKept::RequestUnopened)?;
        Ok(Some(codec::decode_plain(opened.expose())?))
    }

    /// Seals an answer to be kept. `None` for a 5xx, which is never kept (rfc.agentic_checkout §6.5).
    ///
    /// # Errors
    /// [`NotKept`].
    pub fn seal_answer(
        &self,
        status: http::StatusCode,
        content_type: Option<StrView>,
        body: &[u8],
    ) -> Result<Option<StoredAnswer>, NotKept> {
        if status.is_server_error() {
            return Ok(None);
        }
        let body = self.sealing().seal(&self.associated("answer"), body).map_err(NotKept::Unsealed)?;
        Ok(Some(StoredAnswer { status: status.as_u16(), content_type, body }))
    }

    /// Opens a kept answer: the same status and bytes.
    ///
    /// # Errors
    /// [`NotKept`].
    pub fn open_answer(&self, answer: &StoredAnswer) -> Result<KeptAnswer, NotKept> {
        let body =
            self.sealing().open(&self.associated("answer"), &answer.body).map_err(NotKept::AnswerUnopened)?;
        Ok(KeptAnswer {
            status: http::StatusCode::from_u16(answer.status).map_err(|_| NotKept::AnswerUnusable)?,
            content_type: answer.content_type.clone(),
            body: Bytes::copy_from_slice(body.expose()),
        })
    }
}

/// The record, if `lease` still holds it.
pub fn held(record: &mut Option<KeyRecord>, lease: LeaseMark) -> Option<&mut KeyRecord> {
    record.as_mut().filter(|record| matches!(record.state, KeyState::Leased(mark) if mark == lease))
}
