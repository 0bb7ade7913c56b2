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
use crate::drain::Drain;
use crate::operator::reload::{Reload as _, Trigger};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// How long files stand unchanged before they are taken for whole.
const SETTLED: Duration = Duration::from_secs(2);

/// Between two tries to take what was not taken.
const AGAIN: Duration = Duration::from_secs(60);

/// What tells that a file is another: where it is, its size and when it was written; `None` where there
/// is none.
type Look = BTreeMap<PathBuf, Option<(u64, u64, u64, i64, i64)>>;

/// Watches until shutdown begins.
pub(super) async fn watch(reloader: Arc<Reloader>, drain: Drain) {
    // Nothing is known to be as it was read: read once more, it says what it said, or what has come since.
    let mut taken = Look::new();
    let mut seen = (Look::new(), Instant::now());
    let mut refused: Option<Instant> = None;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = drain.begun() => return,
        }
        // Of the files that what runs names: where it names others than what was taken, it is read once
        // more, because they may have changed since it was read.
        let now = look(reloader.files().await).await;
        let is_due_again = refused.is_some_and(|at| at.elapsed() >= AGAIN);
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if (now != taken || is_due_again) && seen.1.elapsed() >= SETTLED {
            taken = now;
            // What came of it is told by who does it. What was in its way may be over by itself, and a file
            // that it names and was not there may have come.
            let outcome = reloader.reload(Trigger::Watch, false).await;
            refused = outcome.is_err().then(Instant::now);
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
