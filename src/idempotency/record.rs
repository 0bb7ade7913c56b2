//! The record of a key.

use byteview::StrView;
use serde::{Deserialize, Serialize};

use super::RETENTION;
use crate::auth::signature::VerifiedBody;
use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, TokenId};
use crate::domain::session::Moment;
use crate::records::codec::{FIRST_BYTES, OLDEST, Rolling, Stored, append_plain};
use crate::records::formats::Formats;
use crate::records::{Kind, StoreError};

/// Seconds of an hour.
pub(super) const HOUR_SECONDS: i64 = 3600;

/// What is kept of a key from its first use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// HMAC of the body's exact form.
    pub fingerprint: [u8; 32],
    /// Under which key.
    pub fingerprint_key: KeyId,
    /// The `Idempotency-Key` the merchant receives.
    pub upstream_key: StrView,
    /// The key it was derived with.
    pub derivation_key: KeyId,
    /// How far the operation is.
    pub state: KeyState,
    /// The request to re-send, for forwarded routes, until the answer is recorded. Never a body
    /// with card data in it.
    pub request: Option<Sealed>,
    /// For a mint: the id drawn before anything else happened.
    pub token: Option<TokenId>,
    /// What its agent is charged for it; none on money routes.
    pub kept: Option<Kept>,
}

/// What an agent is charged for a record that is kept off the money routes. It stands in the record, so
/// that whoever changes or ends that knows what to take off again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// In which hour (since the epoch) it ends.
    pub hour: i64,
    /// How much it is.
    pub bytes: u64,
    /// Whether the request was signed: what was not is charged apart.
    pub signed: bool,
}

/// A record was charged anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recharge {
    /// With what it was charged before.
    pub before: Option<Kept>,
    /// With what it is charged now.
    pub after: Kept,
}

/// What a record takes beside what is sealed in it, indexes and all.
const RECORD_BYTES: u64 = 512;

impl KeyRecord {
    /// Charges the record as it stands: it is kept for [`RETENTION`] from now on.
    pub fn recharge(&mut self, signed: bool, moment: Moment) -> Recharge {
        let answer = match &self.state {
            KeyState::Recorded(answer) => answer.body.bytes.len(),
            KeyState::Leased(_) | KeyState::Open => 0,
        };
        let sealed = answer + self.request.as_ref().map_or(0, |request| request.bytes.len());
        let after = Kept { hour: hour(moment.latest.plus(RETENTION)), bytes: weight(sealed), signed };
        Recharge { before: self.kept.replace(after), after }
    }
}

/// What is charged for a record in which so many bytes are sealed.
pub fn weight(sealed: usize) -> u64 {
    u64::try_from(sealed).unwrap_or(u64::MAX).saturating_add(RECORD_BYTES)
}

/// The hour since the epoch.
pub(super) fn hour(at: Timestamp) -> i64 {
    at.unix_seconds().div_euclid(HOUR_SECONDS)
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// Somebody is working on it.
    Leased(LeaseMark),
    /// It was tried and its outcome was not kept.
    Open,
    /// It has its answer.
    Recorded(StoredAnswer),
}

/// Who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseMark {
    /// Fences: a holder that lost its lease records nothing.
    pub number: u64,
    /// The incarnation of the store under which it was taken.
    pub incarnation: u64,
    /// Void from then on.
    pub until: Timestamp,
}

/// A kept answer: below 500 by construction (rfc.agentic_checkout §6.5: a 5xx is never stored).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Its media type.
    pub content_type: Option<StrView>,
    /// Its bytes, sealed.
    pub body: Sealed,
}

/// What a re-send repeats; sealed inside [`KeyRecord::request`].
#[derive(Serialize, Deserialize)]
pub struct StoredRequest {
    /// `API-Version`.
    pub version: StrView,
    /// `Accept-Language`.
    pub accept_language: Option<StrView>,
    /// `Content-Type`.
    pub content_type: Option<StrView>,
    /// The body, byte for byte.
    pub body: VerifiedBody,
}

impl Stored for KeyRecord {
    const KIND: Kind = Kind::Idempotency;
    const FORMAT: u8 = 2;

    fn room(&self) -> usize {
        let answer = match &self.state {
            KeyState::Recorded(answer) => answer.body.bytes.len(),
            KeyState::Leased(_) | KeyState::Open => 0,
        };
        FIRST_BYTES + answer + self.request.as_ref().map_or(0, |request| request.bytes.len())
    }

    /// The first knew of no charge.
    fn lacking(format: u8) -> Option<&'static [u8]> {
        const NONE: &[u8] = &[0];
        (format == 1).then_some(NONE)
    }
}

impl Rolling for KeyRecord {
    fn format_in(formats: Formats) -> u8 {
        if formats.are_joined() { Self::FORMAT } else { OLDEST }
    }

    /// Format 1 is not charged for.
    fn append_older(&self, format: u8, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let Self { fingerprint, fingerprint_key, upstream_key, derivation_key, state, request, token, kept } =
            self;
        append_plain(
            &(fingerprint, fingerprint_key, upstream_key, derivation_key, state, request, token),
            out,
        )?;
        if format == 1 { Ok(()) } else { append_plain(kept, out) }
    }
}
