//! How the shared store is reached and what it must promise.

use std::time::Duration;

use crate::domain::secret::SecretBytes;

/// A server to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How a shared store is reached.
#[derive(Clone)]
pub struct Settings {
    /// Servers to begin with. Of a standalone store: the primary and its replicas, the one that says
    /// it is the primary is used. Of a Cluster: some of its nodes, the others are found.
    pub nodes: Vec<NodeAddress>,
    /// Whether to speak TLS to them.
    pub tls: bool,
    /// The authorities (PEM) that vouch for them; the system's when absent.
    pub ca: Option<Vec<u8>>,
    /// The ACL user; `default` when absent.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<std::sync::Arc<SecretBytes>>,
    /// Replicas that must have acknowledged a money transition before anybody hears of it. 0 trusts
    /// the primary alone: what it acknowledged in its last moments before a failover may be lost.
    pub wait_replicas: u32,
    /// The longest wait for them.
    pub wait_timeout: Duration,
    /// The longest any operation may take, its retries included: after that a money route answers
    /// 503.
    pub call_timeout: Duration,
    /// How long after a change of primary every complete reads the merchant's session first, whatever
    /// the store remembers of it.
    pub failover_caution: Duration,
    /// Use a server that keeps nothing on disk.
    pub accept_loss: bool,
    /// The key of the tags of the store that was used before: where that store is not found whole, the
    /// gateway starts without it and waits for an operator. Without one a new store is made.
    pub known_tag_key: Option<[u8; 32]>,
    /// Whether a new store may be made where none is; not where it cannot be told whether there was one.
    pub may_begin: bool,
    /// Go by the server's clock, so that replicas agree when something expires; otherwise by each
    /// machine's own, which must then agree.
    pub follow_server_clock: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            tls: false,
            ca: None,
            username: None,
            password: None,
            wait_replicas: 0,
            wait_timeout: Duration::from_millis(500),
            call_timeout: Duration::from_secs(1),
            failover_caution: Duration::from_secs(600),
            accept_loss: false,
            known_tag_key: None,
            may_begin: true,
            follow_server_clock: true,
        }
    }
}
