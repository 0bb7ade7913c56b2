//! Many at once: one token, one key, one session, at one gateway or at two replicas of it. Whoever
//! wins, there is one order and one charge, and everybody else is told why with a stable code.
//!
//! Each race is run 25 times, or as often as `COUNTERSIGN_RACE_ROUNDS` says, over replicas
//! `COUNTERSIGN_REPLICA_RACE_ROUNDS`; `tests/run` says 60 to the first, `tests/run --long` 200.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::quickstart::agent::{Agent, Prepared};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::CallKind;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::redis_server::{self, Cluster, Server};
use crate::world::*;

/// Clients in one race.
const CLIENTS: usize = 64;
/// Connections they share.
const CONNECTIONS: usize = 8;

fn rounds(place: &Place) -> usize {
    let variable = match place {
        Place::Alone => "COUNTERSIGN_RACE_ROUNDS",
        Place::Redis(_) | Place::Cluster(_) => "COUNTERSIGN_REPLICA_RACE_ROUNDS",
    };
    std::env::var(variable).map_or(25, |rounds| rounds.parse().unwrap())
}

/// How the losers of all rounds were answered: status, code, how often.
type Losers = BTreeMap<(u16, String), usize>;

/// Where the races are run.
enum Place {
    /// One gateway with the embedded engine.
    Alone,
    /// Two replicas on one Redis.
    Redis(Box<Server>),
    /// Two replicas on a Redis Cluster.
    Cluster(Cluster),
}

/// What a race needs. The store is the last to go.
struct Arena {
    world: World,
    /// Clients that share their connections, each replica's in turn.
    agents: Vec<Agent>,
    _place: Place,
}

impl Place {
    fn redis() -> Self {
        Self::Redis(Box::new(tokio::task::block_in_place(|| Server::start(redis_server::Options::default()))))
    }

    fn cluster() -> Self {
        Self::Cluster(tokio::task::block_in_place(|| Cluster::start(&redis_server::Options::default())))
    }

    /// The lines of `[store]`, where it is shared.
    fn store(&self) -> Option<String> {
        let nodes = match self {
            Self::Alone => return None,
            Self::Redis(server) => vec![server.url()],
            Self::Cluster(cluster) => cluster.urls(),
        };
        let shared = "engine = \"redis\"\naccept_loss = true\nepoch_directory = \"epochs\"";
        Some(format!("{shared}\nnodes = {nodes:?}"))
    }

    /// A world in which 64 tokens for one session and thousands for one card are nothing unusual.
    /// The shops charge whatever is sent, however often.
    async fn open(self) -> Arena {
        let agent = "live_tokens = 1000000\nlive_tokens_per_session = 1000".to_owned();
        let store = self.store();
        let options =
            Options { agent, store, keyless_shops: true, careless_shops: true, ..Options::default() };
        let mut world = World::with(options).await;
        let mut addresses = vec![world.app().public_address()];
        if !matches!(self, Self::Alone) {
            addresses.push(world.open_replica().await);
        }
        let addresses = addresses.iter().cycle().take(CONNECTIONS);
        let agents =
            addresses.map(|address| world.agent(0, |settings| settings.address = *address)).collect();
        Arena { world, agents, _place: self }
    }
}

/// Sends all at once.
async fn race(agents: &[Agent], calls: Vec<Prepared>) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(calls.len()));
    let mut racers = JoinSet::new();
    for (agent, call) in agents.iter().cycle().zip(calls) {
        let (agent, start) = (agent.clone(), Arc::clone(&start));
        racers.spawn(async move {
            start.wait().await;
            agent.send(&call).await.unwrap()
        });
    }
    racers.join_all().await
}

fn complete_call(agent: &Agent, session: &str, token: &str, key: Option<&str>) -> Prepared {
    let call = agent.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &payment(token));
    match key {
        Some(key) => call.key(key),
        None => call,
    }
    .prepare()
    .unwrap()
}

/// Checks one round: one order, one charge, one way to say both; counts the losers.
fn judge(world: &World, session: &str, total: u64, answers: Vec<Answer>, losers: &mut Losers) {
    assert_eq!(answers.len(), CLIENTS);
    let mut orders = BTreeSet::new();
    for answer in answers {
        if answer.status == 200 {
            assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
            orders.insert(answer.text("/order/id").unwrap());
            if answer.header("idempotent-replayed").is_some() {
                *losers.entry((200, "replayed".to_owned())).or_default() += 1;
            }
        } else {
            assert!(answer.header("retry-after").is_some() || answer.status == 409, "{:?}", answer.headers);
            *losers.entry((answer.status.as_u16(), answer.code().unwrap())).or_default() += 1;
        }
    }
    let charges = charges_of(&world.lamps, session);
    assert_eq!(charges.len(), 1, "{session} was charged {charges:?}");
    assert_eq!(charges[0].amount, total);
    assert_eq!(orders, BTreeSet::from([charges[0].order.clone()]), "exactly one order is spoken of");
}

