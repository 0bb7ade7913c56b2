//! The two things the writer asks of the disk. Apart so that tests can make either fail; there is
//! no switch for it in the program.

use std::io;
use std::path::Path;
use std::time::Instant;

use fjall::OwnedWriteBatch;

use crate::storage::{Synced, directory};

/// What the writer asks of the disk.
pub(super) trait Disk: Send {
    /// Writes a batch, syncs it, then makes it visible.
    fn commit(&mut self, batch: OwnedWriteBatch) -> fjall::Result<()>;

    /// Bytes that this process may still write to the file system of `directory`.
    fn free_bytes(&mut self, directory: &Path) -> io::Result<u64>;
}

/// The real one.
pub(super) struct SystemDisk {
    /// Hears how long each write took.
    pub(super) synced: Synced,
}

impl Disk for SystemDisk {
    fn commit(&mut self, batch: OwnedWriteBatch) -> fjall::Result<()> {
        let began = Instant::now();
        batch.commit()?;
        (self.synced)(began.elapsed());
        Ok(())
    }

    fn free_bytes(&mut self, directory: &Path) -> io::Result<u64> {
        directory::free_bytes(directory)
    }
}
