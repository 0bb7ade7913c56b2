//! What operators have stopped, as this process knows it, and who asks before money moves.
//!
//! Known from a list in the store that is read twice a second. Whoever has not read it for five seconds
//! reads it before anything new begins, and begins nothing where that fails: so a replica that is cut off
//! from the list stops by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::refusal::Refusal;
use crate::crypto::digest::Sha256;
use crate::domain::clock::Clock;
use crate::domain::id::{AgentId, KeyId, MerchantId};
use crate::records::replicas::Membership;
use crate::records::suspensions::{self, Subject, Suspensions};
use crate::records::{RecordStore, StoreError};
use crate::telemetry::metrics::Metrics;

/// Between two reads.
const EVERY: Duration = Duration::from_millis(500);
/// How long a read by somebody else is waited for.
const WAITED_FOR: Duration = Duration::from_secs(1);
/// How old what is known may be.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// What is stopped.
pub(crate) struct Suspended {
    store: Arc<dyn RecordStore>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Says to the others which list is known here.
    membership: Arc<Membership>,
    known: ArcSwap<Known>,
    /// Held by whoever reads, with when the last try began and what came of it: many who find that what is
    /// known is old read once, also where that fails.
    reading: tokio::sync::Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

#[derive(Clone, Default)]
struct Known {
    read_at: Option<Instant>,
    all: bool,
    agents: HashSet<AgentId>,
    merchants: HashSet<MerchantId>,
    keys: HashSet<(AgentId, KeyId)>,
    credentials: HashSet<Sha256>,
    cards: HashSet<Sha256>,
}

/// Who and what is about to move money, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Movement<'a> {
    pub agent: Option<&'a AgentId>,
    pub merchant: Option<&'a MerchantId>,
    /// That signed it.
    pub key: Option<&'a KeyId>,
    pub credential: Option<&'a Sha256>,
    pub card: Option<&'a Sha256>,
    /// It moves nothing, and ends something: only who asks may be stopped. A thief must not end what others
    /// have begun, and what is stopped may be ended.
    pub ends: bool,
}

/// What of it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    All,
    Agent,
    Merchant,
    Key,
    Credential,
    Card,
}

impl Stopped {
    /// The code agents get, without a reason.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::All => "payments_suspended",
            Self::Agent => "agent_suspended",
            Self::Merchant => "merchant_suspended",
            Self::Key => "key_suspended",
            Self::Credential => "credential_suspended",
            Self::Card => "card_suspended",
        }
    }
}

impl Suspended {
    /// What this store's list says; nothing is known before the first read.
    pub(crate) fn new(
        store: Arc<dyn RecordStore>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        membership: Arc<Membership>,
    ) -> Self {
        let reading = tokio::sync::Mutex::default();
        Self { store, clock, metrics, membership, known: ArcSwap::default(), reading }
    }

    /// Reads the list twice a second, for ever.
    pub(crate) async fn follow(&self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A store that does not answer now is asked again; meanwhile what is known gets old.
            let _ = self.read_list().await;
        }
    }

    /// Reads the list.
    ///
    /// # Errors
    /// [`StoreError`]; what was known is as old as it was.
    pub(crate) async fn read_list(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let Ok(mut last) = tokio::time::timeout(WAITED_FOR, self.reading.lock()).await else {
            return Err(StoreError::Unavailable);
        };
        // Somebody else has tried since.
        if let Some((begun, outcome)) = *last
            && begun > asked
        {
            return outcome;
        }
        let begun = Instant::now();
        let read = suspensions::known(&*self.store).await;
        let outcome = read.map(|list| {
            self.metrics.suspensions_read(list.standing.len(), self.clock.now());
            self.known.store(Arc::new(Known::of(&list, begun)));
            self.membership.say(suspensions::FACT, vec![list.number.to_string()]);
        });
        *last = Some((begun, outcome));
        outcome
    }

    /// Reads the list where what is known is old; what comes of it [`Self::refuse_unless_known`] tells.
    pub(super) async fn make_known(&self) {
        if !self.is_known() {
            let _ = self.read_list().await;
        }
    }

    /// Whether the list is known well enough to begin anything.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load().is_fresh()
    }

    /// Before something new begins.
    ///
    /// # Errors
    /// It is stopped, or nobody knows.
    pub(super) async fn refuse_stopped(&self, movement: Movement<'_>) -> Result<(), Refusal> {
        self.make_known().await;
        self.refuse_unless_known(movement)
    }

    /// The same where nothing can be waited for.
    ///
    /// # Errors
    /// It is stopped, or nobody knows; what only ends something is judged by what was known last.
    pub(super) fn refuse_unless_known(&self, movement: Movement<'_>) -> Result<(), Refusal> {
        if movement.ends || self.is_known() {
            self.refuse_known(movement)
        } else {
            Err(Refusal::SuspensionsUnknown)
        }
    }

    /// The same by what is known, however old: behind [`Self::refuse_stopped`].
    ///
    /// # Errors
    /// It is stopped.
    pub(super) fn refuse_known(&self, movement: Movement<'_>) -> Result<(), Refusal> {
        self.known.load().stopped(movement).map_or(Ok(()), |stopped| Err(Refusal::Suspended(stopped)))
    }
}

