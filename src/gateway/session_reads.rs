//! Who may read a session now.
//!
//! One read of it is under way at a time, shared by whoever asks, and the session of a claim in doubt is
//! read at a pace that no number of repeats quickens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::session_read::{SPACING, SessionRead};
use super::way::Way;
use crate::domain::clock::{Deadline, Timestamp};
use crate::domain::id::ClaimId;
use crate::domain::session::{Lifecycle, Milestones, Moment, OrderMark, Session};
use crate::ledger::lease::awaited;
use crate::records::RecordKey;
use crate::registry::{Merchant, MerchantIdempotency};

/// What the time between two reads for one claim grows to: doubled by each that tells nothing new.
const MOST_SPACING: Duration = Duration::from_secs(30);
/// How long after its last read a session's pace is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How far ahead of the clock a read may have been: beyond, the clock has jumped.
const AHEAD: Duration = Duration::from_secs(5);
/// Sessions remembered before those that need not be are looked for.
const FEW: usize = 1024;

/// The reads of sessions that are under way or were made of late. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct SessionReads(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    sessions: HashMap<RecordKey, Entry>,
    /// Reads begun so far.
    begun: u64,
    /// How many sessions are remembered before the next look for those that need not be.
    room: usize,
}

#[derive(Default)]
struct Entry {
    under_way: Option<UnderWay>,
    schedule: Option<ReadSchedule>,
}

/// A claim whose outcome is asked of its session.
#[derive(Clone, Debug)]
pub(super) struct Doubtful {
    pub claim: ClaimId,
    /// Its last attempt: after another sending everything may be different.
    pub attempt: u32,
    pub milestones: Milestones,
    /// When somebody last showed to be at work on it.
    pub seen_at: Option<Timestamp>,
    /// Where its session is read.
    pub way: Way,
}

impl Doubtful {
    /// The open claim, as its session stands.
    pub(super) fn of(session: &Session, claim: &ClaimId, merchant: &Merchant, moment: Moment) -> Self {
        let open = session.claim.as_ref().filter(|open| open.id == *claim);
        let mut milestones = session.milestones(awaited(merchant), merchant.doubt_grace, moment);
        if merchant.idempotency == MerchantIdempotency::None {
            milestones.silent_from = None;
        }
        let attempt = open.map_or(0, |open| open.last_attempt);
        let way = Way::of(session);
        Self { claim: claim.clone(), attempt, milestones, seen_at: session.signs.seen_at, way }
    }

    /// A claim of which only the answer is missing, and where it was.
    pub(super) fn charged(claim: &ClaimId, way: Way) -> Self {
        let milestones = Milestones::default();
        Self { claim: claim.clone(), attempt: 0, milestones, seen_at: None, way }
    }
}

/// How often the session of a claim is read.
struct ReadSchedule {
    claim: ClaimId,
    attempt: u32,
    asked_at: Timestamp,
    spacing: Duration,
    /// What was shown last: the same again is nothing new.
    shown: Option<(Lifecycle, Option<OrderMark>)>,
}

/// A read by somebody else.
#[derive(Clone)]
pub(super) struct UnderWay {
    number: u64,
    for_total: bool,
    told: watch::Receiver<Option<Arc<SessionRead>>>,
}

/// Whether the caller may read a session now.
pub(super) enum Turn {
    /// It may, and others wait for what it finds.
    Ours(Reader),
    /// Somebody else is at it.
    Theirs(UnderWay),
    /// It was read for the same claim too shortly ago.
    TooSoon,
}

/// The right to read a session, until it is dropped.
pub(super) struct Reader {
    reads: SessionReads,
    session: RecordKey,
    number: u64,
    claim: Option<(ClaimId, u32)>,
    told: watch::Sender<Option<Arc<SessionRead>>>,
}

/// Whether a claim is read again at a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Kept,
    Ended,
}

impl SessionReads {
    /// Reads begun so far: one that [`UnderWay::is_after`] this was asked later.
    pub(super) fn begun(&self) -> u64 {
        self.0.lock().begun
    }

