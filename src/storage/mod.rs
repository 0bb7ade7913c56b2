//! Storage engines: where records live, and the keys that must die apart from them.
//!
//! [`embedded`] keeps records in this process's own directory; `epoch` keeps the hourly keys of
//! what a token may not outlive, in a directory of their own, so that neither a store's files nor
//! their backups can open it once the key is gone. Stages know [`crate::records::RecordStore`];
//! only the composition root names an engine.

pub mod directory;
pub mod epoch;

use std::path::PathBuf;
use std::time::Duration;

/// How records are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store's own directory; made (mode 0700) when absent. One process opens it at a time.
    pub directory: PathBuf,
    /// Where epoch keys live: outside `directory` and outside what backs it up.
    pub epoch_directory: PathBuf,
    /// Below this many free bytes on the store's file system nothing new is admitted; what is under
    /// way is still finished. 512 MiB is room for the largest journal and a compaction of it.
    pub min_free_bytes: u64,
    /// The longest a commit waits for others to share its sync, and only while others keep
    /// arriving; zero never waits. A sync costs about 60 µs of CPU however many records share it.
    pub gather_window: Duration,
    /// Commits that may wait for the writer; one more is refused as unavailable. 4096 is half a
    /// second of a slow disk.
    pub queue_bound: usize,
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("data/store"),
            epoch_directory: PathBuf::from("data/epochs"),
            min_free_bytes: 512 << 20,
            gather_window: Duration::from_millis(1),
            queue_bound: 4096,
            cache_bytes: 64 << 20,
        }
    }
}
