//! How much room is left where the gateway keeps things.
//!
//! Looked at on a thread for each place, because a file system that stalls, as those of networks do, holds
//! whoever asks it: nothing else waits for one.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::storage::Engine;
use crate::storage::directory::free_bytes;
use crate::telemetry::metrics::Metrics;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// What hourly keys want: each is a few hundred bytes, but a file system that has less is as good as full.
const FOR_HOURLY_KEYS: u64 = 16 << 20;

/// Has the disks looked at for as long as it lives.
pub(super) struct Watched {
    _ends: Vec<Sender<()>>,
}

/// Looks at the disks of a store from now on.
///
/// # Errors
/// The system gives no thread.
pub(super) fn watch_disks(engine: &Engine, metrics: &Arc<Metrics>) -> std::io::Result<Watched> {
    let epochs = engine.epoch_directory().map(|directory| ("epochs", directory.to_owned(), FOR_HOURLY_KEYS));
    let mut places: Vec<_> = epochs.into_iter().collect();
    if let Engine::Embedded(settings) = engine {
        places.push(("store", settings.directory.clone(), settings.min_free_bytes));
    }
    let mut ends = Vec::with_capacity(places.len());
    for (name, directory, min_free) in places {
        metrics.set_disk_min_free(name, min_free);
        let (end, ended) = channel();
        ends.push(end);
        let metrics = Arc::clone(metrics);
        let thread = std::thread::Builder::new().name(format!("disk-{name}"));
        thread.spawn(move || look(name, &directory, &metrics, &ended))?;
    }
    Ok(Watched { _ends: ends })
}

fn look(name: &'static str, directory: &Path, metrics: &Metrics, ended: &Receiver<()>) {
    loop {
        metrics.set_disk_free(name, free_bytes(directory).ok());
        match ended.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