    /// The caller's turn to read a session, for a claim in doubt or for something else.
    pub(super) fn turn(&self, session: &RecordKey, doubtful: Option<&Doubtful>, now: Timestamp) -> Turn {
        let known = &mut *self.0.lock();
        known.forget_what_is_over(now);
        let entry = known.sessions.get(session);
        if let Some(under_way) = entry.and_then(|entry| entry.under_way.clone()) {
            return Turn::Theirs(under_way);
        }
        let schedule = entry.and_then(|entry| entry.schedule.as_ref());
        if let Some(next) =
            schedule.zip(doubtful).and_then(|(schedule, doubtful)| schedule.next(doubtful, now))
            && now < next
        {
            return Turn::TooSoon;
        }
        known.begun = known.begun.saturating_add(1);
        let (told, receiver) = watch::channel(None);
        let under_way = UnderWay { number: known.begun, for_total: doubtful.is_none(), told: receiver };
        known.sessions.entry(session.clone()).or_default().under_way = Some(under_way);
        Turn::Ours(Reader {
            reads: self.clone(),
            session: session.clone(),
            number: known.begun,
            claim: doubtful.map(|doubtful| (doubtful.claim.clone(), doubtful.attempt)),
            told,
        })
    }

    /// When the session may be read next for a claim in doubt.
    pub(super) fn next(&self, session: &RecordKey, doubtful: &Doubtful, now: Timestamp) -> Timestamp {
        let known = self.0.lock();
        let schedule = known.sessions.get(session).and_then(|entry| entry.schedule.as_ref());
        schedule.and_then(|schedule| schedule.next(doubtful, now)).map_or(now, |next| next.max(now))
    }

    /// The session's claim has ended: what comes next has a pace of its own.
    pub(super) fn forget_pace(&self, session: &RecordKey) {
        let known = &mut *self.0.lock();
        if let Some(entry) = known.sessions.get_mut(session) {
            entry.schedule = None;
            if entry.under_way.is_none() {
                known.sessions.remove(session);
            }
        }
    }
}

impl Known {
    fn forget_what_is_over(&mut self, now: Timestamp) {
        if self.sessions.len() < self.room.max(FEW) {
            return;
        }
        self.sessions.retain(|_, entry| {
            entry.under_way.is_some()
                || entry.schedule.as_ref().is_some_and(|schedule| schedule.is_remembered(now))
        });
        self.room = self.sessions.len().saturating_mul(2);
    }
}

impl ReadSchedule {
    /// What follows from one more read.
    fn after(before: Option<Self>, claim: ClaimId, attempt: u32, read: &SessionRead) -> Self {
        let shown = read.observation().map(|shown| (shown.lifecycle, shown.order));
        let is_news = shown.is_some() && before.as_ref().is_none_or(|schedule| schedule.shown != shown);
        let spacing = match &before {
            Some(schedule) if !is_news => schedule.spacing.saturating_mul(2).min(MOST_SPACING),
            Some(_) | None => SPACING,
        };
        let shown = shown.or_else(|| before.and_then(|schedule| schedule.shown));
        Self { claim, attempt, asked_at: read.asked_at, spacing, shown }
    }

    fn is_remembered(&self, now: Timestamp) -> bool {
        now.since(self.asked_at) < REMEMBERED && self.asked_at <= now.plus(AHEAD)
    }

    /// When a claim's session may be read next; `None` when nothing is known of it. Where it is known
    /// from when something can be decided, not long after then.
    fn next(&self, doubtful: &Doubtful, now: Timestamp) -> Option<Timestamp> {
        if self.claim != doubtful.claim || !self.is_remembered(now) {
            return None;
        }
        let is_as_it_was = self.attempt == doubtful.attempt && doubtful.seen_at <= Some(self.asked_at);
        let spacing = if is_as_it_was { self.spacing } else { SPACING };
        let Milestones { silent_from, grace_over } = doubtful.milestones;
        let ahead = [silent_from, grace_over].into_iter().flatten().filter(|at| self.asked_at < *at).min();
        let paced = self.asked_at.plus(spacing);
        Some(ahead.map_or(paced, |ahead| paced.min(ahead)).max(self.asked_at.plus(SPACING)))
    }
}

