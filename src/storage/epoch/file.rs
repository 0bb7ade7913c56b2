//! An epoch key's file: a mark, the key, and the latest expiry of anything sealed under it. Apart
//! because here stands what must survive a crash, and what must not survive a destruction.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::EpochError;
use super::table::Epoch;
use crate::crypto::aead::SealingKey;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::storage::directory::{DirectoryError, sync_names};

const MAGIC: &[u8; 8] = b"CSEPOCH1";
/// Bytes of an epoch key.
pub(super) const KEY_BYTES: usize = 32;
const UNTIL_OFFSET: usize = MAGIC.len() + KEY_BYTES;
/// Bytes of a key's file.
pub(super) const FILE_BYTES: usize = UNTIL_OFFSET + size_of::<i64>();

/// Writes a new key's file. It has its name only once it is whole and on stable storage.
pub(super) fn create(file: &Path, secret: &[u8; KEY_BYTES], until: Timestamp) -> io::Result<()> {
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(secret);
    content.extend_from_slice(&until.unix_millis().to_be_bytes());
    let unfinished = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    out.write_all(&content)?;
    out.sync_all()?;
    fs::rename(&unfinished, file)?;
    file.parent().map_or(Ok(()), sync_names)
}

/// Reads a key file; `None` when its destruction was begun.
pub(super) fn read(file: &Path) -> Result<Option<(KeyId, Epoch)>, EpochError> {
    let content = Zeroizing::new(fs::read(file).map_err(DirectoryError::at(file))?);
    if content.len() == FILE_BYTES && content.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let parse = || {
        let id = KeyId::parse(file.file_stem()?.to_str()?)?;
        let hour = hour_of_id(&id)?;
        let key = SealingKey::new(content.strip_prefix(MAGIC)?.get(..KEY_BYTES)?)?;
        let until = i64::from_be_bytes(content.get(UNTIL_OFFSET..)?.try_into().ok()?);
        let until = Timestamp::from_unix_millis(until);
        // What an earlier process has sealed is not known better.
        Some((id, Epoch { hour, key: Arc::new(key), until, used: until, ours: true }))
    };
    parse().map(Some).ok_or_else(|| EpochError::Corrupt { file: file.to_owned() })
}

/// The hour a key's id tells.
pub(super) fn hour_of_id(id: &KeyId) -> Option<i64> {
    id.as_str().strip_prefix('e')?.split_once('-')?.0.parse().ok()
}

/// Records by when everything has expired. Eight bytes in place: they share a sector, so a crash leaves
/// either.
pub(super) fn note_until(file: &Path, until: Timestamp) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).open(file)?;
    out.seek(SeekFrom::Start(u64::try_from(UNTIL_OFFSET).unwrap_or(0)))?;
    out.write_all(&until.unix_millis().to_be_bytes())?;
    out.sync_data()
}

/// Overwrites, syncs, removes, and syncs the removal; fine when the file is gone.
pub(super) fn erase(file: &Path) -> io::Result<()> {
    let mut out = match OpenOptions::new().write(true).open(file) {
        Ok(out) => out,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    out.write_all(&[0; FILE_BYTES])?;
    out.sync_all()?;
    fs::remove_file(file)?;
    file.parent().map_or(Ok(()), sync_names)
}
