//! Watches the files of a configuration: once they have changed and then stood still, it is read again.
//!
//! Looks at them instead of being told, which holds whoever writes them and however: editors that replace
//! a file, mounts whose links are swapped, network file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reload::Reloader;
use crate::domain::clock::Timestamp;
use crate::drain::Drain;
use crate::operator::reload::{Reload as _, Trigger};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// How long files stand unchanged before they are taken for whole.
const SETTLED: Duration = Duration::from_secs(2);

/// What tells that a file is another: where it is, its size and when it was written; `None` where there
/// is none.
type Look = BTreeMap<PathBuf, Option<(u64, u64, u64, i64, i64)>>;

/// Watches until shutdown begins. What runs was begun to be read at `read_at`.
pub(super) async fn watch(reloader: Arc<Reloader>, read_at: Timestamp, drain: Drain) {
    let mut taken = look(reloader.files().await).await;
    // Written since, or while it was read: to be read again.
    taken.retain(|_, file| file.as_ref().is_none_or(|file| file.3 < read_at.unix_seconds()));
    let mut seen = (taken.clone(), Instant::now());
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = drain.begun() => return,
        }
        // Of the files that what runs names: where it names others than what was taken, it is read once
        // more, because they may have changed since it was read.
        let now = look(reloader.files().await).await;
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if now != taken && seen.1.elapsed() >= SETTLED {
            taken = now;
            // What came of it is told by who does it; what is wrong stays so until a file changes.
            let _ = reloader.reload(Trigger::Watch, false).await;
        }
    }
}

async fn look(files: BTreeSet<PathBuf>) -> Look {
    let asked = move || {
        files
            .into_iter()
            .map(|path| {
                let metadata = std::fs::metadata(&path).ok();
                let of = |m: std::fs::Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
                (path, metadata.map(of))
            })
            .collect()
    };
    tokio::task::spawn_blocking(asked).await.unwrap_or_default()
}
