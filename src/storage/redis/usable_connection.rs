//! A connection in use, and what is known of the server behind it.

use redis::aio::MultiplexedConnection;

use super::group::Groups;
use super::server::Server;

/// A connection in use.
pub(super) struct UsableConnection {
    /// Which of the link's connections it is.
    pub(super) number: u64,
    /// Carries every call that waits for no replica.
    pub(super) connection: MultiplexedConnection,
    /// Carries those that do.
    pub(super) groups: Option<Groups>,
    /// What the server said of itself.
    pub(super) server: Server,
}
