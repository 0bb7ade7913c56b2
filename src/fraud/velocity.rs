//! Counters in the store: sliding-window sets behind compare-and-set.
//!
//! A busy agent's counter is one record that every mint of it changes. So that they do not race each
//! other round after round, changes that arrive while one is being written wait and are then
//! written together: the time of a change does not grow with their number. Other processes on the
//! same store are met by compare-and-set.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::CardFingerprint;
use super::window::{Added, Member, WindowSet};
use crate::crypto::digest::{Sha256, hexadecimal, sha256_framed};
use crate::domain::clock::Timestamp;
use crate::domain::id::AgentId;
use crate::records::codec::{Loaded, Times};
use crate::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};

/// How often a change is tried again because another process was first.
const MAX_ROUNDS: usize = 32;
/// Counters with the same stripe take turns. Enough that few busy agents share one.
const STRIPES: u8 = 64;

/// What is counted.
pub(super) enum Counter<'a> {
    /// Distinct cards an agent mints with.
    CardsOfAgent(&'a AgentId),
    /// Distinct agents that mint with a card.
    AgentsOfCard(&'a CardFingerprint),
    /// Declines of a card through an agent.
    Declines(&'a AgentId, &'a CardFingerprint),
    /// Small completes of an agent.
    SmallAmounts(&'a AgentId),
}

/// A counter's record and how long it looks back.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Window {
    key: RecordKey,
    stripe: usize,
    length: Duration,
}

impl Counter<'_> {
    /// This counter over a window. Its record is named by a digest: neither an agent nor a card can
    /// be read from it.
    pub(super) fn over(&self, length: Duration) -> Window {
        let (name, digest): (_, Sha256) = match self {
            Self::CardsOfAgent(agent) => ("cards-of-agent", named("cards-of-agent", agent.as_str(), &[])),
            Self::AgentsOfCard(card) => ("agents-of-card", named("agents-of-card", "", card.as_bytes())),
            Self::Declines(agent, card) => ("declines", named("declines", agent.as_str(), card.as_bytes())),
            Self::SmallAmounts(agent) => ("small-amounts", named("small-amounts", agent.as_str(), &[])),
        };
        let [first, ..] = digest;
        let key = RecordKey::new(Kind::Velocity, &hexadecimal(&digest), name);
        Window { key, stripe: usize::from(first % STRIPES), length }
    }
}

/// Whether this is the content of a counter.
pub(crate) fn is_readable(bytes: &[u8]) -> bool {
    crate::records::codec::decode::<WindowSet>(bytes).is_ok()
}

fn named(name: &str, agent: &str, card: &[u8]) -> Sha256 {
    sha256_framed(&[name.as_bytes(), agent.as_bytes(), card])
}

/// The counters of one store. Shared by every request, across configurations.
pub(crate) struct Velocity {
    store: Arc<dyn RecordStore>,
    stripes: Vec<Stripe>,
}

#[derive(Default)]
struct Stripe {
    waiting: Mutex<Vec<Waiting>>,
    turn: Turn<()>,
}

/// A change nobody has taken yet.
struct Waiting {
    window: Window,
    change: Change,
    now: Timestamp,
    answer: oneshot::Sender<Result<Option<Added>, StoreError>>,
}

#[derive(Clone, Copy)]
enum Change {
    Add(Member),
    HandBack(Member, Added),
}

impl Velocity {
    /// The counters in this store.
    pub(crate) fn new(store: Arc<dyn RecordStore>) -> Self {
        Self { store, stripes: (0..STRIPES).map(|_| Stripe::default()).collect() }
    }

    /// How many members a counter has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn count(&self, window: &Window, now: Timestamp) -> Result<u32, StoreError> {
        let mut set = self.load(&window.key).await?.value.unwrap_or_default();
        Ok(set.count(now, window.length))
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`StoreError`]; the member may have been added all the same.
    pub(super) async fn add(
        &self,
        window: &Window,
        member: Member,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        self.change(window, Change::Add(member), now).await?.ok_or(StoreError::Unavailable)
    }

    /// Takes back one [`Self::add`].
    ///
    /// # Errors
    /// [`StoreError`]; the member then stays until the window has passed.
    pub(super) async fn release(
        &self,
        window: &Window,
        member: Member,
        added: Added,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change(window, Change::HandBack(member, added), now).await.map(drop)
    }

    /// Queues a change and waits until somebody, perhaps the caller, has written it.
    async fn change(
        &self,
        window: &Window,
        change: Change,
        now: Timestamp,
    ) -> Result<Option<Added>, StoreError> {
        let stripe = self.stripes.get(window.stripe).ok_or(StoreError::Unavailable)?;
        loop {
            let (answer, mut answered) = oneshot::channel();
            stripe.waiting.lock().push(Waiting { window: window.clone(), change, now, answer });
            let _turn = stripe.turn.lock().await;
            match answered.try_recv() {
                Ok(result) => return result,
                // Whoever took it was dropped in mid-write: it may count twice, which errs on the
                // safe side and ends with the window.
                Err(TryRecvError::Closed) => continue,
                Err(TryRecvError::Empty) => {}
            }
            let mut taken = std::mem::take(&mut *stripe.waiting.lock());
            taken.retain(|waiting| !waiting.answer.is_closed());
            while let Some(first) = taken.first() {
                let window = first.window.clone();
                let (same, other) = taken.into_iter().partition(|waiting| waiting.window == window);
                self.write_all(&window, same).await;
                taken = other;
            }
            if let Ok(result) = answered.try_recv() {
                return result;
            }
        }
    }

    /// Writes changes of one counter together and answers each.
    async fn write_all(&self, window: &Window, waiting: Vec<Waiting>) {
        match self.write(window, &waiting).await {
            Ok(results) => waiting.into_iter().zip(results).for_each(|(waiting, result)| {
                // Whoever stopped listening was dropped; what it added stays for the window.
                let _ = waiting.answer.send(Ok(result));
            }),
            Err(error) => waiting.into_iter().for_each(|waiting| {
                let _ = waiting.answer.send(Err(error));
            }),
        }
    }

    async fn write(&self, window: &Window, waiting: &[Waiting]) -> Result<Vec<Option<Added>>, StoreError> {
        for _ in 0..MAX_ROUNDS {
            let mut loaded = self.load(&window.key).await?;
            let mut set = loaded.value.take().unwrap_or_default();
            let results = waiting.iter().map(|waiting| waiting.apply(&mut set)).collect();
            loaded.value = (!set.is_empty()).then_some(set);
            let ends = |set: &WindowSet| Times { expires_at: Some(set.ends_at(window.length)), due: None };
            let Some(write) = loaded.change(ends)? else { return Ok(results) };
            let batch = Batch {
                expect: vec![loaded.expectation()],
                writes: vec![write],
                durability: Durability::Applied,
                purpose: Purpose::Admit,
            };
            if self.store.commit(batch).await?.is_applied() {
                return Ok(results);
            }
        }
        Err(StoreError::Unavailable)
    }

    async fn load(&self, key: &RecordKey) -> Result<Loaded<WindowSet>, StoreError> {
        let record = self.store.read(std::slice::from_ref(key)).await?.pop().flatten();
        Loaded::decode(key.clone(), record)
    }
}

impl Waiting {
    fn apply(&self, set: &mut WindowSet) -> Option<Added> {
        match &self.change {
            Change::Add(member) => Some(set.add(*member, self.now, self.window.length)),
            Change::HandBack(member, added) => {
                set.release(*member, added);
                None
            }
        }
    }
}
