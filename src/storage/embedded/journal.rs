//! Reads the database's journals before the database does. Apart because it knows their bytes
//! (fjall's disk format 3, which changes only with fjall's major version).
//!
//! A crash can tear only the batch that was being written: every group is synced before the next.
//! The database itself drops everything from the first unreadable byte on, and refuses a last batch
//! whose middle never reached the disk. Here a torn last batch is cut off, and damage with whole
//! batches behind it is reported: those were acknowledged.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::store_directory::OpenError;
use crate::storage::directory::{DirectoryError, replace_file, sync_names};

const TRAILER: &[u8] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Batches are numbered in order, with gaps where the database numbers its own work.
const LARGEST_GAP: u64 = 1 << 32;

/// What a journal's bytes say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Whole batches up to here, then nothing.
    Whole { length: usize },
    /// Whole batches up to here, then a batch that was never finished.
    Torn { length: usize },
    /// Unreadable from here, yet whole batches follow.
    Damaged { at: usize },
}

/// Cuts the torn end off the newest journal under `directory`, and answers how many bytes went.
///
/// # Errors
/// [`OpenError::Corrupt`] for damage that no crash explains.
pub(super) fn mend(directory: &Path) -> Result<Option<u64>, OpenError> {
    let Some((newest, sealed)) = journals(directory)? else { return Ok(None) };
    for path in sealed {
        // A sealed journal was synced as a whole.
        if let Verdict::Torn { length: at } | Verdict::Damaged { at } = inspect(&read(&path)?) {
            return Err(damaged(path, at));
        }
    }
    let bytes = read(&newest)?;
    match inspect(&bytes) {
        Verdict::Whole { .. } => Ok(None),
        Verdict::Damaged { at } => Err(damaged(newest, at)),
        Verdict::Torn { length } => {
            let keep = u64::try_from(length).unwrap_or(u64::MAX);
            let cut = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&newest)?;
                file.set_len(keep)?;
                file.sync_all()
            };
            cut().map_err(DirectoryError::at(&newest))?;
            Ok(u64::try_from(written(&bytes).saturating_sub(length)).ok())
        }
    }
}

/// Writes the newest journal anew, for after a failed sync: the kernel may then hold pages that it
/// shows but no longer means to write, and what recovery reads must be on the disk.
pub(super) fn rewrite(directory: &Path) -> Result<(), OpenError> {
    let Some((newest, _)) = journals(directory)? else { return Ok(()) };
    let bytes = read(&newest)?;
    let length = match inspect(&bytes) {
        Verdict::Whole { length } | Verdict::Torn { length } => length,
        Verdict::Damaged { at } => return Err(damaged(newest, at)),
    };
    let name = newest.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    replace_file(directory, name, bytes.get(..length).unwrap_or_default())
        .and_then(|()| sync_names(directory))
        .map_err(|error| DirectoryError::at(&newest)(error).into())
}

fn damaged(file: PathBuf, at: usize) -> OpenError {
    OpenError::Corrupt { file, cause: format!("unreadable at byte {at}") }
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|error| DirectoryError::at(path)(error).into())
}

/// The newest journal and the others; `None` where there is none yet.
fn journals(directory: &Path) -> Result<Option<(PathBuf, Vec<PathBuf>)>, OpenError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryError::at(directory)(error).into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(DirectoryError::at(directory))?.path();
        let number = || path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok();
        if let Some(number) = number() {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    let newest = found.pop();
    Ok(newest.map(|(_, newest)| (newest, found.into_iter().map(|(_, path)| path).collect())))
}

fn inspect(bytes: &[u8]) -> Verdict {
    let mut at = 0;
    let mut last = None;
    let in_order = |last: Option<u64>, number: u64| {
        let first = last.map_or(0, |last| last.saturating_add(1));
        (first..first.saturating_add(LARGEST_GAP)).contains(&number)
    };
    while let Some(batch) = batch_at(bytes, at) {
        // No checksum covers the number, and the order of what is written hangs on it.
        if last.is_some() && !in_order(last, batch.number) {
            return Verdict::Damaged { at };
        }
        at = batch.end;
        last = Some(batch.number);
    }
    let written = written(bytes);
    if written <= at {
        return Verdict::Whole { length: at };
    }
    let follows = |later: usize| {
        // The number tells a batch from content that happens to look like one.
        batch_at(bytes, later).is_some_and(|batch| in_order(last, batch.number))
    };
    if (at + 1..written).any(follows) { Verdict::Damaged { at } } else { Verdict::Torn { length: at } }
}

/// Where what was written ends; behind it are preallocated zeros, by the megabyte.
fn written(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    for block in bytes.rchunks(ZEROS.len()) {
        end -= block.len();
        // Compared whole: a byte at a time would take as long as the rest of a start.
        if !ZEROS.starts_with(block) {
            return end + block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        }
    }
    0
}

struct Batch {
    number: u64,
    end: usize,
}

