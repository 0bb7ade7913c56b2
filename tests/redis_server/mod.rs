//! Real Redis servers for tests.
//!
//! `redis-server` processes on free loopback ports, each with a directory of its own, gone when they are
//! dropped. Alone, with replicas, or as a cluster; they can be killed, paused, promoted and restarted
//! with or without what they held.
//!
//! Every test binary that needs one includes this module by its path. It speaks to the servers
//! itself, without the library under test. `tests/run` installs `redis-server`.

#![allow(
    dead_code,
    unused_imports,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests, of which none needs all of it"
)]

/// Three primaries with a replica each.
mod cluster;
/// One command, one reply.
mod connection;
/// Ports that stay free while a server is down.
mod ports;
/// A primary and its replicas.
mod replicated;
/// One process.
mod server;

pub use cluster::Cluster;
pub use connection::{Connection, Reply};
pub use ports::free_port;
pub use replicated::Replicated;
pub use server::{Options, Persistence, Server, Tls};

use std::time::{Duration, Instant};

/// How long a server, a set of replicas or a cluster may take to come about.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until there is something; `what` says what for when there never is.
fn until<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{}", what());
        std::thread::sleep(LOOK_AGAIN);
    }
}
