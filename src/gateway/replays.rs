//! What was there before: a key's answer, and the request a signature was used for.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::call::Call;
use super::parts::{Books, Desk};
use super::refusal::Refusal;
use super::reply::Reply;
use crate::auth::replay::{self, Replay, ReplayCheck, Use};
use crate::auth::signature::Proof;
use crate::idempotency::{KeyRecord, Operation, Peek, StoredAnswer, peek};
use crate::ledger::RecordSet;
use crate::records::Purpose;
use crate::records::codec::Loaded;
use crate::registry::Merchant;

/// Looks for what was there before.
pub(super) struct Replays {
    pub books: Arc<Books>,
    pub desk: Arc<Desk>,
}

impl Replays {
    /// The answer to a key that already has one, or why it has none yet; `None` when the operation
    /// is to be done. An answer is given again only once it is as safe as one given first.
    pub(super) async fn kept_answer(
        &self,
        operation: &Operation,
        snapshot: Option<&Loaded<KeyRecord>>,
        conflict: StatusCode,
    ) -> Result<Option<Reply>, Refusal> {
        let metrics = self.desk.observer.metrics();
        let Some(snapshot) = snapshot else {
            metrics.idempotency("fresh");
            return Ok(None);
        };
        let same_body = |record: &KeyRecord| operation.same_body(record);
        match peek(snapshot.value.as_ref(), same_body, self.books.ledger.moment()) {
            Peek::Fresh => metrics.idempotency("fresh"),
            Peek::Resume => metrics.idempotency("resumed"),
            Peek::InFlight => {
                metrics.idempotency("in_flight");
                return Err(Refusal::KeyInFlight);
            }
            Peek::Conflict => {
                metrics.idempotency("conflict");
                return Err(Refusal::KeyConflict { status: conflict });
            }
            Peek::Replay(answer) => {
                metrics.idempotency("replayed");
                let reply = opened(operation, answer)?;
                self.books.ledger.acknowledge(snapshot).await?;
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// The answer to a key that was worked on when it was last looked at, if it has one by now.
    pub(super) async fn answered_meanwhile(
        &self,
        operation: &Operation,
        record_set: &RecordSet,
    ) -> Result<Option<Reply>, Refusal> {
        let snapshot = self.books.ledger.load(record_set).await?;
        let Some(key) = snapshot.key_record() else { return Ok(None) };
        let same_body = |record: &KeyRecord| operation.same_body(record);
        match peek(key.value.as_ref(), same_body, self.books.ledger.moment()) {
            Peek::Replay(_) => self.kept_answer(operation, Some(key), StatusCode::UNPROCESSABLE_ENTITY).await,
            Peek::Fresh | Peek::Resume | Peek::InFlight | Peek::Conflict => Ok(None),
        }
    }

    /// Records the call's signature where that is needed; the same signature for another request is
    /// a replay.
    pub(super) async fn refuse_replayed_signature(
        &self,
        call: &Call,
        operation: &Operation,
        merchant: Option<&Merchant>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        self.refuse_replay(call, merchant, || operation.body_digest().to_vec(), purpose).await
    }

    /// As [`Self::refuse_replayed_signature`], for a request without a body, which begins nothing.
    pub(super) async fn refuse_replayed_read(
        &self,
        call: &Call,
        merchant: Option<&Merchant>,
    ) -> Result<(), Refusal> {
        self.refuse_replay(call, merchant, Vec::new, Purpose::Finish).await
    }

    async fn refuse_replay(
        &self,
        call: &Call,
        merchant: Option<&Merchant>,
        body: impl FnOnce() -> Vec<u8>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let (Proof::Signed { replay: Some(check), .. } | Proof::BearerOnly { replay: Some(check) }) =
            call.verified.proof()
        else {
            return Ok(());
        };
        let body = body();
        let method = call.route.method();
        let used = Use {
            method: method.as_str(),
            merchant: merchant.map_or("", |merchant| merchant.id.as_str()),
            path: &call.path,
            idempotency_key: call.key.as_ref().map_or("", |key| key.as_str()),
            body: &body,
        };
        self.record_use(check, &used, purpose).await
    }

    /// As [`Self::refuse_replayed_signature`], for any signature.
    pub(super) async fn record_use(
        &self,
        check: &ReplayCheck,
        used: &Use<'_>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let store = &**self.books.ledger.store();
        replay::check_and_record(store, check, &used.digest(), purpose).await.map_err(|error| match error {
            Replay::Replayed => Refusal::Replayed,
            Replay::Store(error) => Refusal::Store(error),
        })
    }
}

/// A kept answer as it is given again.
fn opened(operation: &Operation, answer: &StoredAnswer) -> Result<Reply, Refusal> {
    let kept = operation.open_answer(answer)?;
    let media_type = kept.content_type.and_then(|text| text.parse().ok());
    let media_type = media_type.unwrap_or(HeaderValue::from_static("application/json"));
    Ok(Reply::bytes(kept.status, media_type, kept.body, "replayed").replayed())
}
