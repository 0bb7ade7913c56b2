//! A store that no gateway has open, read for its own sake: to be checked, or copied.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::Slice;

use super::encoding::{Header, IndexEntry, StoreKey};
use super::identity::Opening;
use super::open_database::{OpenDatabase, unreadable};
use super::store_directory::{OpenError, StoreDirectory};
use super::{copy, identity, writer};
use crate::domain::clock::Timestamp;
use crate::records::{Identity, Kind, RecordKey, StoreError};
use crate::storage::backup::{Backup, BackupError, Copied};
use crate::storage::{Notice, Settings};

/// A store at rest, held by this process. Opening it recovers what a crash left, as a start would, and
/// changes nothing else.
pub struct ClosedStore {
    live: OpenDatabase,
    identity: Identity,
    torn: Option<u64>,
    kept: [PathBuf; 2],
    _held: StoreDirectory,
}

/// A record as it is stored, expired or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Which.
    pub key: RecordKey,
    /// Its content.
    pub bytes: Bytes,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it is to be looked at.
    pub due: Option<Timestamp>,
}

impl ClosedStore {
    /// Takes the store in `settings.directory`, which must be there.
    ///
    /// # Errors
    /// When a process has it open, which the error names, there is no store, or it is damaged.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let directory = &settings.directory;
        // Where there is none, none is made.
        fs::metadata(directory.join(super::store_directory::FORMAT_FILE))
            .map_err(|_| OpenError::NoStore { directory: directory.clone() })?;
        let held = StoreDirectory::take(directory)?;
        let torn = parking_lot::Mutex::new(None);
        let live = writer::recover(&held, settings.cache_bytes, Opening::ByProcess, &|notice| {
            if let Notice::TornWriteDropped { bytes } = notice {
                *torn.lock() = Some(bytes);
            }
        })?;
        let identity = identity::peek(&live, &held.data())?;
        let kept = [directory.clone(), settings.epoch_directory.clone()];
        Ok(Self { live, identity, torn: torn.into_inner(), kept, _held: held })
    }

    /// Who the store is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The length of a write that a crash cut short, in bytes: it was never acknowledged, and opening
    /// has dropped it.
    pub fn torn(&self) -> Option<u64> {
        self.torn
    }

    /// Every record of a kind in key order, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`] for each that cannot be read.
    pub fn records(&self, kind: Kind) -> impl Iterator<Item = Result<StoredRecord, StoreError>> + '_ {
        self.live.keyspace(kind).into_iter().flat_map(|keyspace| keyspace.iter()).map(move |entry| {
            let (key, value) = entry.into_inner().map_err(unreadable)?;
            let key = StoreKey::from_keyspace(kind, &key).ok_or(StoreError::Corrupt)?;
            record(key.into_record_key(), &value)
        })
    }

    /// One record, expired or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, key: &RecordKey) -> Result<Option<StoredRecord>, StoreError> {
        let Some(stored) = StoreKey::of(key) else { return Ok(None) };
        let keyspace = self.live.keyspace(key.kind).ok_or(StoreError::Corrupt)?;
        let value = keyspace.get(stored.within_keyspace()).map_err(unreadable)?;
        value.map(|value| record(key.clone(), &value)).transpose()
    }

    /// Every entry of the index of what is due, in the order of time.
    ///
    /// # Errors
    /// [`StoreError`] for each that cannot be read.
    pub fn due(&self) -> impl Iterator<Item = Result<(Timestamp, RecordKey), StoreError>> + '_ {
        self.live.due_index().iter().map(|entry| {
            let entry = entry.key().map_err(unreadable)?;
            let entry = IndexEntry::decode(&entry).ok_or(StoreError::Corrupt)?;
            Ok((entry.at, entry.key.into_record_key()))
        })
    }

    /// Whether the index of what is due has this entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_due(&self, at: Timestamp, key: &RecordKey) -> Result<bool, StoreError> {
        let Some(key) = StoreKey::of(key) else { return Ok(false) };
        self.live.due_index().contains_key(IndexEntry::encode(at, &key)).map_err(unreadable)
    }
}

impl Backup for ClosedStore {
    fn copy_to(&self, directory: &Path, going_on: &dyn Fn() -> bool) -> Result<Copied, BackupError> {
        let [store, epochs] = &self.kept;
        let going_on = || going_on().then_some(()).ok_or(BackupError::Interrupted);
        copy::copy(&self.live, directory, &[store, epochs], &going_on)
    }
}

fn record(key: RecordKey, value: &Slice) -> Result<StoredRecord, StoreError> {
    let (header, content) = Header::decode(value).ok_or(StoreError::Corrupt)?;
    let bytes = Bytes::copy_from_slice(content);
    Ok(StoredRecord { key, bytes, expires_at: header.expires_at, due: header.due })
}