impl UnderWay {
    /// Whether it was begun when so many others had been.
    pub(super) const fn is_after(&self, begun: u64) -> bool {
        self.number > begun
    }

    /// Whether it is made for no claim in doubt, but to learn the total.
    pub(super) const fn is_for_total(&self) -> bool {
        self.for_total
    }

    /// What it finds; `None` when it is given up, or not over by `until`.
    pub(super) async fn result(mut self, until: Deadline) -> Option<Arc<SessionRead>> {
        let told = self.told.wait_for(Option::is_some);
        tokio::time::timeout_at(until.instant().into(), told).await.ok()?.ok()?.clone()
    }
}

impl Reader {
    /// Tells what was found to those who wait for it, once what it proves is recorded: whoever looks at
    /// the records from then on finds it there. A claim that has ended has no pace any more.
    pub(super) fn done(self, read: &Arc<SessionRead>, pace: Pace) {
        if let Some((claim, attempt)) = self.claim.clone() {
            let known = &mut *self.reads.0.lock();
            let entry = known.sessions.entry(self.session.clone()).or_default();
            let before = entry
                .schedule
                .take()
                .filter(|schedule| schedule.claim == claim && schedule.attempt == attempt);
            entry.schedule = match pace {
                Pace::Kept => Some(ReadSchedule::after(before, claim, attempt, read)),
                Pace::Ended => None,
            };
        }
        // Before the session may be read again, so that nobody who comes now reads it again.
        self.told.send_replace(Some(Arc::clone(read)));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let known = &mut *self.reads.0.lock();
        let Some(entry) = known.sessions.get_mut(&self.session) else { return };
        if entry.under_way.as_ref().is_some_and(|under_way| under_way.number == self.number) {
            entry.under_way = None;
        }
        if entry.under_way.is_none() && entry.schedule.is_none() {
            known.sessions.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merchant::{Exchange, Lost};
    use crate::records::Kind;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_000_000 + millis)
    }

    fn session(name: &str) -> RecordKey {
        RecordKey::new(Kind::Session, "tag", name)
    }

    fn doubtful(claim: &str, grace_over: Option<i64>) -> Doubtful {
        let milestones = Milestones { silent_from: None, grace_over: grace_over.map(at) };
        Doubtful {
            claim: ClaimId::parse(claim).unwrap(),
            attempt: 1,
            milestones,
            seen_at: None,
            way: Way::Any,
        }
    }

    fn lost(asked: i64) -> Arc<SessionRead> {
        Arc::new(SessionRead::lost(Exchange::Lost(Lost::Timeout), at(asked)))
    }

    fn reader(reads: &SessionReads, doubtful: &Doubtful, now: i64) -> Reader {
        match reads.turn(&session("cs_1"), Some(doubtful), at(now)) {
            Turn::Ours(reader) => reader,
            Turn::Theirs(_) => panic!("somebody else is at it"),
            Turn::TooSoon => panic!("too soon"),
        }
    }

    fn is_too_soon(reads: &SessionReads, doubtful: &Doubtful, now: i64) -> bool {
        matches!(reads.turn(&session("cs_1"), Some(doubtful), at(now)), Turn::TooSoon)
    }

    #[test]
    fn a_claim_in_doubt_is_read_every_two_seconds_at_most_then_ever_more_rarely() {
        let (reads, doubt) = (SessionReads::default(), doubtful("c1", None));
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..7 {
            reader(&reads, &doubt, now).done(&lost(now), Pace::Kept);
            let next = reads.next(&session("cs_1"), &doubt, at(now));
            let wait = i64::try_from(next.since(at(now)).as_millis()).unwrap();
            assert!(is_too_soon(&reads, &doubt, now + wait - 1));
            waits.push(wait / 1000);
            now += wait;
        }
        assert_eq!(waits, [2, 4, 8, 16, 30, 30, 30]);
        // Another claim and another session have a pace of their own.
        drop(reader(&reads, &doubtful("c2", None), now));
        assert!(matches!(reads.turn(&session("cs_2"), Some(&doubt), at(now)), Turn::Ours(_)));
    }

