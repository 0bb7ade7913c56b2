//! Doubt: a complete whose answer was lost. Found out by reading the session; then it is answered, or
//! forwarded again by whoever asked, where that cannot charge twice.

use std::sync::Arc;

use http::StatusCode;

use super::claim::{Claims, HeldClaim};
use super::completion::Completion;
use super::evidence::{Evidence, Weighed};
use super::parts::Desk;
use super::refusal::{Internal, Refusal};
use super::replays::Replays;
use super::reply::Reply;
use super::session_read::SessionRead;
use super::session_reads::{Doubtful, Pace, Reader, Turn};
use super::upstreams::{Upstreams, deadline};
use super::way::Way;
use crate::crypto::random;
use crate::domain::id::ClaimId;
use crate::domain::session::{Lifecycle, Settlement};
use crate::limit::Permit;
use crate::registry::MerchantIdempotency;

/// Length of a claim's id that is drawn and not derived: 190 bits in base62.
const CLAIM_CHARS: usize = 32;

/// Finds out.
pub(super) struct Doubts {
    pub upstreams: Arc<Upstreams>,
    pub evidence: Arc<Evidence>,
    pub replays: Arc<Replays>,
    pub claims: Arc<Claims>,
    pub desk: Arc<Desk>,
}

/// A complete that was begun under its key, and of which no answer is kept.
pub(super) enum InDoubt {
    /// The claim is open.
    Open(Doubtful),
    /// The claim has charged, and is shown there first.
    Charged(Way),
}

/// What a complete in doubt comes to.
pub(super) enum Resumed {
    /// Its answer.
    Answered(Reply),
    /// It has not charged and never will: it begins anew, with the place that is held.
    Anew(Box<Completion>, Option<Permit>),
    /// The same request is to be sent again, under the claim that is open.
    Again(Box<HeldClaim>),
}

/// A session as it was read for a claim in doubt, by us or by somebody else.
struct Found {
    read: Arc<SessionRead>,
    /// The right to it, when it was ours: others wait for what comes of it.
    reader: Option<Reader>,
}

/// What a look for what became of a claim finds.
enum Look {
    /// The session, and the place that its read holds.
    Read(Found, Option<Permit>),
    /// The answer, which was kept meanwhile.
    Answered(Reply),
}

impl Found {
    /// Lets those go on who wait for it.
    fn told(self, pace: Pace) -> Arc<SessionRead> {
        if let Some(reader) = self.reader {
            reader.done(&self.read, pace);
        }
        self.read
    }
}

impl Doubts {
    /// What becomes of a retry with the key of a claim that was begun.
    pub(super) async fn resume(
        &self,
        completion: Box<Completion>,
        doubt: InDoubt,
    ) -> Result<Resumed, Refusal> {
        match doubt {
            InDoubt::Charged(way) => self.answer_of_charged(&completion, way).await.map(Resumed::Answered),
            InDoubt::Open(doubtful) => self.resume_open(completion, doubtful).await,
        }
    }

    async fn resume_open(&self, completion: Box<Completion>, doubtful: Doubtful) -> Result<Resumed, Refusal> {
        let Completion { call, merchant, session, record_set, claim, .. } = &*completion;
        let (found, place) = match self.read_in_doubt(&completion, &doubtful).await? {
            Look::Read(found, place) => (found, place),
            Look::Answered(reply) => return Ok(Resumed::Answered(reply)),
        };
        let Some(observation) = found.read.observation() else {
            let read = found.told(Pace::Kept);
            // Who shared it has nothing to add.
            if place.is_some() {
                self.evidence.of_nothing(claim, &read.exchange, &merchant.id, session).await?;
            }
            return Err(self.upstreams.still_unknown(record_set, &doubtful));
        };
        let weighed = self.evidence.of_doubt(call, merchant, session, record_set, claim, &observation).await;
        let has_charged =
            matches!(weighed, Ok(Weighed::HadCharged | Weighed::Settled(Settlement::Charged, _)));
        // What was read for somebody else, in another version or language, is no answer to this agent.
        if has_charged && found.read.speaks_to(call) {
            return self.keep_as_answer(&completion, found).await.map(Resumed::Answered);
        }
        let read = found.told(match &weighed {
            Err(_) | Ok(Weighed::Settled(Settlement::Held, _)) => Pace::Kept,
            Ok(Weighed::HadCharged | Weighed::Settled(..)) => Pace::Ended,
        });
        match weighed? {
            Weighed::HadCharged | Weighed::Settled(Settlement::Charged, _) => {
                let way = Way::From(read.shown_at.url.clone());
                self.answer_of_charged(&completion, way).await.map(Resumed::Answered)
            }
            Weighed::Settled(Settlement::Released | Settlement::Stale | Settlement::ChargedLate, _) => {
                Ok(Resumed::Anew(renewed(completion, false)?, place))
            }
            // The operator says that the merchant honours keys: the same request is charged once, once
            // it has answered the first.
            Weighed::Settled(Settlement::Held, doubtful)
                if observation.lifecycle == Lifecycle::Open
                    && merchant.idempotency == MerchantIdempotency::Keys =>
            {
                // To send it again is new work: who is stopped, or cannot be asked for any, waits for what
                // the session shows.
                // It is told what it is told where nothing is known yet, because it may have charged.
                let is_on_trial = |url| self.upstreams.availability.is_on_trial(merchant, url);
                if self.desk.suspended.refuse_stopped(completion.card_movement(None)).await.is_err()
                    || is_on_trial(&observation.shown_at.url)
                {
                    return Err(self.upstreams.still_unknown(record_set, &doubtful));
                }
                let place = self.upstreams.place_again(call, merchant, place)?;
                self.claims
                    .begin_again(completion, &observation, &doubtful, place)
                    .await
                    .map(|claim| Resumed::Again(Box::new(claim)))
            }
            Weighed::Settled(Settlement::Held, doubtful) => {
                Err(self.upstreams.still_unknown(record_set, &doubtful))
            }
        }
    }

