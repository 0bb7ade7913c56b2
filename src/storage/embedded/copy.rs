//! Copies a store record by record out of a snapshot of the database.
//!
//! A snapshot sees each group of writes whole or not at all. Apart because it is the one reader that
//! takes long.
//!
//! Records are written anew instead of files being copied: every block is read and its checksum
//! looked at on the way, so that no damage is carried over, and the files of a database in use are
//! nobody else's business.

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Readable};

use super::open_database::{OpenDatabase, unreadable};
use super::store_directory::StoreDirectory;
use crate::records::Kind;
use crate::storage::backup::{BackupError, Copied, Draft};

/// Entries written at once.
const GROUP: usize = 512;
/// The most bytes of them, but for the entry that reaches it.
const GROUP_BYTES: usize = 4 << 20;
/// Memory for blocks while a copy is written.
const CACHE_BYTES: u64 = 8 << 20;

/// Copies the database as it is now.
pub(super) fn copy(
    live: &OpenDatabase,
    place: &Path,
    outside: &[&Path],
    going_on: &dyn Fn() -> Result<(), BackupError>,
) -> Result<Copied, BackupError> {
    let began = Instant::now();
    let draft = Draft::begin(place, outside)?;
    let home = StoreDirectory::take(draft.path())?;
    let target = OpenDatabase::open(&home.data(), CACHE_BYTES, false)?;
    let snapshot = live.snapshot();
    let mut copied = Copied::default();
    for (from, to, counts) in keyspaces(live, &target) {
        let mut writing = Writing { target: &target, batch: target.unsynced_batch(), waiting: 0, bytes: 0 };
        for entry in snapshot.iter(from) {
            let (key, value) = entry.into_inner().map_err(unreadable)?;
            copied.records += u64::from(counts);
            let size = key.len().saturating_add(value.len());
            copied.bytes += u64::try_from(size).unwrap_or(u64::MAX);
            writing.batch.insert(to, key, value);
            writing.waiting += 1;
            writing.bytes += size;
            if writing.waiting == GROUP || writing.bytes >= GROUP_BYTES {
                going_on()?;
                writing.flush(&home)?;
            }
        }
        writing.flush(&home)?;
    }
    drop(snapshot);
    target.persist(PersistMode::SyncAll).map_err(super::OpenError::of_database(&home.data()))?;
    drop(target);
    home.mark()?;
    drop(home);
    going_on()?;
    draft.finish()?;
    Ok(Copied { took: began.elapsed().max(Duration::from_millis(1)), ..copied })
}

/// Each keyspace, its counterpart, and whether what is in it are records.
fn keyspaces<'a>(
    live: &'a OpenDatabase,
    target: &'a OpenDatabase,
) -> Vec<(&'a Keyspace, &'a Keyspace, bool)> {
    fn own(live: &OpenDatabase) -> impl Iterator<Item = (&Keyspace, bool)> {
        let records = Kind::ALL.into_iter().filter_map(|kind| Some((live.keyspace(kind)?, true)));
        records.chain([(live.due_index(), false), (live.meta(), false)])
    }
    own(live).zip(own(target)).map(|((from, counts), (to, _))| (from, to, counts)).collect()
}

struct Writing<'a> {
    target: &'a OpenDatabase,
    batch: OwnedWriteBatch,
    waiting: usize,
    bytes: usize,
}

impl Writing<'_> {
    fn flush(&mut self, home: &StoreDirectory) -> Result<(), BackupError> {
        let batch = std::mem::replace(&mut self.batch, self.target.unsynced_batch());
        (self.waiting, self.bytes) = (0, 0);
        Ok(batch.commit().map_err(super::OpenError::of_database(&home.data()))?)
    }
}
