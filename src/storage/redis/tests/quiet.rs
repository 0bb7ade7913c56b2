//! Faults that nobody is told of.
//!
//! Connections that fall silent, servers that answer but take no writes, names that lead nowhere.

use std::time::{Duration, Instant};

use super::redis_server::Replicated;
use super::relay::Relay;
use super::*;
use crate::records::Write;
use crate::storage::contract::{batch, put, token};

async fn put_once(store: &RedisStore, name: &str) -> Result<Committed, StoreError> {
    store.commit(batch(&[], vec![put(&token(name), name)])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_for_replicas_are_replaced_when_they_fall_silent() {
    let servers = Replicated::start(&options());
    servers.wait_until_in_sync();
    let relay = Relay::start(servers.primary().port).await;
    let told = Notices::default();
    let waiting = Settings {
        wait_replicas: 1,
        wait_timeout: Duration::from_millis(200),
        call_timeout: Duration::from_secs(1),
        ..settings(&[format!("redis://{}", relay.address)])
    };
    let store = open(waiting, &told).await;
    until("replication", async || put_once(&store, "a").await.is_ok()).await;
    relay.silence_last(4);
    let silent = Instant::now();
    // Nobody sells meanwhile: they are missed all the same.
    until("it is noticed", async || told.count(&Notice::Unreachable) == 1).await;
    assert!(silent.elapsed() < Duration::from_secs(4), "{:?}", silent.elapsed());
    until("health", async || store.health().is_ok()).await;
    assert!(put_once(&store, "b").await.unwrap().is_applied());
    relay.silence_last(4);
    let refused = put_once(&store, "c").await;
    let asked = Instant::now();
    until("it is replaced", async || put_once(&store, "d").await.is_ok()).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{refused:?}, {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_but_takes_no_writes_is_not_ready() {
    let server = Server::start(Options { more: vec!["save 3600 1000000".into()], ..options() });
    let told = Notices::default();
    let store = open(settings(&[server.url()]), &told).await;
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    until("too few replicas", async || store.health() == Err(StoreError::Unavailable)).await;
    assert_eq!(put_once(&store, "b").await, Err(StoreError::Unavailable));
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    until("enough of them", async || store.health().is_ok()).await;
    // A snapshot cannot take the place of a directory.
    std::fs::create_dir_all(server.directory().join("dump.rdb").join("full")).unwrap();
    server.command(&["BGSAVE"]);
    until("a failed snapshot", async || store.health() == Err(StoreError::Unavailable)).await;
    assert_eq!(put_once(&store, "c").await, Err(StoreError::Unavailable));
    server.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    until("it is forgiven", async || store.health().is_ok()).await;
    assert!(put_once(&store, "d").await.unwrap().is_applied());
    assert_eq!((told.count(&Notice::Unreachable), told.count(&Notice::ReachableAgain)), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_name_are_reached_by_address_and_wrong_names_end_no_link_that_works() {
    let cluster = Cluster::start(&options());
    let store = open(settings(&cluster.urls()), &Notices::default()).await;
    let names: Vec<RecordKey> = (0..40).map(|n| contract::key(Kind::Token, &format!("p{n}"), "a")).collect();
    let all = async |what: &str, store: &RedisStore| {
        for name in &names {
            let put = store.commit(batch(&[], vec![put(name, "1")])).await;
            assert!(matches!(put, Ok(Committed::Applied(_))), "{what}: {put:?}");
        }
    };
    let everywhere = |setting: &str, value: &str| {
        cluster.nodes.iter().for_each(|node| drop(node.command(&["CONFIG", "SET", setting, value])));
    };
    let look = async |store: &RedisStore| {
        // Two looks are never closer together.
        tokio::time::sleep(Duration::from_millis(250)).await;
        store.shared.topology.refresh().await.unwrap();
    };
    all("before", &store).await;
    everywhere("cluster-preferred-endpoint-type", "hostname");
    look(&store).await;
    all("without names", &store).await;
    // A gateway that starts only now finds them too.
    let late = open(settings(&cluster.urls()), &Notices::default()).await;
    all("started without names", &late).await;
    everywhere("cluster-announce-hostname", "nowhere.invalid");
    until("the name is known", async || {
        let slots = cluster.nodes[0].command(&["CLUSTER", "SLOTS"]);
        let primary = |range: &redis_server::Reply| range.parts()[2].parts()[0].text();
        slots.parts().iter().all(|range| primary(range) == "nowhere.invalid")
    })
    .await;
    look(&store).await;
    all("with wrong names", &store).await;
    assert!(store.health().is_ok() && !store.may_have_forgotten());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_large_together_are_read_though_all_of_them_would_outlive_a_call() {
    let server = Server::start(options());
    let relay = Relay::start(server.port).await;
    let told = Notices::default();
    let store = open(settings(&[format!("redis://{}", relay.address)]), &told).await;
    // All of one bucket: 24 MiB, for which this line takes two calls' time.
    let names: Vec<RecordKey> = (0..24).map(|n| token(&format!("large-{n:02}"))).collect();
    for name in &names {
        let put = store.commit(batch(&[], vec![put(name, &"x".repeat(1 << 20))])).await;
        assert!(put.unwrap().is_applied());
    }
    relay.slow_down(5);
    let mut seen: Vec<RecordKey> = Vec::new();
    loop {
        let page = store.scan(Kind::Token, seen.last(), 500).await.unwrap();
        let Some(_) = page.last() else { break };
        seen.extend(page.into_iter().map(|(name, _)| name));
    }
    assert_eq!(seen, names);
    let read = store.read(&names).await.unwrap();
    assert!(read.iter().all(|record| record.as_ref().is_some_and(|record| record.bytes.len() == 1 << 20)));
    // What is only looked at for its instant is not carried at all.
    let due = |name: &RecordKey| Write::Put {
        key: name.clone(),
        bytes: vec![0; 1 << 20].into(),
        expires_at: None,
        due: Some(Timestamp::from_unix_seconds(1)),
    };
    for name in &names {
        assert!(store.commit(batch(&[], vec![due(name)])).await.unwrap().is_applied());
    }
    let asked = Instant::now();
    assert_eq!(store.due(Timestamp::from_unix_seconds(2), 500).await.unwrap().len(), names.len());
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(told.count(&Notice::Unreachable), 0);
}
