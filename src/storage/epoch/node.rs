//! One server of epoch keys: whether it may be used, and the keys that it holds.
//!
//! It keeps nothing on disk, so that a key that is deleted there, or held by a process that has ended, is
//! gone. It holds one key of each hour, wrapped, and which store they belong to.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::time::error::Elapsed;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::standing::{RunTag, Standings};
use super::table::{Epoch, GRACE, Table, end_of};
use super::wrapped::{Wraps, id_of};
use super::{EpochError, file};
use crate::crypto::aead::{SealError, SealingKey};
use crate::crypto::random;
use crate::domain::id::KeyId;
use crate::storage::{Answering, Notice, Notify, VolatileError, VolatileServer};
use crate::token::LONGEST_LIFE;

/// Between two looks at what a server is.
const EXAMINED_EVERY: Duration = Duration::from_secs(60);
/// How long a server may take for all that is asked at once: less than anybody waits for it.
const ANSWERED_WITHIN: Duration = Duration::from_millis(1800);
/// How long one that did not answer in time is left alone: it would keep everybody else waiting.
const LEFT_ALONE: Duration = Duration::from_secs(3);
/// Rounds in which replicas that make an hour's key at once agree on one.
const ROUNDS: usize = 4;
/// The word before the names of what is held.
const PREFIX: &str = "countersign:epoch:";
/// What names the store that the keys belong to.
const MARK: &str = "store";

/// What the thread that asks and those who use the keys share.
pub(super) struct Common {
    pub(super) table: Arc<Table>,
    pub(super) standings: Arc<Standings>,
    pub(super) wraps: Wraps,
    /// The store that the keys belong to, once it is open.
    pub(super) store: OnceLock<StoreOfKeys>,
    /// The key of the tags of the store that a server said it was used with.
    pub(super) marked: OnceLock<[u8; 32]>,
    pub(super) notify: Notify,
}

/// The store that the keys belong to.
pub(super) struct StoreOfKeys {
    /// The key of its tags.
    pub(super) tag_key: [u8; 32],
    /// The `run_id` of each process that serves it now.
    pub(super) served_by: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Why something of a server is not to be had.
enum Trouble {
    /// The connection to it broke.
    Broken(String),
    /// It does not answer, or may not be used.
    Server(String),
    /// What it holds cannot be read, or cannot be made here.
    Key(EpochError),
}

impl From<VolatileError> for Trouble {
    fn from(error: VolatileError) -> Self {
        match error {
            VolatileError::Broken(why) => Self::Broken(why),
            VolatileError::Refused(_) | VolatileError::Unfit(_) => Self::Server(error.to_string()),
        }
    }
}

impl From<EpochError> for Trouble {
    fn from(error: EpochError) -> Self {
        Self::Key(error)
    }
}

impl From<random::RandomUnavailable> for Trouble {
    fn from(error: random::RandomUnavailable) -> Self {
        Self::Key(error.into())
    }
}

/// Asks, and once more where only a connection broke, as an idle one may have.
macro_rules! asked {
    ($node:ident.$ask:ident($($what:expr)?)) => {{
        let mut done = timeout(ANSWERED_WITHIN, $node.$ask($($what)?)).await;
        if matches!(done, Ok(Err(Trouble::Broken(_)))) {
            done = timeout(ANSWERED_WITHIN, $node.$ask($($what)?)).await;
        }
        $node.judge(done)
    }};
}

/// What a server says of a key.
pub(super) enum Sought {
    /// Here it is.
    Here(Epoch),
    /// It was made here and is no more.
    Gone,
    /// It was made by another process.
    NotMine,
}

/// A server.
pub(super) struct Node {
    index: usize,
    server: VolatileServer,
    common: Arc<Common>,
    tag: Option<RunTag>,
    examined: Option<Instant>,
    is_marked: bool,
    /// Since when it does not answer in time.
    silent: Option<Instant>,
}

impl Node {
    pub(super) const fn new(index: usize, server: VolatileServer, common: Arc<Common>) -> Self {
        Self { index, server, common, tag: None, examined: None, is_marked: false, silent: None }
    }

    /// Whether it is the process that this key was made on, as far as is known.
    pub(super) fn has_made(&self, id: &KeyId) -> bool {
        self.tag.as_ref().is_some_and(|tag| tag.made(id))
    }

    /// Makes sure that it answers and may be used.
    pub(super) async fn tend(&mut self) -> Result<RunTag, EpochError> {
        asked!(self.greet())
    }