impl Known {
    fn of(list: &Suspensions, read_at: Instant) -> Self {
        let mut known = Self { read_at: Some(read_at), ..Self::default() };
        for standing in &list.standing {
            match standing.subject.clone() {
                Subject::All => known.all = true,
                Subject::Agent { id } => drop(known.agents.insert(id)),
                Subject::Merchant { id } => drop(known.merchants.insert(id)),
                Subject::Key { agent, id } => drop(known.keys.insert((agent, id))),
                Subject::Credential { digest } => drop(known.credentials.insert(digest)),
                Subject::Card { fingerprint, .. } => drop(known.cards.insert(fingerprint)),
            }
        }
        known
    }

    fn is_fresh(&self) -> bool {
        self.read_at.is_some_and(|at| at.elapsed() < GOOD_FOR)
    }

    fn stopped(&self, movement: Movement<'_>) -> Option<Stopped> {
        let Movement { agent, merchant, key, credential, card, ends } = movement;
        let signer = agent.zip(key);
        if self.all && !ends {
            Some(Stopped::All)
        } else if agent.is_some_and(|agent| self.agents.contains(agent)) {
            Some(Stopped::Agent)
        } else if !ends && merchant.is_some_and(|merchant| self.merchants.contains(merchant)) {
            Some(Stopped::Merchant)
        } else if !self.keys.is_empty()
            && signer.is_some_and(|(agent, key)| self.keys.contains(&(agent.clone(), key.clone())))
        {
            Some(Stopped::Key)
        } else if credential.is_some_and(|credential| self.credentials.contains(credential)) {
            Some(Stopped::Credential)
        } else if card.is_some_and(|card| self.cards.contains(card)) {
            Some(Stopped::Card)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};
    use crate::records::formats::{Formats, Written};
    use crate::records::memory::MemoryStore;
    use crate::records::suspensions::Act;

    impl Suspended {
        /// As if what is known had been read so much earlier.
        fn grow_old(&self, by: Duration) {
            let mut known = Known::clone(&self.known.load());
            known.read_at = known.read_at.map(|at| at - by);
            self.known.store(Arc::new(known));
        }
    }

    fn suspended() -> (Arc<MemoryStore>, Suspended) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1)));
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let metrics = Arc::new(Metrics::new().unwrap());
        let membership = Membership::new(store.clone(), 1, Written::new(Formats::NEWEST));
        (Arc::clone(&store), Suspended::new(store, clock, metrics, Arc::new(membership)))
    }

    #[tokio::test]
    async fn what_is_known_is_good_for_five_seconds_and_then_read_before_anything_begins() {
        let (store, suspended) = suspended();
        assert!(!suspended.is_known());
        let agent = AgentId::parse("a").unwrap();
        let movement = Movement { agent: Some(&agent), ..Movement::default() };
        assert!(suspended.refuse_stopped(movement).await.is_ok() && suspended.is_known());
        let act = Act {
            subject: Subject::Agent { id: agent.clone() },
            resumed: false,
            why: "x".to_owned(),
            by: "ada".to_owned(),
            at: Timestamp::from_unix_seconds(1),
        };
        suspensions::act(&*store, act).await.unwrap();
        suspended.grow_old(GOOD_FOR / 2);
        assert!(suspended.refuse_stopped(movement).await.is_ok(), "known since less than five seconds");
        suspended.grow_old(GOOD_FOR / 2);
        let refused = suspended.refuse_stopped(movement).await;
        assert!(matches!(refused, Err(Refusal::Suspended(Stopped::Agent))), "{refused:?}");
        // Cut off from the list, nothing begins for anybody, once what is known is old.
        store.fail(Some(StoreError::Unavailable));
        let other = AgentId::parse("b").unwrap();
        let movement = Movement { agent: Some(&other), ..Movement::default() };
        assert!(suspended.refuse_stopped(movement).await.is_ok());
        suspended.grow_old(GOOD_FOR);
        let refused = suspended.refuse_stopped(movement).await;
        assert!(matches!(refused, Err(Refusal::SuspensionsUnknown)), "{refused:?}");
    }
}
