//! Whose rate is used up by what.
//!
//! A thief's by the thief's, an agent's by its own, a stranger's by its address.

use std::net::Ipv4Addr;

use countersign::quickstart::agent::Agent;
use tokio::io::AsyncWriteExt;

use crate::wire::{Raw, Received, connect_from, receive};
use crate::world::*;

/// Somewhere else, to the gateway.
const THIEF: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Requests an agent may send in one burst; next to nothing comes back while a test runs.
const BURST: usize = 6;

/// A token that nobody minted: a request that costs nothing but itself.
const NOTHING: &str = "/agentic_commerce/issued_tokens/vt_00000000000000000000000000000000";

/// A world with narrow limits.
async fn narrow() -> World {
    let mut world = World::start().await;
    let agent = |text: String| {
        let usual = "requests_per_second = 1000000\nrequest_burst = 1000000";
        let narrow = format!("requests_per_second = 1\nrequest_burst = {BURST}");
        // Of the two agents, which stand before the merchants.
        let text = text.replacen(usual, &narrow, 2);
        let failures = [("failed_authentication", 4), ("failed_signature", 4)];
        failures.into_iter().fold(text, |text, (name, burst)| {
            text.replace(&format!("{name}s_per_minute = 1000000"), &format!("{name}s_per_minute = 1"))
                .replace(&format!("{name}_burst = 1000000"), &format!("{name}_burst = {burst}"))
        })
    };
    world.reopen(&[], agent).await;
    world
}

async fn send_from(world: &World, from: Ipv4Addr, raw: &Raw) -> Received {
    let mut socket = connect_from(world, b"http/1.1", from).await;
    socket.write_all(&raw.bytes()).await.unwrap();
    receive(&mut socket).await
}

/// A read of nothing, and what the agent has left after it.
async fn remaining(agent: &Agent) -> usize {
    let answer = agent.get(NOTHING).send().await.unwrap();
    assert_eq!(answer.status, 404, "{}", answer.json());
    let quota = answer.header("ratelimit").unwrap();
    quota.split(';').find_map(|part| part.strip_prefix("r=")).unwrap().parse().unwrap()
}

fn signed(agent: &Agent) -> Raw {
    Raw::of(&agent.get(NOTHING).prepare().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_with_the_credential_and_no_key_uses_up_no_one_but_itself() {
    let world = narrow().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let credential = format!("Bearer {}", alpha.settings().credential.expose());
    let with_other_key = signed(&beta).set("authorization", &credential);
    let mint = mint_request(GOOD_CARD, "acct_lamps", "cs_1", 1);
    let unsigned = alpha.post("/agentic_commerce/delegate_payment", &mint).unsigned().prepare().unwrap();
    let mut statuses = Vec::new();
    for raw in [with_other_key, Raw::of(&unsigned)].iter().cycle().take(20) {
        statuses.push(send_from(&world, THIEF, raw).await.status.unwrap());
    }
    assert_eq!(statuses[..4], [401; 4]);
    assert_eq!(statuses[4..], [429; 16]);
    // Not even with a good signature, from there: it cannot be told from the thief before it is read.
    assert_eq!(send_from(&world, THIEF, &signed(&alpha)).await.status, Some(429));
    // Where the agent is, it has lost nothing.
    assert_eq!(remaining(&alpha).await, BURST - 1);
    assert_eq!(remaining(&beta).await, BURST - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_guesses_credentials_uses_up_its_address() {
    let world = narrow().await;
    let alpha = world.alpha();
    let guess = signed(&alpha).set("authorization", "Bearer a-guess");
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(send_from(&world, STRANGER, &guess).await.status.unwrap());
    }
    assert_eq!(statuses[..4], [401; 4]);
    assert_eq!(statuses[4..], [429; 16]);
    assert_eq!(remaining(&alpha).await, BURST - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_uses_up_its_own_rate_only() {
    let world = narrow().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let mut refused = None;
    for _ in 0..3 * BURST {
        let answer = alpha.get(NOTHING).send().await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("alpha has no limit");
    assert_eq!(refused.code().as_deref(), Some("rate_limited"));
    assert!(refused.header("retry-after").is_some());
    assert!(refused.header("ratelimit").is_some_and(|quota| quota.starts_with("\"agent\";r=0")));
    assert_eq!(remaining(&beta).await, BURST - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_with_the_bearer_alone_uses_up_what_unsigned_requests_have_and_nothing_signed() {
    let world = narrow().await;
    let alpha = world.alpha();
    let unsigned = Raw::of(&alpha.get(NOTHING).unsigned().prepare().unwrap());
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(send_from(&world, THIEF, &unsigned).await.status.unwrap());
    }
    assert_eq!(statuses[..BURST], [404; BURST]);
    assert!(statuses[BURST..].iter().filter(|status| **status == 429).count() >= 12, "{statuses:?}");
    assert_eq!(remaining(&alpha).await, BURST - 1);
    let limited = "countersign_limited_total{scope=\"agent-unsigned\"}";
    assert!(super::metric(&world.app().metrics_text(), limited).unwrap() >= 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agents_own_limit_refuses_costs_the_merchant_nothing_at_any_replica() {
    const MERCHANT: usize = BURST + 4;
    let server = tokio::task::block_in_place(|| {
        crate::redis_server::Server::start(crate::redis_server::Options::default())
    });
    let store = format!(
        "engine = \"redis\"\naccept_loss = true\nepoch_directory = \"epochs\"\nnodes = [\"{}\"]",
        server.url()
    );
    let mut world = World::closed(Options { store: Some(store), ..Options::default() }).await;
    let usual = "requests_per_second = 1000000\nrequest_burst = 1000000";
    // The first of the agents, and the first of the merchants behind both.
    let (agents, merchants) = world.text.split_at(world.text.find("[[merchants]]").unwrap());
    let narrow = |burst: usize| format!("requests_per_second = 1\nrequest_burst = {burst}");
    world.text = format!(
        "{}{}",
        agents.replacen(usual, &narrow(BURST), 1),
        merchants.replacen(usual, &narrow(MERCHANT), 1)
    );
    world.open().await;
    let replica = world.open_replica().await;
    let read = |agent: &Agent| Raw::of(&agent.get("/m/lamps/checkout_sessions/cs_none").prepare().unwrap());
    let alphas = [world.alpha(), world.agent(0, |settings| settings.address = replica)];
    let mut refused = 0;
    for alpha in alphas.iter().cycle().take(4 * BURST) {
        let answer = alpha.get("/m/lamps/checkout_sessions/cs_none").send().await.unwrap();
        assert!([404, 429].contains(&answer.status.as_u16()), "{}", answer.json());
        if answer.status == 429 {
            assert!(answer.header("ratelimit").unwrap().starts_with("\"agent\""), "{:?}", answer.headers);
            refused += 1;
        }
    }
    assert!(refused > 2 * BURST, "{refused}");
    // What the merchant takes beside alpha is there for beta.
    let beta = world.beta();
    for _ in 0..MERCHANT - BURST {
        assert_eq!(send_from(&world, STRANGER, &read(&beta)).await.status, Some(404));
    }
}