    /// The key of an hour, made if need be.
    pub(super) async fn key_of_hour(&mut self, hour: i64) -> Result<(KeyId, Epoch), EpochError> {
        asked!(self.take_or_make(hour))
    }

    /// A key.
    pub(super) async fn tell_of(&mut self, id: &KeyId) -> Result<Sought, EpochError> {
        asked!(self.look_for(id))
    }

    /// Which process answers, and its keys of these hours.
    pub(super) async fn keys_of_hours(
        &mut self,
        hours: &[i64],
    ) -> Result<(RunTag, Vec<(KeyId, Epoch)>), EpochError> {
        asked!(self.read_hours(hours))
    }

    /// Deletes those of these keys that were made here; which they were.
    pub(super) async fn destroy_own(&mut self, ids: &[KeyId]) -> Result<Vec<KeyId>, EpochError> {
        asked!(self.delete_own(ids))
    }

    /// Notes why a server may not be used.
    fn judge<T>(&mut self, done: Result<Result<T, Trouble>, Elapsed>) -> Result<T, EpochError> {
        let why = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Trouble::Key(error))) => return Err(error),
            Ok(Err(Trouble::Server(why) | Trouble::Broken(why))) => why,
            Err(Elapsed { .. }) => {
                self.server.leave();
                self.silent = Some(Instant::now());
                format!("it does not answer within {} ms", ANSWERED_WITHIN.as_millis())
            }
        };
        self.examined = None;
        let why: Arc<str> = format!("{}: {why}", self.server.address()).into();
        self.common.standings.note_word(self.index, Err(Arc::clone(&why)));
        Err(EpochError::Node(why))
    }

    async fn greet(&mut self) -> Result<RunTag, Trouble> {
        if self.silent.is_some_and(|since| since.elapsed() < LEFT_ALONE) {
            return Err(unusable("it did not answer a moment ago"));
        }
        let Answering { run_id, is_new } = self.server.meet().await?;
        let tag = RunTag::of_run(&run_id).ok_or_else(|| unusable("it does not tell its `run_id`"))?;
        if self.tag.as_ref() != Some(&tag) {
            self.meet_another(tag.clone());
        }
        let store = self.common.store.get();
        if store.is_some_and(|store| (store.served_by)().contains(&run_id)) {
            return Err(unusable("it serves the store, which is kept and copied: use a server of its own"));
        }
        let is_due = is_new || self.examined.is_none_or(|at| at.elapsed() >= EXAMINED_EVERY);
        if is_due || (store.is_some() && !self.is_marked) {
            self.server.examine().await?;
            self.compare_mark().await?;
            self.examined = Some(Instant::now());
        }
        self.common.standings.note_word(self.index, Ok(tag.clone()));
        Ok(tag)
    }

    /// Another process answers than before, which has none of its keys.
    fn meet_another(&mut self, tag: RunTag) {
        (self.examined, self.is_marked) = (None, false);
        if let Some(before) = self.tag.replace(tag) {
            let is_of_it = |id: &KeyId| before.made(id);
            self.common.table.epochs.lock().retain(|id, _| !is_of_it(id));
            (self.common.notify)(Notice::EpochNodeRestarted { node: self.server.address().to_string() });
        }
    }

    /// Whether the keys here belong to the store; notes that they do where nothing says it.
    async fn compare_mark(&mut self) -> Result<(), Trouble> {
        let name = format!("{PREFIX}{MARK}");
        let id = KeyId::parse(MARK).ok_or(EpochError::Seal(SealError::UnknownKey))?;
        let common = Arc::clone(&self.common);
        let store = common.store.get();
        if let Some(held) = self.value(&name).await? {
            let another =
                || unusable("it holds the keys of another store: give each store servers of its own");
            let mark = common.wraps.unwrap(&held).ok().filter(|mark| mark.id == id).ok_or_else(another)?;
            let tag_key: [u8; 32] = mark.secret.expose().try_into().map_err(|_| another())?;
            let Some(store) = store else {
                let _ = common.marked.set(tag_key);
                return Ok(());
            };
            if store.tag_key != tag_key {
                return Err(another());
            }
            self.is_marked = mark.is_current;
            if self.is_marked {
                return Ok(());
            }
            // Before the key that it was sealed under leaves the ring.
            self.server.delete(&name, &held).await?;
        }
        if let Some(store) = store {
            self.server.put_new(&name, &common.wraps.wrap(&id, &store.tag_key)?, None).await?;
            self.is_marked = true;
        }
        Ok(())
    }

    async fn take_or_make(&mut self, hour: i64) -> Result<(KeyId, Epoch), Trouble> {
        let tag = self.greet().await?;
        let name = name_of(hour);
        for _ in 0..ROUNDS {
            if let Some(held) = self.value(&name).await? {
                if is_made_by(&tag, &held) {
                    return Ok(self.unwrapped(hour, &held)?);
                }
                // Of a process that has ended: what it held must not come back from a copy.
                self.server.delete(&name, &held).await?;
                continue;
            }
            let (id, secret) = draw(hour, &tag)?;
            let held = self.common.wraps.wrap(&id, &*secret)?;
            let gone_by = end_of(hour).plus(LONGEST_LIFE + GRACE);
            let life = gone_by.since(self.common.table.clock.now());
            if self.server.put_new(&name, &held, Some(life)).await? {
                return Ok((id, epoch(hour, &*secret)?));
            }
        }
        Err(unusable("its key of the hour is another each time"))
    }

    async fn look_for(&mut self, id: &KeyId) -> Result<Sought, Trouble> {
        if !self.greet().await?.made(id) {
            return Ok(Sought::NotMine);
        }
        let Some(hour) = file::hour_of_id(id) else { return Ok(Sought::Gone) };
        match self.value(&name_of(hour)).await? {
            Some(held) if id_of(&held).as_ref() == Some(id) => {
                Ok(Sought::Here(self.unwrapped(hour, &held)?.1))
            }
            Some(_) | None => Ok(Sought::Gone),
        }
    }

    async fn read_hours(&mut self, hours: &[i64]) -> Result<(RunTag, Vec<(KeyId, Epoch)>), Trouble> {
        let tag = self.greet().await?;
        let names: Vec<String> = hours.iter().copied().map(name_of).collect();
        let mut keys = Vec::new();
        for ((hour, name), held) in hours.iter().zip(&names).zip(self.server.values(&names).await?) {
            let Some(held) = held else { continue };
            if is_made_by(&tag, &held) {
                // One that does not open here is no reason to do without the others.
                keys.extend(self.unwrapped(*hour, &held));
            } else {
                self.server.delete(name, &held).await?;
            }
        }
        Ok((tag, keys))
    }

    async fn delete_own(&mut self, ids: &[KeyId]) -> Result<Vec<KeyId>, Trouble> {
        let tag = self.greet().await?;
        let mut deleted = Vec::new();
        for id in ids.iter().filter(|id| tag.made(id)) {
            let Some(hour) = file::hour_of_id(id) else { continue };
            let name = name_of(hour);
            if let Some(held) = self.value(&name).await?
                && id_of(&held).as_ref() == Some(id)
            {
                self.server.delete(&name, &held).await?;
            }
            deleted.push(id.clone());
        }
        Ok(deleted)
    }

    async fn value(&mut self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        Ok(self.server.values(&[name.to_owned()]).await?.pop().flatten())
    }

    fn unwrapped(&self, hour: i64, held: &[u8]) -> Result<(KeyId, Epoch), EpochError> {
        let unwrapped = self.common.wraps.unwrap(held)?;
        if file::hour_of_id(&unwrapped.id) != Some(hour) {
            return Err(SealError::DoesNotOpen.into());
        }
        Ok((unwrapped.id, epoch(hour, unwrapped.secret.expose())?))
    }
}

/// A key of this hour: fit for any value that is sealed in it.
fn epoch(hour: i64, secret: &[u8]) -> Result<Epoch, EpochError> {
    let until = end_of(hour).plus(LONGEST_LIFE);
    let key = SealingKey::new(secret).ok_or(SealError::DoesNotOpen)?;
    Ok(Epoch { hour, key: Arc::new(key), until, used: until, ours: true })
}

/// The id and the bytes of a new key of this process.
fn draw(hour: i64, tag: &RunTag) -> Result<(KeyId, Zeroizing<[u8; file::KEY_BYTES]>), EpochError> {
    // Random too: an hour whose key was destroyed may come again, should a clock step back.
    let name = format!("e{hour}-{}-{}", random::base62(8)?, tag.as_text());
    let id = KeyId::parse(&name).ok_or(SealError::UnknownKey)?;
    Ok((id, Zeroizing::new(random::bytes()?)))
}

fn is_made_by(tag: &RunTag, held: &[u8]) -> bool {
    id_of(held).is_some_and(|id| tag.made(&id))
}

fn name_of(hour: i64) -> String {
    format!("{PREFIX}{hour}")
}

fn unusable(why: &str) -> Trouble {
    Trouble::Server(why.to_owned())
}
