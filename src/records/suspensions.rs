//! What operators have stopped: one list in the store, which every replica reads again and again.
//!
//! What they did is kept beside it, in a record of its own that only who asks for it reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::{Loaded, Stored, Times};
use super::replicas::{self, Replica};
use super::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};
use crate::crypto::digest::Sha256;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, KeyId, MerchantId, TokenId};

/// More than anybody has stopped one by one: beyond, stop all.
pub const MOST: usize = 1_000;
/// Acts that are remembered, the latest.
const REMEMBERED: usize = 1_000;
/// What a replica says of the list it knows: its number.
pub const FACT: &str = "suspensions";
/// Tries, where others write the list as well.
const ROUNDS: usize = 8;

/// What is stopped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// Everything an agent begins.
    Agent {
        /// Which.
        id: AgentId,
    },
    /// Everything begun at a merchant.
    Merchant {
        /// Which.
        id: MerchantId,
    },
    /// What an agent signs with one of its keys.
    Key {
        /// Whose.
        agent: AgentId,
        /// Its `keyid`.
        id: KeyId,
    },
    /// What is asked with one bearer credential.
    Credential {
        /// SHA-256 of it.
        digest: Sha256,
    },
    /// A card, in every token that holds it.
    Card {
        /// A token it was named by.
        token: TokenId,
        /// Its keyed fingerprint.
        fingerprint: Sha256,
    },
    /// Everything.
    All,
}

/// Of a card only the token it was named by: nothing of a card is ever printed.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { id } => f.debug_struct("Agent").field("id", id).finish(),
            Self::Merchant { id } => f.debug_struct("Merchant").field("id", id).finish(),
            Self::Key { agent, id } => f.debug_struct("Key").field("agent", agent).field("id", id).finish(),
            Self::Credential { .. } => f.debug_struct("Credential").finish_non_exhaustive(),
            Self::Card { token, .. } => f.debug_struct("Card").field("token", token).finish_non_exhaustive(),
            Self::All => f.write_str("All"),
        }
    }
}

impl Subject {
    /// Whether both stop the same.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Card { fingerprint: one, .. }, Self::Card { fingerprint: other, .. }) => one == other,
            (one, other) => one == other,
        }
    }
}

/// Something that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// What.
    pub subject: Subject,
    /// Why, in an operator's words. Never told to agents.
    pub why: String,
    /// The operator's name.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// Something an operator did: kept, because a line of a log can be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What was stopped, or goes on.
    pub subject: Subject,
    /// True: it goes on.
    pub resumed: bool,
    /// Why.
    pub why: String,
    /// The operator's name.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What is stopped now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspensions {
    /// The number of the list: one more than before each act.
    pub number: u64,
    /// Each of it.
    pub standing: Vec<Suspension>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Each act, the latest last.
    pub acts: Vec<Act>,
}

impl Stored for Suspensions {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

impl Stored for History {
    const KIND: Kind = Kind::Registry;
    const FORMAT: u8 = 1;
}

impl Suspensions {
    /// Whether it is stopped.
    pub fn holds(&self, subject: &Subject) -> bool {
        self.standing.iter().any(|standing| standing.subject.is_same(subject))
    }

