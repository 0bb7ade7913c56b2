//! Servers that fail, are replaced, come back empty, hang, or whose answers get lost.

use std::time::{Duration, Instant};

use super::redis_server::Replicated;
use super::relay::Relay;
use super::*;
use crate::ledger::Ledger;
use crate::limit::shared::{SharedLimit, SharedLimits};
use crate::records::{Revision, Write};
use crate::storage::contract::{batch, put, read, token, write};

fn durable(store: RedisStore) -> Arc<dyn RecordStore> {
    Arc::new(store)
}

async fn put_once(store: &Arc<dyn RecordStore>, name: &str) -> Result<Committed, StoreError> {
    store.commit(batch(&[], vec![put(&token(name), name)])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_is_applied_once_and_known_to_be() {
    let server = Server::start(options());
    let relay = Relay::start(server.port).await;
    let through = settings(&[format!("redis://{}", relay.address)]);
    let store = durable(open(through, &Notices::default()).await);
    relay.cut_every(23);
    let (mut applied, mut unknown) = (0, 0);
    let key = token("counter");
    for _ in 0..400 {
        let Ok(mut found) = store.read(std::slice::from_ref(&key)).await else { continue };
        let (revision, count) = match found.remove(0) {
            Some(record) => (record.revision, std::str::from_utf8(&record.bytes).unwrap().parse().unwrap()),
            None => (Revision::ABSENT, 0_u32),
        };
        let next = batch(&[(&key, revision)], vec![put(&key, &(count + 1).to_string())]);
        match store.commit(next).await {
            Ok(Committed::Applied(_)) => applied += 1,
            Ok(Committed::Conflict) => panic!("there is no other writer"),
            Err(StoreError::Unacknowledged) => unknown += 1,
            Err(error) => assert_eq!(error, StoreError::Unavailable),
        }
    }
    relay.cut_every(0);
    assert!(relay.cuts() > 20 && applied > 300, "{} cuts, {applied} applied", relay.cuts());
    let mut count = 0;
    until("an answer", async || match store.read(std::slice::from_ref(&key)).await {
        Ok(found) => {
            count = std::str::from_utf8(&found[0].as_ref().unwrap().bytes).unwrap().parse().unwrap();
            true
        }
        Err(_) => false,
    })
    .await;
    assert!((applied..=applied + unknown).contains(&count), "{count}: {applied} applied, {unknown} unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_sent_again_after_the_server_has_forgotten_them() {
    let server = Server::start(options());
    let store = durable(open(settings(&[server.url()]), &Notices::default()).await);
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    server.command(&["SCRIPT", "FLUSH"]);
    assert!(put_once(&store, "b").await.unwrap().is_applied());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_came_back_empty_moves_nothing_until_an_operator_accepts_it() {
    let server = Server::start(options());
    let (told, other_told) = (Notices::default(), Notices::default());
    let one = durable(open(settings(&[server.url()]), &told).await);
    let other = durable(open(settings(&[server.url()]), &other_told).await);
    write(&one, vec![put(&token("a"), "1")]).await;
    server.command(&["FLUSHALL"]);
    assert_eq!(put_once(&one, "b").await, Err(StoreError::Changed));
    assert_eq!(one.read(&[token("a")]).await, Err(StoreError::Changed));
    assert_eq!(one.health(), Err(StoreError::Changed));
    assert_eq!(other.read(&[token("a")]).await, Err(StoreError::Changed));
    assert_eq!(told.count(&Notice::Changed), 1);
    // Somebody else's new store is not taken for this one.
    assert_eq!(one.accept().await, Ok(()));
    assert!(put_once(&one, "b").await.unwrap().is_applied());
    assert!(one.may_have_forgotten() && one.health().is_ok());
    until("the other replica follows", async || other.health().is_ok()).await;
    assert_eq!(read(&other, &token("b")).await.unwrap().bytes, "b".into());
    assert_eq!(read(&other, &token("a")).await, None);
    assert_eq!(other_told.count(&Notice::Accepted), 1);
    assert!(other.may_have_forgotten());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_without_its_generation_is_noticed_at_start_too() {
    let server = Server::start(options());
    drop(open(settings(&[server.url()]), &Notices::default()).await);
    server.command(&["DEL", &Bucket::of("p").generation()]);
    let told = Notices::default();
    let store = durable(open(settings(&[server.url()]), &told).await);
    assert_eq!(put_once(&store, "a").await, Err(StoreError::Changed));
    assert_eq!(told.count(&Notice::Changed), 1);
    store.accept().await.unwrap();
    assert!(put_once(&store, "a").await.unwrap().is_applied());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_is_found_and_mistrusted_for_a_while() {
    let mut servers = Replicated::start(&options());
    servers.wait_until_in_sync();
    let told = Notices::default();
    let cautious = Settings { failover_caution: Duration::from_secs(3), ..settings(&servers.urls()) };
    let clock = kept(Arc::new(SystemClock));
    let opened = RedisStore::open(cautious.clone(), Arc::clone(&clock), told.notify()).await;
    let store = durable(opened.unwrap());
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    assert!(!store.may_have_forgotten());
    servers.wait_until_in_sync();
    let began = clock.unbroken_since();
    let heir = servers.most_advanced();
    servers.kill_primary();
    let refused = put_once(&store, "b").await;
    assert!(matches!(refused, Err(StoreError::Unavailable | StoreError::Unacknowledged)), "{refused:?}");
    servers.promote(heir);
    until("it is found", async || put_once(&store, "c").await.is_ok()).await;
    assert!(store.may_have_forgotten(), "before the first write on it");
    assert!(clock.unbroken_since() > began, "spans begin anew");
    assert_eq!(told.count(&Notice::PrimaryChanged), 1);
    assert_eq!(read(&store, &token("a")).await.unwrap().bytes, "a".into());
    // A gateway that starts only now is as cautious.
    let late = durable(open(cautious, &Notices::default()).await);
    assert!(late.may_have_forgotten());
    until("trust returns", async || !store.may_have_forgotten() && !late.may_have_forgotten()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_restarted_is_mistrusted_too() {
    let mut server = Server::start(Options { persistence: Persistence::EverySecond, ..options() });
    let store = durable(open(settings(&[server.url()]), &Notices::default()).await);
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    server.stop();
    server.restart();
    until("it is back", async || put_once(&store, "b").await.is_ok()).await;
    assert!(store.may_have_forgotten());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_too_few_replicas_have_is_not_acknowledged() {
    let servers = Replicated::start(&options());
    servers.wait_until_in_sync();
    let waiting =
        Settings { wait_replicas: 2, wait_timeout: Duration::from_millis(300), ..settings(&servers.urls()) };
    let store = durable(open(waiting, &Notices::default()).await);
    until("replication", async || put_once(&store, "a").await.is_ok()).await;
    let replica = servers.replicas().next().unwrap();
    servers.nodes[replica].pause();
    assert_eq!(put_once(&store, "b").await, Err(StoreError::Unacknowledged));
    // Counters wait for nobody.
    let counter = Batch { durability: Durability::Applied, ..batch(&[], vec![put(&token("c"), "1")]) };
    assert!(store.commit(counter).await.unwrap().is_applied());
    servers.nodes[replica].resume();
    until("replication", async || put_once(&store, "d").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_are_one_too_many() {
    let servers = Replicated::start(&options());
    let replica = servers.replicas().next().unwrap();
    servers.nodes[replica].command(&["REPLICAOF", "NO", "ONE"]);
    let clock = kept(Arc::new(SystemClock));
    let opened = RedisStore::open(settings(&servers.urls()), clock, Arc::new(|_| {})).await;
    let told = opened.err().unwrap().to_string();
    assert!(told.contains("both say that they are the primary"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_primary_that_appears_stops_money_until_one_is_left() {
    let servers = Replicated::start(&options());
    let store = durable(open(settings(&servers.urls()), &Notices::default()).await);
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    let replica = servers.replicas().next().unwrap();
    servers.nodes[replica].command(&["REPLICAOF", "NO", "ONE"]);
    until("it is noticed", async || store.health() == Err(StoreError::Unavailable)).await;
    assert_eq!(put_once(&store, "b").await, Err(StoreError::Unavailable));
    let port = servers.primary().port.to_string();
    servers.nodes[replica].command(&["REPLICAOF", "127.0.0.1", &port]);
    until("one is left", async || put_once(&store, "c").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_again_waits_for_replicas_too() {
    let servers = Replicated::start(&options());
    servers.wait_until_in_sync();
    let waiting = Settings { wait_replicas: 2, ..settings(&servers.urls()) };
    let store = durable(open(waiting.clone(), &Notices::default()).await);
    until("replication", async || put_once(&store, "a").await.is_ok()).await;
    assert!(!store.reads_are_acknowledged());
    let clock = kept(Arc::new(SystemClock));
    let ledger = Ledger::new(Arc::new(open(waiting, &Notices::default()).await), clock);
    let seen = ledger.load_key(&contract::key(Kind::Idempotency, "p", "k")).await.unwrap();
    let revision = read(&store, &token("a")).await.unwrap().revision;
    let rests_on_it = || batch(&[(&token("a"), revision)], vec![]);
    until("an answer", async || store.commit(rests_on_it()).await.is_ok()).await;
    assert_eq!(ledger.acknowledge(&seen).await, Ok(()));
    let replica = servers.replicas().next().unwrap();
    servers.nodes[replica].pause();
    assert_eq!(store.commit(rests_on_it()).await, Err(StoreError::Unacknowledged));
    assert_eq!(ledger.acknowledge(&seen).await, Err(StoreError::Unacknowledged));
    servers.nodes[replica].resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_used_before_is_not_made_anew_by_whoever_starts_first() {
    let server = Server::start(options());
    let again = Settings { known_tag_key: Some([9; 32]), ..settings(&[server.url()]) };
    let store = durable(open(again, &Notices::default()).await);
    assert_eq!(store.health(), Err(StoreError::Changed));
    assert_eq!(put_once(&store, "a").await, Err(StoreError::Changed));
    store.accept().await.unwrap();
    assert!(put_once(&store, "a").await.unwrap().is_applied() && store.may_have_forgotten());
    assert!(store.identity().tag_key == [9; 32], "tokens and sessions are found where they were");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_that_read_the_first_format_only_are_kept_out_once_newer_records_are_written() {
    let server = Server::start(options());
    let store = durable(open(settings(&[server.url()]), &Notices::default()).await);
    let first = server.command(&["GET", "cs:{00}:identity"]).text();
    assert!(first.starts_with("1 ") && first.ends_with(" complete"), "{first}");
    for _ in 0..2 {
        store.refuse_older_releases().await.unwrap();
        assert_eq!(server.command(&["GET", "cs:{00}:identity"]).text(), first.replacen('1', "2", 1));
    }
    // This one reads both, and an acceptance lets nobody in again.
    let again = durable(open(settings(&[server.url()]), &Notices::default()).await);
    assert_eq!(again.health(), Ok(()));
    again.accept().await.unwrap();
    assert!(server.command(&["GET", "cs:{00}:identity"]).text().starts_with("2 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_refuses_in_time_and_resumes_by_itself() {
    let server = Server::start(options());
    let told = Notices::default();
    let hasty = Settings { call_timeout: Duration::from_millis(300), ..settings(&[server.url()]) };
    let store = durable(open(hasty, &told).await);
    assert!(put_once(&store, "a").await.unwrap().is_applied());
    server.pause();
    let asked = Instant::now();
    let refused = futures_util::future::join_all((0..50).map(|_| put_once(&store, "b"))).await;
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    until("it is noticed", async || store.health() == Err(StoreError::Unavailable)).await;
    server.resume();
    until("it is back", async || put_once(&store, "c").await.is_ok()).await;
    until("health", async || store.health().is_ok()).await;
    assert_eq!((told.count(&Notice::Unreachable), told.count(&Notice::ReachableAgain)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_memory_is_short_what_was_begun_is_still_finished() {
    let memory = Some(("6mb".to_owned(), "noeviction".to_owned()));
    let server = Server::start(Options { memory, ..options() });
    let store = durable(open(settings(&[server.url()]), &Notices::default()).await);
    let large = "x".repeat(64 << 10);
    let mut refused = None;
    for n in 0..200 {
        let admit = batch(&[], vec![put(&token(&n.to_string()), &large)]);
        if let Err(error) = store.commit(admit).await {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(StoreError::NoSpace));
    let finish = Batch { purpose: Purpose::Finish, ..batch(&[], vec![put(&token("end"), "1")]) };
    assert!(store.commit(finish).await.unwrap().is_applied());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_record_leaves_the_server_by_itself() {
    let server = Server::start(options());
    let store = durable(open(settings(&[server.url()]), &Notices::default()).await);
    let clock = crate::domain::clock::SystemClock;
    let ends = Write::Put {
        key: token("a"),
        bytes: byteview::ByteView::default(),
        expires_at: Some(clock.now().plus(Duration::from_millis(50))),
        due: None,
    };
    write(&store, vec![ends]).await;
    let place = Place::of(&token("a")).unwrap();
    let exists = || server.command(&["EXISTS", &place.key]).integer() == Some(1);
    assert!(exists());
    until("expiry", async || store.read(&[token("a")]).await.unwrap()[0].is_none()).await;
    until("deletion", async || !exists()).await;
    assert_eq!(store.scan(Kind::Token, None, 10).await.unwrap(), []);
    let index = server.command(&["ZCARD", &place.bucket.index_of(Kind::Token)]);
    assert_eq!(index.integer(), Some(0), "what expiry left in the index was tidied away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_holds_across_replicas_and_refills() {
    let server = Server::start(options());
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(open(settings(&[server.url()]), &Notices::default()).await);
    }
    let limit = SharedLimit { name: "agent/a".into(), interval: Duration::from_millis(500), burst: 10 };
    let mut allowed = 0;
    let mut last = None;
    let began = Instant::now();
    for turn in 0..30 {
        let taken = replicas[turn % 2].take(&limit, 1).await.unwrap();
        allowed += taken.granted;
        last = Some(taken);
    }
    // A slow machine earns one more every half second.
    let earned = u32::try_from(began.elapsed().as_millis() / 500).unwrap() + 1;
    assert!((10..=10 + earned).contains(&allowed), "{allowed} of 10 and at most {earned}");
    let last = last.unwrap();
    assert!(
        last.granted == 0 && last.remaining == 0 && last.retry_after <= Duration::from_millis(500),
        "{last:?}"
    );
    until("one is earned", async || replicas[0].take(&limit, 1).await.unwrap().granted == 1).await;
    server.pause();
    assert_eq!(replicas[1].take(&limit, 1).await, None, "the local gate then stands alone");
    server.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_at_a_time_is_allowed_at_every_rate() {
    let server = Server::start(options());
    let store = open(settings(&[server.url()]), &Notices::default()).await;
    for rate in [1, 6, 7, 15, 24, 60, 333, 997] {
        let limit =
            SharedLimit { name: format!("agent/{rate}"), interval: Duration::from_secs(1) / rate, burst: 1 };
        assert!(store.take(&limit, 1).await.unwrap().granted == 1, "{rate} a second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_on_an_empty_server_agree_on_one_store() {
    let server = Server::start(options());
    let mut replicas = Vec::new();
    for _ in 0..8 {
        replicas.push(open(settings(&[server.url()]), &Notices::default()).await);
    }
    for round in 0..15 {
        server.command(&["FLUSHALL"]);
        let looks = replicas.iter().enumerate().map(|(late, replica)| async move {
            // One after the other, each round a little closer together or further apart.
            tokio::time::sleep(Duration::from_micros(u64::try_from(late).unwrap() * round * 50)).await;
            replica.shared.identify().await.unwrap().tag_key
        });
        let keys = futures_util::future::join_all(looks).await;
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_wanted_at_once_those_that_are_left_are_granted() {
    let server = Server::start(options());
    let store = open(settings(&[server.url()]), &Notices::default()).await;
    let limit = SharedLimit { name: "agent/a".into(), interval: Duration::from_secs(60), burst: 10 };
    let taken = async || store.take(&limit, 4).await.map(|taken| (taken.granted, taken.remaining));
    assert_eq!([taken().await, taken().await], [Some((4, 6)), Some((4, 2))]);
    assert_eq!([taken().await, taken().await], [Some((2, 0)), Some((0, 0))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_whose_primary_dies_serves_all_slots_again_after_the_takeover() {
    let mut cluster = Cluster::start(&options());
    let store = durable(open(settings(&cluster.urls()), &Notices::default()).await);
    let names: Vec<RecordKey> = (0..40).map(|n| contract::key(Kind::Token, &format!("p{n}"), "a")).collect();
    for name in &names {
        write(&store, vec![put(name, "1")]).await;
    }
    assert!(!store.may_have_forgotten());
    let slot = Bucket::of("p0").slot();
    cluster.kill_primary_of(slot);
    cluster.wait_for_takeover(slot);
    let all = async || {
        let writes = names.iter().map(|name| store.commit(batch(&[], vec![put(name, "2")])));
        futures_util::future::join_all(writes).await.iter().all(Result::is_ok)
    };
    until("every slot is served", all).await;
    assert!(store.may_have_forgotten());
    assert_eq!(store.scan(Kind::Token, None, 100).await.unwrap().len(), names.len());
}
