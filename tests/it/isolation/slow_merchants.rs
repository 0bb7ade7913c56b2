//! An agent floods merchants that hang, drip or are gone, and resets its streams.
//!
//! Another agent's requests to a healthy merchant stay as quick as they were, and all that was held is
//! given back.

use std::sync::Arc;
use std::time::Duration;

use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{Behaviour, CallKind};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::merchants::{Manner, Merchant, entry, nobody};
use super::{assert_kept, eventually, latencies, metric};
use crate::world::child::Gateway;
use crate::world::*;

/// Requests under way at each of the bad merchants, and what of it is one agent's.
const CONCURRENCY: u32 = 80;
const QUARTER: usize = 20;

struct Scene {
    world: World,
    gateway: Gateway,
    silent: Merchant,
    dripping: Merchant,
    handshaking: Merchant,
}

impl Scene {
    async fn start() -> Self {
        let mut world = World::closed(Options::default()).await;
        let silent = Merchant::start(Manner::Silent).await;
        let dripping = Merchant::start(Manner::Dripping).await;
        let handshaking = Merchant::start(Manner::Silent).await;
        let gone = nobody().await;
        for (id, base_url) in [
            ("silent", format!("http://{}", silent.address)),
            ("dripping", format!("http://{}", dripping.address)),
            ("handshaking", format!("https://{}", handshaking.address)),
            ("gone", format!("http://{gone}")),
        ] {
            world.text.push_str(&entry(id, &base_url, CONCURRENCY));
            std::fs::write(world.directory.path().join(format!("{id}.credential")), "credential").unwrap();
        }
        let gateway = Gateway::start(&mut world).await;
        Self { world, gateway, silent, dripping, handshaking }
    }

    /// Floods every bad merchant, and a shop whose reads hang, until it is aborted.
    async fn flood(&self) -> JoinSet<()> {
        let beta = self.world.beta();
        let (session, _) = create(&beta, "lamps").await;
        self.world.lamps.behave(CallKind::Read, Behaviour::HoldBefore);
        let mut flood = JoinSet::new();
        for merchant in ["silent", "dripping", "handshaking", "gone"] {
            flood.spawn(creates(self.world.beta(), merchant));
        }
        flood.spawn(async move {
            let mut pace = pace();
            loop {
                pace.tick().await;
                let read = beta.get(format!("/m/lamps/checkout_sessions/{session}"));
                let _ = timeout(Duration::from_millis(10), read.send()).await;
            }
        });
        flood
    }

    /// Waits until the gateway holds nothing any more of what was asked of bad merchants.
    async fn quiet(&self) {
        eventually("nothing is under way", async || {
            let metrics = self.gateway.metrics().await;
            metric(&metrics, "countersign_requests_under_way") == Some(0)
        })
        .await;
        let merchants = [&self.silent, &self.dripping, &self.handshaking];
        eventually("connections are given back", async || merchants.iter().all(|m| m.open() == 0)).await;
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> usize {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.gateway.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }
}

/// As much as a machine that runs other tests too can bear beside them.
fn pace() -> tokio::time::Interval {
    let mut pace = interval(Duration::from_millis(25));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Creates that are given up, which resets their streams, before a bad merchant can answer.
async fn creates(agent: Agent, merchant: &'static str) {
    let mut pace = pace();
    loop {
        pace.tick().await;
        let (agent, order) = (agent.clone(), lamp_order());
        tokio::spawn(async move {
            let call = agent.post(format!("/m/{merchant}/checkout_sessions"), &order);
            let _ = timeout(Duration::from_millis(10), call.send()).await;
        });
    }
}

/// Statuses of so many creates at once.
async fn statuses(agent: &Agent, merchant: &'static str, count: usize) -> Vec<u16> {
    let agent = Arc::new(agent.clone());
    let mut creates = JoinSet::new();
    for _ in 0..count {
        let agent = Arc::clone(&agent);
        creates.spawn(async move {
            let call = agent.post(format!("/m/{merchant}/checkout_sessions"), &lamp_order());
            call.send().await.unwrap().status.as_u16()
        });
    }
    creates.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_dripping_and_dead_merchants_cost_a_healthy_one_nothing() {
    let scene = Scene::start().await;
    let alpha = scene.world.alpha();
    latencies(&alpha, "books", 10).await;
    let before = latencies(&alpha, "books", 40).await;
    let mut memory = Vec::new();
    for _ in 0..2 {
        let taken = scene.silent.taken();
        let mut flood = scene.flood().await;
        // As much as one agent may have there is held before anything is measured.
        eventually("the flood has risen", async || {
            scene.silent.taken() >= taken + QUARTER && scene.dripping.open() >= QUARTER
        })
        .await;
        assert_kept(&alpha, "books", 40, before).await;
        flood.shutdown().await;
        scene.world.lamps.behave_well();
        scene.world.lamps.release();
        scene.quiet().await;
        memory.push(scene.memory());
    }
    let grown = memory[1].saturating_sub(memory[0]);
    assert!(grown < 16 << 20, "{grown} bytes after another flood: {memory:?}");

    // Every permit is back: one agent's quarter is served again (and ends in a timeout), more is
    // too much, and another agent is not touched by that.
    let beta = scene.world.beta();
    let held = tokio::join!(statuses(&beta, "silent", QUARTER), statuses(&beta, "dripping", QUARTER));
    assert_eq!(held, (vec![504; QUARTER], vec![504; QUARTER]));
    let (silent, dripping, of_alpha) = tokio::join!(
        statuses(&beta, "silent", 2 * QUARTER),
        statuses(&beta, "dripping", QUARTER + 1),
        statuses(&alpha, "silent", QUARTER)
    );
    let refused = |statuses: &[u16]| statuses.iter().filter(|status| **status == 429).count();
    assert_eq!((refused(&silent), refused(&dripping)), (QUARTER, 1));
    assert_eq!(of_alpha, vec![504; QUARTER]);
    assert_eq!(statuses(&beta, "gone", 2).await, [502, 502]);
    assert_eq!(statuses(&beta, "handshaking", 2).await, [504, 504]);
    scene.quiet().await;
    assert!(!scene.gateway.log().contains("panicked"), "{}", scene.gateway.log());
}
