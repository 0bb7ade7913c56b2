//! Replicas on one Redis, of which one has a clock that is wrong, or is set.

use crate::redis_server::{self, Server};

use super::*;

/// The system's clock, of a machine where it was set.
#[derive(Default)]
struct Shifted(AtomicI64);

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        let shift = self.0.load(Ordering::SeqCst);
        Timestamp::from_unix_millis(SystemClock.now().unix_millis() + shift)
    }

    fn steady(&self) -> Timestamp {
        SystemClock.steady()
    }
}

/// A world on Redis whose second replica has a clock of its own.
async fn two(clock: &Arc<Shifted>) -> (World, Agent, Agent, Server) {
    let server = Server::start(redis_server::Options::default());
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true",
        server.url()
    );
    let options = Options {
        keyless_shops: true,
        careless_shops: true,
        merchant: MERCHANT.to_owned(),
        store: Some(store),
        // Shops and agents that believe a gateway which is ahead, and one that is right.
        clock: Some(Arc::new(Shifted(AtomicI64::new(AHEAD / 2)))),
        gateway_clock: Some(Arc::new(SystemClock)),
        ..Options::default()
    };
    let mut world = World::with(options).await;
    let clock: Arc<dyn Clock> = clock.clone();
    let address = world.open_replica_by(&clock).await;
    let right = world.alpha();
    let wrong = world.agent(0, |settings| settings.address = address);
    (world, right, wrong, server)
}

async fn until_logged(world: &World, words: &[&str]) {
    let until = Instant::now() + PATIENCE;
    while !world.log.text().lines().any(|line| words.iter().all(|word| line.contains(word))) {
        assert!(Instant::now() < until, "no {words:?} in {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_ahead_gives_no_claim_up_early() {
    let clock = Arc::new(Shifted(AtomicI64::new(AHEAD)));
    let (world, right, wrong, _server) = two(&clock).await;
    let purchase = Purchase::lost(&world, &right, Behaviour::ResetBefore).await;
    assert_unknown(&purchase.complete(&wrong).await);
    assert_eq!(purchase.sent(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_clock_is_set_goes_on_by_the_server_and_says_whose_moved() {
    let clock = Arc::new(Shifted::default());
    let (world, right, wrong, _server) = two(&clock).await;
    let purchase = Purchase::lost(&world, &right, Behaviour::ResetBefore).await;
    for (step, direction) in [(AHEAD, "forward"), (-7_200_000, "back")] {
        clock.0.store(step, Ordering::SeqCst);
        assert_unknown(&purchase.complete(&wrong).await);
        until_logged(&world, &["clock_set", "\"ours\"", direction]).await;
        // The server has been asked again since.
        assert_unknown(&purchase.complete(&wrong).await);
        // Signatures, tokens and leases there go by the server too.
        assert_eq!(purchase.token_status(&wrong).await, "claimed");
        let other = Purchase::ready(&wrong).await;
        assert_eq!(other.complete(&wrong).await.status, 200);
    }
    assert_eq!(purchase.sent(&world), 1);
    assert!(!world.log.text().contains("\"whose\":\"store\""), "{}", world.log.text());
}
