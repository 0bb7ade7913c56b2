//! A directory of hourly keys that stops answering, as a network file system does.
//!
//! A pipe in a key file's place, which nobody writes and nobody reads, holds whoever opens it for as long
//! as it is there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Mode};

use super::epochs::{card_of, key_file_of, lasting, until};
use super::*;
use crate::redis_server::{self, Server};

/// How long anything may take that waits for no key's file; and how long a refusal may take.
const PROMPTLY: Duration = Duration::from_secs(15);

/// A pipe in a key file's place, until it is dropped.
struct Stall {
    file: PathBuf,
    original: PathBuf,
    pipe: PathBuf,
}

impl Stall {
    fn of(file: &Path, world: &World) -> Self {
        let stall = Self::hiding(file, world);
        stall.begin();
        stall
    }

    /// The file is not there; nor is the pipe yet.
    fn hiding(file: &Path, world: &World) -> Self {
        let beside = |name| world.directory.path().join(name);
        let stall = Self { file: file.to_owned(), original: beside("original"), pipe: beside("pipe") };
        std::fs::rename(&stall.file, &stall.original).unwrap();
        stall
    }

    fn begin(&self) {
        rustix::fs::mkfifoat(CWD, &self.file, Mode::RUSR | Mode::WUSR).unwrap();
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        std::fs::rename(&self.file, &self.pipe).unwrap();
        std::fs::rename(&self.original, &self.file).unwrap();
        // Whoever waits for the pipe, to read or to write, finds its other end: opened, and closed.
        drop(std::fs::OpenOptions::new().read(true).write(true).open(&self.pipe).unwrap());
    }
}

async fn promptly<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PROMPTLY, work).await;
    done.unwrap_or_else(|_| panic!("{what} took more than {PROMPTLY:?}"))
}

async fn is_alive(admin: SocketAddr) {
    let told = promptly("/livez", ask_admin(admin, None, "GET /livez", None)).await;
    assert_eq!(told.status, 200);
}

fn logged(world: &World, event: &str) -> bool {
    world.log.text().contains(&format!(r#""event":"{event}""#))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_directory_of_hourly_keys_costs_only_who_needs_a_key_from_it() {
    let (world, clock) = at_rest(Options::default()).await;
    let (alpha, admin) = (world.alpha(), world.app().admin_address());
    let (_, _, done_with) = lasting(&world, &clock).await;
    let first = key_file_of(&world, clock.now()).unwrap();
    clock.advance(HOUR + Duration::from_secs(301));
    let (early, total, token) = lasting(&world, &clock).await;
    until("the next hour's key", || key_file_of(&world, clock.now().plus(HOUR)).is_some()).await;

    // The end of the first key, which nobody needs any more, hangs on its file.
    let stall = Stall::of(&first, &world);
    assert_eq!(revoke(&alpha, &done_with).await.status, 200);
    clock.advance(Duration::from_secs(61));
    let stalled = Instant::now();
    while !logged(&world, "epoch_directory_unusable") {
        assert!(stalled.elapsed() < Duration::from_secs(60), "nobody is told: {}", world.log.text());
        is_alive(admin).await;
        promptly("a create and a mint", lasting(&world, &clock)).await;
    }

    // What was sealed in this hour opens, and the next hour's key is in memory.
    let card = promptly("a purchase", card_of(&world, &alpha, &early, total, &token)).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
    clock.advance(HOUR);
    let (late, total, token) = promptly("a mint in the next hour", lasting(&world, &clock)).await;

    // An hour on there is none, nor can one be made: mints say so, all else goes on.
    clock.advance(HOUR);
    let (session, sum) = promptly("a create", session(&alpha)).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, sum);
    request["allowance"]["expires_at"] = json!(clock.now().plus(HOUR).to_rfc3339());
    for _ in 0..3 {
        let refused = promptly("a refusal", ask(&alpha, alpha.post(MINT, &request).key("again"))).await;
        assert_eq!(told(&refused), refusal(503, "service_unavailable"), "{}", refused.json());
        assert!(refused.header("retry-after").is_some());
    }
    is_alive(admin).await;
    let card = promptly("a purchase", card_of(&world, &alpha, &late, total, &token)).await;
    assert_eq!(card["payment_method"]["cvc"], "737");

    // It answers again: the same mint goes through, and the first key's end is made up for.
    drop(stall);
    let healing = Instant::now();
    loop {
        let answer = promptly("a mint", ask(&alpha, alpha.post(MINT, &request).key("again"))).await;
        if answer.status == 201 {
            break;
        }
        assert_eq!(told(&answer), refusal(503, "service_unavailable"), "{}", answer.json());
        assert!(healing.elapsed() < Duration::from_secs(20), "it does not heal: {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What failed when the pipe ended is done by the next scan.
    clock.advance(Duration::from_secs(61));
    until("the news that it can be used", || logged(&world, "epoch_directory_usable")).await;
    until("the end of the first key", || !first.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeem_whose_key_another_replica_made_and_no_file_shows_is_refused_until_it_does() {
    let server =
        tokio::task::spawn_blocking(|| Server::start(redis_server::Options::default())).await.unwrap();
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         server_clock = false",
        server.url()
    );
    let (mut world, clock) = at_rest(Options { store: Some(store), ..Options::default() }).await;
    let (session, total, token) = lasting(&world, &clock).await;
    let (other_session, _, other_token) = lasting(&world, &clock).await;
    // A replica that does not see the key when it starts, and then cannot read it.
    let stall = Stall::hiding(&key_file_of(&world, clock.now()).unwrap(), &world);
    let replica = world.open_replica().await;
    stall.begin();
    world.meet(replica);
    let alpha = world.alpha();

    world.lamps.behave_once(CallKind::Complete, countersign::quickstart::shop::Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem { token, claim, session: session.clone(), amount: total, currency: "usd".to_owned() };
    for _ in 0..3 {
        let refused = promptly("a refusal", redeem(&world, &asked)).await;
        assert_eq!(told(&refused), refusal(503, "service_unavailable"), "{}", refused.json());
    }
    let path = format!("/m/lamps/checkout_sessions/{other_session}");
    assert_eq!(promptly("a read", ask(&alpha, alpha.get(path))).await.status, 200);
    drop(stall);
    let healing = Instant::now();
    let given = loop {
        let answer = promptly("a redeem", redeem(&world, &asked)).await;
        if answer.status == 200 {
            break answer.json();
        }
        assert_eq!(told(&answer), refusal(503, "service_unavailable"), "{}", answer.json());
        assert!(healing.elapsed() < Duration::from_secs(20), "it does not heal: {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(given["payment_method"]["cvc"], "737");
    world.lamps.release();
    assert_eq!(waiting.await.unwrap().text("/status").as_deref(), Some("completed"));
    let card = card_of(&world, &alpha, &other_session, total, &other_token).await;
    assert_eq!(card["payment_method"]["cvc"], "737");
}