    /// Reads the session of a claim in doubt, or shares the read of it that is under way: then no place
    /// is held meanwhile. When it is too soon to read it again, the agent is told how much.
    async fn read_in_doubt(&self, completion: &Completion, doubtful: &Doubtful) -> Result<Look, Refusal> {
        let Completion { call, merchant, session, operation, record_set, .. } = completion;
        let until = deadline(merchant);
        let unknown = || self.upstreams.still_unknown(record_set, doubtful);
        loop {
            let turn =
                self.upstreams.reads.turn(record_set.session_key(), Some(doubtful), self.desk.clock.steady());
            match turn {
                Turn::Ours(reader) => {
                    // Since this agent's records were looked at another's read may have ended the claim, and
                    // its answer been kept: before that nobody else had a turn.
                    if let Some(reply) = self.replays.answered_meanwhile(operation, record_set).await? {
                        return Ok(Look::Answered(reply));
                    }
                    let place = self.upstreams.place(call, merchant)?;
                    let read =
                        Arc::new(self.upstreams.read_for(call, merchant, &doubtful.way, session).await);
                    return Ok(Look::Read(Found { read, reader: Some(reader) }, Some(place)));
                }
                Turn::Theirs(under_way) => match under_way.result(until).await {
                    Some(read) => return Ok(Look::Read(Found { read, reader: None }, None)),
                    None if until.has_passed() => return Err(unknown()),
                    None => {}
                },
                Turn::TooSoon => return Err(unknown()),
            }
        }
    }

    /// The claim is known to have charged, its answer was lost: the session as it stands now is the
    /// answer, and is kept.
    async fn answer_of_charged(&self, completion: &Completion, way: Way) -> Result<Reply, Refusal> {
        let doubtful = Doubtful::charged(&completion.claim, way);
        let (found, _place) = match self.read_in_doubt(completion, &doubtful).await? {
            Look::Read(found, place) => (found, place),
            Look::Answered(reply) => return Ok(reply),
        };
        match found.read.observation() {
            Some(shown)
                if shown.lifecycle == Lifecycle::Completed && found.read.speaks_to(&completion.call) =>
            {
                self.keep_as_answer(completion, found).await
            }
            _ => {
                found.told(Pace::Kept);
                Err(self.upstreams.still_unknown(&completion.record_set, &doubtful))
            }
        }
    }

    /// The session as it was read is the answer. Who waits for the read is told once that is kept.
    async fn keep_as_answer(&self, completion: &Completion, found: Found) -> Result<Reply, Refusal> {
        let kept = self.keep_read(completion, &found.read).await;
        found.told(if kept.is_ok() { Pace::Ended } else { Pace::Kept });
        kept
    }

    async fn keep_read(&self, completion: &Completion, read: &SessionRead) -> Result<Reply, Refusal> {
        let Completion { merchant, session, operation, record_set, .. } = completion;
        let mut reply = Reply::relayed(&read.exchange)?.decided("charged");
        reply.status = StatusCode::OK;
        let kept = reply.seal(operation)?;
        let order = read.observation().and_then(|shown| shown.order);
        self.evidence.of_answer(record_set, merchant, session, order, kept.as_ref()).await?;
        Ok(reply)
    }
}

/// The same complete under a key whose earlier claim was given up. A merchant that ignores keys may still
/// wake up to the earlier request: under an id of its own the new claim's card is not for it. So may one
/// that honours them, `is_left` behind where it knows the id.
pub(super) fn renewed(mut completion: Box<Completion>, is_left: bool) -> Result<Box<Completion>, Refusal> {
    if is_left || completion.merchant.idempotency == MerchantIdempotency::None {
        let drawn = random::base62(CLAIM_CHARS)?;
        completion.claim = ClaimId::parse(&drawn).ok_or(Refusal::Internal(Internal::IdUnusable))?;
        completion.call.trail.claim(&completion.claim);
    }
    Ok(completion)
}