/// The whole batch that begins at `at`, if one does: start, items, end with a checksum over them.
fn batch_at(bytes: &[u8], at: usize) -> Option<Batch> {
    let mut rest = bytes.get(at..)?;
    if take::<1>(&mut rest)? != [START] {
        return None;
    }
    let count = u32::from_le_bytes(take(&mut rest)?);
    let number = u64::from_le_bytes(take(&mut rest)?);
    let items = rest;
    for _ in 0..count {
        match take::<1>(&mut rest)? {
            [ITEM] => {
                // Kind of value, compression, keyspace.
                take::<10>(&mut rest)?;
                let key = usize::from(u16::from_le_bytes(take(&mut rest)?));
                take::<4>(&mut rest)?;
                let value = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
                rest = rest.get(key.checked_add(value)?..)?;
            }
            [CLEAR] => {
                take::<8>(&mut rest)?;
            }
            _ => return None,
        }
    }
    let items = items.get(..items.len().checked_sub(rest.len())?)?;
    if take::<1>(&mut rest)? != [END] || u64::from_le_bytes(take(&mut rest)?) != xxh3_64(items) {
        return None;
    }
    rest = rest.strip_prefix(TRAILER)?;
    Some(Batch { number, end: bytes.len().checked_sub(rest.len())? })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal of three batches as the database writes it, and where each ends.
    fn journal() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
        let directory = tempfile::tempdir().unwrap();
        let database = fjall::Database::builder(directory.path()).open().unwrap();
        let keyspace = database.keyspace("k", fjall::KeyspaceCreateOptions::default).unwrap();
        for value in ["one", "two", "three"] {
            let mut batch = database.batch();
            batch.insert(&keyspace, "key", value);
            batch.insert(&keyspace, value, [0; 100]);
            batch.remove(&keyspace, "gone");
            batch.commit().unwrap();
        }
        drop((keyspace, database));
        let (newest, sealed) = journals(directory.path()).unwrap().unwrap();
        assert!(sealed.is_empty());
        let bytes = fs::read(newest).unwrap();
        let mut ends = Vec::new();
        let mut at = 0;
        while let Some(batch) = batch_at(&bytes, at) {
            at = batch.end;
            ends.push(at);
        }
        let bytes = bytes[..at].to_vec();
        (directory, bytes, ends)
    }

    #[test]
    fn the_databases_own_journal_is_whole_with_or_without_preallocated_zeros() {
        let (_directory, mut bytes, ends) = journal();
        assert_eq!(ends.len(), 3);
        assert_eq!(inspect(&bytes), Verdict::Whole { length: bytes.len() });
        let length = bytes.len();
        bytes.extend([0; 4096]);
        assert_eq!(inspect(&bytes), Verdict::Whole { length });
    }

    #[test]
    fn a_last_batch_cut_or_garbled_anywhere_is_torn() {
        let (_directory, bytes, ends) = journal();
        for cut in ends[1] + 1..bytes.len() {
            assert_eq!(inspect(&bytes[..cut]), Verdict::Torn { length: ends[1] }, "cut at {cut}");
        }
        for garbled in ends[1]..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[garbled] ^= 0x55;
            bytes.extend([0; 64]);
            // Only the number in a batch's start is not checked.
            let number = ends[1] + 5..ends[1] + 13;
            if !number.contains(&garbled) {
                assert_eq!(inspect(&bytes), Verdict::Torn { length: ends[1] }, "garbled at {garbled}");
            }
        }
    }

    #[test]
    fn damage_with_whole_batches_behind_it_is_never_cut_off() {
        let (_directory, bytes, ends) = journal();
        for garbled in (0..ends[1]).filter(|at| ![5, ends[0] + 5].iter().any(|n| (*n..n + 8).contains(at))) {
            let mut bytes = bytes.clone();
            bytes[garbled] ^= 0x55;
            let at = if garbled < ends[0] { 0 } else { ends[0] };
            assert_eq!(inspect(&bytes), Verdict::Damaged { at }, "garbled at {garbled}");
        }
    }

    #[test]
    fn a_number_out_of_order_is_damage_also_in_the_last_batch() {
        let (_directory, bytes, ends) = journal();
        for (begin, garbled) in [(ends[0], ends[0] + 12), (ends[1], ends[1] + 12)] {
            let mut bytes = bytes.clone();
            bytes[garbled] ^= 0x80;
            assert_eq!(inspect(&bytes), Verdict::Damaged { at: begin }, "garbled at {garbled}");
        }
        let mut first = bytes.clone();
        first[12] = 0xff;
        assert_eq!(inspect(&first), Verdict::Damaged { at: ends[0] });
    }

    #[test]
    fn a_rewritten_journal_holds_the_whole_batches_and_nothing_else() {
        let (directory, bytes, ends) = journal();
        let (newest, _) = journals(directory.path()).unwrap().unwrap();
        fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
        rewrite(directory.path()).unwrap();
        assert_eq!(fs::read(&newest).unwrap(), &bytes[..ends[1]]);
    }
}
