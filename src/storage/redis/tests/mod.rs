//! The shared engine against real servers: the contract of every engine, then what is its own.

#[allow(unreachable_pub, reason = "tests outside the library use it too")]
#[path = "../../../../tests/redis_server/mod.rs"]
mod redis_server;

use std::path::Path;

use self::redis_server::{Cluster, Options, Persistence, Server, Tls};
use super::encoding::{Bucket, Place};
use super::*;
use crate::domain::clock::{Clock, ManualClock, SystemClock};
use crate::storage::Notice;
use crate::storage::contract::{self, Fixture};

storage_contract!(new_store);
ledger_model!(new_store);

fn options() -> Options {
    Options::default()
}

fn address(url: &str) -> NodeAddress {
    let (host, port) = url.trim_start_matches("redis://").rsplit_once(':').unwrap();
    NodeAddress { host: host.to_owned(), port: port.parse().unwrap() }
}

fn settings(urls: &[String]) -> Settings {
    Settings {
        nodes: urls.iter().map(|url| address(url)).collect(),
        accept_loss: true,
        follow_server_clock: false,
        ..Settings::default()
    }
}

/// A certificate for `localhost` that is its own authority, in this directory.
fn self_signed(directory: &Path) -> Tls {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, content: String| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let certificate = write("server.pem", certified.cert.pem());
    let key = write("server.key", certified.signing_key.serialize_pem());
    Tls { certificate: certificate.clone(), key, authority: certificate, mutual: false }
}

/// The clock of a store that knows of no earlier one.
fn kept(clock: Arc<dyn Clock>) -> Arc<KeptClock> {
    let kept = KeptClock::new(clock);
    kept.agree(None);
    Arc::new(kept)
}

async fn new_store() -> Fixture<Server> {
    let server = Server::start(options());
    let clock = Arc::new(ManualClock::new(contract::START));
    let store =
        RedisStore::open(settings(&[server.url()]), kept(clock.clone()), Arc::new(|_| {})).await.unwrap();
    Fixture { store: Arc::new(store), clock, _guard: server }
}

/// The cluster of the test below.
static CLUSTER: parking_lot::Mutex<std::sync::Weak<Cluster>> =
    parking_lot::Mutex::new(std::sync::Weak::new());

async fn emptied_cluster_store() -> Fixture<Arc<Cluster>> {
    let cluster = CLUSTER.lock().upgrade().unwrap();
    let primaries = cluster.nodes.iter().filter(|node| node.role().as_deref() == Some("master"));
    primaries.for_each(|node| drop(node.command(&["FLUSHALL"])));
    let clock = Arc::new(ManualClock::new(contract::START));
    let settings = settings(&cluster.urls());
    let store = RedisStore::open(settings, kept(clock.clone()), Arc::new(|_| {})).await.unwrap();
    Fixture { store: Arc::new(store), clock, _guard: cluster }
}

#[test]
fn any_history_over_a_cluster_goes_as_the_domain_decides() {
    use crate::storage::model::{Engine, check, kept_open};
    let cluster = Arc::new(Cluster::start(&options()));
    *CLUSTER.lock() = Arc::downgrade(&cluster);
    check(&Engine { open: emptied_cluster_store, reopen: kept_open, ends: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_the_contract() {
    let cluster = Cluster::start(&options());
    let mut settings = settings(&cluster.urls());
    // One acknowledgement each: the batches go the way of those that wait.
    settings.wait_replicas = 1;
    check_storage_contract!(async || {
        let primaries = cluster.nodes.iter().filter(|node| node.role().as_deref() == Some("master"));
        primaries.for_each(|node| drop(node.command(&["FLUSHALL"])));
        let clock = Arc::new(ManualClock::new(contract::START));
        let store = RedisStore::open(settings.clone(), kept(clock.clone()), Arc::new(|_| {})).await.unwrap();
        let store: Arc<dyn RecordStore> = Arc::new(store);
        Fixture { store, clock, _guard: () }
    });
}

mod faults;
mod fitness;
mod quiet;
mod relay;
mod volatile;

/// What an operator is told.
#[derive(Clone, Default)]
struct Notices(Arc<parking_lot::Mutex<Vec<Notice>>>);

impl Notices {
    fn notify(&self) -> Notify {
        let notices = Arc::clone(&self.0);
        Arc::new(move |notice| notices.lock().push(notice))
    }

    fn count(&self, notice: &Notice) -> usize {
        self.0.lock().iter().filter(|told| *told == notice).count()
    }
}

async fn open(settings: Settings, notices: &Notices) -> RedisStore {
    RedisStore::open(settings, kept(Arc::new(SystemClock)), notices.notify()).await.unwrap()
}

/// Waits for something that happens by itself.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !happened().await {
        assert!(std::time::Instant::now() < end, "{what} does not happen");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
