//! Sessions and carts: what merchants and agents say to each other, and what it means for money.
//!
//! What they say passes, and what contradicts ACP is counted. A purchase in each version is in
//! `head/versions.rs`.

/// 3-D Secure.
mod authentication;
/// Cancel.
mod cancel;
/// Carts.
mod carts;
/// Create, read, update, complete, cancel: statuses and what an answer proves.
mod flow;
/// Paying nothing: a total of zero.
mod free_orders;
/// Paying without a token.
mod purchase_orders;
/// Words nobody here knows.
mod tolerance;
/// The one number that may be charged.
mod totals;

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use serde_json::Value;

use crate::world::*;

const SESSIONS: &str = "/m/lamps/checkout_sessions";

/// Sends a body and gives back the answer.
async fn post(agent: &Agent, path: impl Into<String>, body: &Value) -> Answer {
    agent.post(path, body).send().await.unwrap()
}

fn path_of(session: &str) -> String {
    format!("{SESSIONS}/{session}")
}

/// How its agent sees a token: `active`, `claimed`, `consumed`, …
async fn standing(agent: &Agent, token: &str) -> String {
    let answer = agent.get(format!("/agentic_commerce/issued_tokens/{token}")).send().await.unwrap();
    answer.text("/status").unwrap()
}

/// A counter of the gateway's; 0 before it counts.
fn counted(world: &World, name: &str) -> u64 {
    let text = world.app().metrics_text();
    let sample = text.lines().find_map(|line| line.strip_prefix(&format!("countersign_{name} ")));
    sample.map_or(0, |value| value.parse().unwrap())
}