    /// Stops something, or lets it go on. Whether that changes anything; `None`: there is no more room.
    fn act(&mut self, act: &Act) -> Option<bool> {
        if self.holds(&act.subject) != act.resumed {
            return Some(false);
        }
        if act.resumed {
            self.standing.retain(|standing| !standing.subject.is_same(&act.subject));
        } else if self.standing.len() >= MOST {
            return None;
        } else {
            let Act { subject, why, by, at, .. } = act.clone();
            self.standing.push(Suspension { subject, why, by, at });
        }
        self.number += 1;
        Some(true)
    }
}

impl History {
    fn remember(&mut self, act: Act) {
        self.acts.push(act);
        let old = self.acts.len().saturating_sub(REMEMBERED);
        self.acts.drain(..old);
    }
}

/// Whether this is the content of a record of ours.
pub fn is_readable(bytes: &[u8]) -> bool {
    super::codec::decode::<Suspensions>(bytes).is_ok() || super::codec::decode::<History>(bytes).is_ok()
}

/// In one partition, so that they change together.
fn key(name: &str) -> RecordKey {
    RecordKey::new(Kind::Registry, "suspensions", name)
}

async fn look(store: &dyn RecordStore) -> Result<Loaded<Suspensions>, StoreError> {
    let record = store.read(&[key("list")]).await?.pop().flatten();
    Loaded::decode(key("list"), record)
}

async fn look_at_both(store: &dyn RecordStore) -> Result<(Loaded<Suspensions>, Loaded<History>), StoreError> {
    let mut records = store.read(&[key("list"), key("acts")]).await?;
    let (acts, list) = (records.pop().flatten(), records.pop().flatten());
    Ok((Loaded::decode(key("list"), list)?, Loaded::decode(key("acts"), acts)?))
}

/// What stands.
///
/// # Errors
/// [`StoreError`].
pub async fn known(store: &dyn RecordStore) -> Result<Suspensions, StoreError> {
    Ok(look(store).await?.value.unwrap_or_default())
}

/// What stands, and what was done.
///
/// # Errors
/// [`StoreError`].
pub async fn known_with_history(store: &dyn RecordStore) -> Result<(Suspensions, History), StoreError> {
    let (list, history) = look_at_both(store).await?;
    Ok((list.value.unwrap_or_default(), history.value.unwrap_or_default()))
}

/// The replicas that live and do not say that they know a list of this number or later.
///
/// # Errors
/// [`StoreError`].
pub async fn unaware(
    store: &dyn RecordStore,
    number: u64,
    now: Timestamp,
) -> Result<Vec<Replica>, StoreError> {
    let replicas = replicas::look(store, now).await?.map(|registry| registry.replicas);
    let known = |replica: &Replica| replica.facts.get(FACT)?.first()?.parse::<u64>().ok();
    let is_unaware = |replica: &Replica| known(replica).is_none_or(|known| known < number);
    Ok(replicas.into_iter().flatten().filter(is_unaware).collect())
}

/// Does what an operator says. Whether that changed anything; `None`: [`MOST`] stand already.
///
/// # Errors
/// [`StoreError`]; after [`StoreError::Unacknowledged`] it may have been done.
pub async fn act(store: &dyn RecordStore, act: Act) -> Result<Option<bool>, StoreError> {
    for _ in 0..ROUNDS {
        let (mut list, mut history) = look_at_both(store).await?;
        match list.value.get_or_insert_default().act(&act) {
            Some(true) => {}
            unchanged => return Ok(unchanged),
        }
        history.value.get_or_insert_default().remember(act.clone());
        let writes = [list.change(|_| Times::default())?, history.change(|_| Times::default())?];
        let batch = Batch {
            expect: vec![list.expectation(), history.expectation()],
            writes: writes.into_iter().flatten().collect(),
            durability: Durability::Synced,
            // Who stops something must be heard also where space is short.
            purpose: Purpose::Finish,
        };
        if store.commit(batch).await?.is_applied() {
            return Ok(Some(true));
        }
    }
    Err(StoreError::Unavailable)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::clock::ManualClock;
    use crate::records::memory::MemoryStore;

    fn told(id: &str, resumed: bool) -> Act {
        let subject = Subject::Agent { id: AgentId::parse(id).unwrap() };
        let at = Timestamp::from_unix_seconds(1);
        Act { subject, resumed, why: "it loops".to_owned(), by: "ada".to_owned(), at }
    }

    #[tokio::test]
    async fn what_is_stopped_stands_until_it_is_resumed_and_each_act_is_remembered_once() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1))));
        for (resumed, changed) in [(true, false), (false, true), (false, false), (true, true)] {
            assert_eq!(act(&store, told("a", resumed)).await, Ok(Some(changed)));
        }
        let (list, history) = known_with_history(&store).await.unwrap();
        assert_eq!((list.standing.len(), history.acts.len()), (0, 2));
        for number in 0..MOST {
            assert_eq!(act(&store, told(&format!("a{number}"), false)).await, Ok(Some(true)));
        }
        assert_eq!(act(&store, told("b", false)).await, Ok(None), "no more room");
        let (list, history) = known_with_history(&store).await.unwrap();
        assert_eq!((list.standing.len(), history.acts.len()), (MOST, REMEMBERED));
        assert_eq!(list, known(&store).await.unwrap());
    }

    /// It is read twice a second by everybody.
    #[tokio::test]
    async fn what_is_read_again_and_again_does_not_grow_with_what_was_done() {
        let store = MemoryStore::new(Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1))));
        let mut sizes = Vec::new();
        for _ in 0..100 {
            for resumed in [false, true] {
                act(&store, told("a", resumed)).await.unwrap();
            }
            let record = store.read(&[key("list")]).await.unwrap().pop().flatten().unwrap();
            sizes.push(record.bytes.len());
        }
        // Its number has grown by a byte.
        assert!(sizes[sizes.len() - 1] <= sizes[0] + 1, "{sizes:?}");
        assert_eq!(known_with_history(&store).await.unwrap().1.acts.len(), 200);
    }

    #[test]
    fn a_card_is_not_printed() {
        let token = TokenId::assemble("tagtagtag1", &"a".repeat(22)).unwrap();
        let printed = format!("{:?}", Subject::Card { token, fingerprint: [222; 32] });
        assert!(printed.contains("vt_") && !printed.contains("222"), "{printed}");
    }

    #[test]
    fn a_card_is_the_same_whichever_token_named_it() {
        let card = |random: &str| Subject::Card {
            token: TokenId::assemble("tagtagtag1", random).unwrap(),
            fingerprint: [7; 32],
        };
        let [one, other] = ["a", "b"].map(|letter| card(&letter.repeat(22)));
        assert!(one != other && one.is_same(&other));
        assert!(!one.is_same(&Subject::All));
    }
}