/// What the losers of all rounds may be told, and that there was a loser in every place.
fn assert_told(world: &World, losers: &Losers, rounds: usize, allowed: &[(u16, &str)]) {
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), rounds, "only winners reach the shop");
    for ((status, code), count) in losers {
        println!("{count:>6} x {status} {code}");
        assert!(allowed.contains(&(*status, code)), "{count} losers were told {status} {code}");
    }
    assert_eq!(losers.values().sum::<usize>(), rounds * (CLIENTS - 1), "one winner a round");
}

async fn one_token(place: Place) {
    let rounds = rounds(&place);
    let Arena { world, agents, _place } = place.open().await;
    let mut losers = Losers::new();
    for _ in 0..rounds {
        let (session, total) = create(&agents[0], "lamps").await;
        let token = mint(&agents[0], "lamps", &session, GOOD_CARD, total).await;
        let calls = agents.iter().cycle().take(CLIENTS);
        let calls = calls.map(|agent| complete_call(agent, &session, &token, None)).collect();
        let answers = race(&agents, calls).await;
        judge(&world, &session, total, answers, &mut losers);
    }
    assert_told(&world, &losers, rounds, &[(409, "token_in_use"), (409, "checkout_session_completed")]);
}

async fn one_key(place: Place) {
    let rounds = rounds(&place);
    let Arena { world, agents, _place } = place.open().await;
    let mut losers = Losers::new();
    for round in 0..rounds {
        let (session, total) = create(&agents[0], "lamps").await;
        let token = mint(&agents[0], "lamps", &session, GOOD_CARD, total).await;
        let key = format!("race-{round}");
        let calls = agents.iter().cycle().take(CLIENTS);
        let calls = calls.map(|agent| complete_call(agent, &session, &token, Some(&key))).collect();
        let answers = race(&agents, calls).await;
        judge(&world, &session, total, answers, &mut losers);
        let again = agents[0].send(&complete_call(&agents[0], &session, &token, Some(&key))).await.unwrap();
        assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (200, Some("true")));
    }
    assert_told(&world, &losers, rounds, &[(409, "idempotency_in_flight"), (200, "replayed")]);
}

async fn one_session(place: Place) {
    let rounds = rounds(&place);
    let Arena { world, agents, _place } = place.open().await;
    let mut losers = Losers::new();
    for _ in 0..rounds {
        let (session, total) = create(&agents[0], "lamps").await;
        let mut minting = JoinSet::new();
        for agent in &agents {
            let (agent, session) = (agent.clone(), session.clone());
            minting.spawn(async move {
                let mut tokens = Vec::new();
                for _ in 0..CLIENTS / CONNECTIONS {
                    tokens.push(mint(&agent, "lamps", &session, GOOD_CARD, total).await);
                }
                tokens
            });
        }
        let tokens = minting.join_all().await.concat();
        let calls = agents.iter().cycle().zip(&tokens);
        let calls = calls.map(|(agent, token)| complete_call(agent, &session, token, None)).collect();
        let answers = race(&agents, calls).await;
        judge(&world, &session, total, answers, &mut losers);
    }
    let busy = [(409, "checkout_session_busy"), (409, "checkout_session_completed")];
    assert_told(&world, &losers, rounds, &busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_raced_by_64_clients_pays_once() {
    one_token(Place::Alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_raced_over_two_replicas_on_redis_pays_once() {
    one_token(Place::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_raced_over_two_replicas_on_a_cluster_pays_once() {
    one_token(Place::cluster()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_raced_by_64_clients_is_one_order() {
    one_key(Place::Alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_raced_over_two_replicas_on_redis_is_one_order() {
    one_key(Place::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_raced_over_two_replicas_on_a_cluster_is_one_order() {
    one_key(Place::cluster()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_raced_with_64_tokens_and_keys_is_charged_once() {
    one_session(Place::Alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_raced_over_two_replicas_on_redis_is_charged_once() {
    one_session(Place::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_raced_over_two_replicas_on_a_cluster_is_charged_once() {
    one_session(Place::cluster()).await;
}
