//! A bad signature that is verified together with good ones.

use std::sync::Arc;
use std::time::Duration;

use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::{Clock as _, ManualClock, SystemClock};
use countersign::quickstart::agent::Agent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::*;

/// How many signatures were computed alone, together, and again after a split.
async fn computed(world: &World) -> [u64; 3] {
    let text = scrape(world).await;
    ["alone", "together", "split"].map(|how| {
        let name = format!("countersign_signatures_computed_total{{how=\"{how}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    })
}

async fn scrape(world: &World) -> String {
    let mut stream = TcpStream::connect(world.app().admin_address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Sends all of these at once: whose settings, how often, and the status each is to have.
async fn at_once(agents: &[(&Arc<Agent>, usize, u16)], path: &str) {
    let mut under_way = JoinSet::new();
    for (agent, times, status) in agents {
        for _ in 0..*times {
            let (agent, path, status) = (Arc::clone(agent), path.to_owned(), *status);
            under_way.spawn(async move {
                let answer = agent.get(path).send().await.unwrap();
                assert_eq!(answer.status, status, "{}", answer.json());
            });
        }
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signature_among_good_ones_refuses_its_own_request_alone() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let world = World::with(Options { clock: Some(clock.clone()), ..Options::default() }).await;
    let other = Arc::new(SigningKey::generate(Algorithm::Ed25519).unwrap().0);
    let (alpha, beta) = (Arc::new(world.alpha()), Arc::new(world.beta()));
    let forger = Arc::new(world.agent(1, |settings| settings.key = Arc::clone(&other)));
    let (session, _) = create(&alpha, "lamps").await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    // Who meets whom is the scheduler's choice: again, until it was in company.
    let mut rounds = 0;
    let [alone, together, split] = loop {
        at_once(&[(&alpha, 12, 200), (&forger, 1, 401), (&alpha, 12, 200)], &path).await;
        let [alone, together, split] = computed(&world).await;
        if together > 0 && split > 0 {
            break [alone, together, split];
        }
        rounds += 1;
        assert!(rounds < 15, "alone {alone}, together {together}, split {split}");
        // Until the forger may have company again.
        clock.advance(Duration::from_secs(60));
    };
    // The forger's credential is verified alone from now on, good or bad; the others together.
    at_once(&[(&alpha, 12, 200), (&beta, 3, 404), (&forger, 2, 401), (&alpha, 12, 200)], &path).await;
    let [alone_after, together_after, split_after] = computed(&world).await;
    assert!(alone_after >= alone + 5, "{alone_after} after {alone}");
    assert_eq!(split_after, split);
    assert_eq!(alone_after + together_after, alone + together + 29);
}