    #[test]
    fn what_is_known_to_decide_is_not_waited_past_and_another_sending_or_a_sign_is_looked_at_soon() {
        let (reads, mut doubt) = (SessionReads::default(), doubtful("c1", Some(10_000)));
        for now in [0, 2_000, 6_000] {
            reader(&reads, &doubt, now).done(&lost(now), Pace::Kept);
        }
        assert_eq!(reads.next(&session("cs_1"), &doubt, at(6_000)), at(10_000), "not at 14 s");
        reader(&reads, &doubt, 10_000).done(&lost(10_000), Pace::Kept);
        assert_eq!(reads.next(&session("cs_1"), &doubt, at(10_000)), at(26_000));
        doubt.seen_at = Some(at(10_001));
        assert_eq!(reads.next(&session("cs_1"), &doubt, at(10_001)), at(12_000), "a sign of work");
        (doubt.attempt, doubt.seen_at) = (2, None);
        assert_eq!(reads.next(&session("cs_1"), &doubt, at(10_000)), at(12_000));
        doubt.milestones.grace_over = Some(at(10_001));
        assert_eq!(reads.next(&session("cs_1"), &doubt, at(10_000)), at(12_000), "two seconds at least");
    }

    #[test]
    fn a_pace_ends_with_its_claim_and_with_a_clock_that_was_set_back() {
        let (reads, doubt) = (SessionReads::default(), doubtful("c1", None));
        reader(&reads, &doubt, 0).done(&lost(0), Pace::Kept);
        assert!(is_too_soon(&reads, &doubt, 0));
        drop(reader(&reads, &doubt, -3_600_000));
        reads.forget_pace(&session("cs_1"));
        drop(reader(&reads, &doubt, 0));
        assert!(reads.0.lock().sessions.is_empty());
    }

    #[tokio::test]
    async fn who_asks_meanwhile_gets_what_is_found_and_reads_it_if_nothing_is() {
        let (reads, doubt) = (SessionReads::default(), doubtful("c1", None));
        let until = Deadline::after(Duration::from_secs(60));
        let theirs = |doubtful| match reads.turn(&session("cs_1"), doubtful, at(0)) {
            Turn::Theirs(under_way) => under_way,
            Turn::Ours(_) | Turn::TooSoon => panic!("nobody else is at it"),
        };
        let begun = reads.begun();
        let given_up = reader(&reads, &doubt, 0);
        let (one, other) = (theirs(Some(&doubt)), theirs(None));
        assert!(one.is_after(begun) && !one.is_after(reads.begun()) && !one.is_for_total());
        drop(given_up);
        assert!(one.result(until).await.is_none() && other.result(until).await.is_none());
        // Nothing was read: it is not too soon.
        let ours = reader(&reads, &doubt, 0);
        let under_way = theirs(None);
        let found = lost(0);
        ours.done(&found, Pace::Ended);
        assert!(Arc::ptr_eq(&under_way.result(until).await.unwrap(), &found), "with its own instant");
        let waiting = reader(&reads, &doubt, 2_000);
        assert!(theirs(None).result(Deadline::after(Duration::ZERO)).await.is_none(), "in time only");
        drop(waiting);
    }

    #[test]
    fn what_need_not_be_remembered_is_forgotten() {
        let reads = SessionReads::default();
        for number in 0..FEW * 4 {
            let (now, doubt) = (i64::try_from(number).unwrap() * 1_000, doubtful("c1", None));
            let name = format!("cs_{number}");
            let Turn::Ours(reader) = reads.turn(&session(&name), Some(&doubt), at(now)) else { panic!() };
            reader.done(&lost(now), Pace::Kept);
        }
        assert!(reads.0.lock().sessions.len() <= FEW + 1);
    }
}
