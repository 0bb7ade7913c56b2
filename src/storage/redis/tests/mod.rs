//! The shared engine against real servers: the contract of every engine, then what is its own.

#[path = "../../../../tests/redis_server/mod.rs"]
mod redis_server;

use self::redis_server::{Cluster, Options, Persistence, Server};
use super::*;
use crate::domain::clock::ManualClock;
use crate::storage::contract::{self, Fixture};

storage_contract!(new_store);

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

async fn new_store() -> Fixture<Server> {
    let server = Server::start(options());
    let clock = Arc::new(ManualClock::new(contract::START));
    let store = RedisStore::open(settings(&[server.url()]), clock.clone(), Arc::new(|_| {})).await.unwrap();
    Fixture { store: Arc::new(store), clock, _guard: server }
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
        let store = RedisStore::open(settings.clone(), clock.clone(), Arc::new(|_| {})).await.unwrap();
        Fixture { store: Arc::new(store) as Arc<dyn RecordStore>, clock, _guard: () }
    });
}

mod faults;
mod fitness;
mod relay;

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
    let clock = Arc::new(crate::domain::clock::SystemClock);
    RedisStore::open(settings, clock, notices.notify()).await.unwrap()
}

/// Waits for something that happens by itself.
async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !happened().await {
        assert!(std::time::Instant::now() < end, "{what} does not happen");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
