//! Epoch keys in servers of their own, for replicas that share no file system.
//!
//! Each server holds one key of each hour, which all replicas seal under. A key's id tells the process it
//! was made on: only that process can say that the key was destroyed. A process that is not there any
//! more took its keys with it, and what was sealed under them is lost. The thread of [`super::errand`]
//! alone asks servers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::EpochError;
use super::errand::{Errand, Found};
use super::node::{Common, Node, Sought};
use super::table::hour_of;
use crate::crypto::aead::SealError;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::storage::{NodeAddress, RedisSettings, VolatileServer};

/// Hours before this one whose keys may still be needed: those of the longest life.
const HOURS_BACK: i64 = 7 * 24 + 2;
/// Hours after this one whose keys may have been made, by whichever clock.
const HOURS_AHEAD: i64 = 3;

/// How long one question may take, or a connection: several fit into what an errand may take.
const ASKED_FOR: Duration = Duration::from_millis(600);

/// The servers.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    common: Arc<Common>,
}

impl Nodes {
    pub(super) fn of(settings: &RedisSettings, common: &Arc<Common>) -> Self {
        let settings = RedisSettings { call_timeout: ASKED_FOR, ..settings.clone() };
        let node = |(index, address): (usize, &NodeAddress)| {
            let server = VolatileServer::at(address.clone(), &settings);
            Node::new(index, server, Arc::clone(common))
        };
        Self { nodes: settings.nodes.iter().enumerate().map(node).collect(), common: Arc::clone(common) }
    }

    /// Does one thing.
    pub(super) async fn serve(&mut self, errand: &Errand) -> Result<Found, EpochError> {
        match errand {
            Errand::Watch => self.watch().await.map(|()| Found::Nothing),
            Errand::Fit { hour, until } => self.provide(*hour, *until).await.map(|()| Found::Nothing),
            Errand::Find(id) => self.search(id).await,
            Errand::Look => self.look_around().await.map(|()| Found::Nothing),
            Errand::Destroy => self.end_due().await.map(Found::Destroyed),
        }
    }

    async fn watch(&mut self) -> Result<(), EpochError> {
        join_all(self.nodes.iter_mut().map(Node::tend)).await.into_iter().try_for_each(|word| word.map(drop))
    }

    /// The key of an hour at the first server that may be used.
    async fn provide(&mut self, hour: i64, until: Timestamp) -> Result<(), EpochError> {
        let mut failure = EpochError::Late;
        for node in &mut self.nodes {
            match node.key_of_hour(hour).await {
                Ok((id, epoch)) => {
                    let is_fit = epoch.until >= until;
                    self.common.table.epochs.lock().insert(id, epoch);
                    // Nothing may be sealed for longer than the longest life.
                    return if is_fit { Ok(()) } else { Err(SealError::UnknownKey.into()) };
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A key that was not seen yet. Where no server is the process that made it, it is gone with that
    /// one; that is known only when every server has said who it is.
    async fn search(&mut self, id: &KeyId) -> Result<Found, EpochError> {
        // Whoever made it knows, and nobody else need answer.
        if let Some(found) = self.search_among(id, |node| node.has_made(id)).await? {
            return Ok(found);
        }
        Ok(self.search_among(id, |_| true).await?.unwrap_or(Found::Nothing))
    }

    /// `None` where each of these servers says that it did not make it.
    async fn search_among(
        &mut self,
        id: &KeyId,
        is_asked: impl Fn(&Node) -> bool,
    ) -> Result<Option<Found>, EpochError> {
        let mut failure = None;
        let asked = self.nodes.iter_mut().filter(|node| is_asked(node));
        for sought in join_all(asked.map(|node| node.tell_of(id))).await {
            match sought {
                Ok(Sought::Here(epoch)) => {
                    let key = Arc::clone(&epoch.key);
                    self.common.table.epochs.lock().insert(id.clone(), epoch);
                    return Ok(Some(Found::Key(key)));
                }
                Ok(Sought::Gone) => {
                    self.common.table.epochs.lock().remove(id);
                    return Ok(Some(Found::Nothing));
                }
                Ok(Sought::NotMine) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Reads what other replicas have made, and forgets what they have destroyed.
    async fn look_around(&mut self) -> Result<(), EpochError> {
        let now = hour_of(self.common.table.clock.now());
        let hours: Vec<i64> = (now.saturating_sub(HOURS_BACK)..=now.saturating_add(HOURS_AHEAD)).collect();
        let mut failure = None;
        for read in join_all(self.nodes.iter_mut().map(|node| node.keys_of_hours(&hours))).await {
            match read {
                Ok((tag, keys)) => {
                    let mut epochs = self.common.table.epochs.lock();
                    epochs.retain(|id, _| !tag.made(id));
                    epochs.extend(keys);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn end_due(&mut self) -> Result<Vec<KeyId>, EpochError> {
        let looked = self.look_around().await;
        let due = self.common.table.due();
        let mut destroyed = Vec::new();
        let mut failure = looked.err();
        for ended in join_all(self.nodes.iter_mut().map(|node| node.destroy_own(&due))).await {
            match ended {
                Ok(ids) => destroyed.extend(ids),
                Err(error) => failure = Some(error),
            }
        }
        let mut epochs = self.common.table.epochs.lock();
        destroyed.iter().for_each(|id| drop(epochs.remove(id)));
        failure.map_or(Ok(destroyed), Err)
    }
}
