//! Headers, versions, errors, discovery: what surrounds a request whatever it is about.

/// What comes back beside the body: echoes and allowed headers.
mod answers;
/// Who may ask, and what proves it.
mod credentials;
/// Two ways in, two versions of HTTP, one behaviour.
mod doors;
/// Errors, the gateway's and the merchant's, in ACP's words.
mod errors;
/// What reaches the merchant.
mod forwarded;
/// Limits on rates.
mod limits;
/// The admin listener.
mod operators;
/// What anyone may read.
mod published;
/// Values that other standards define.
mod standards;
/// `API-Version`, and a purchase in each of them.
mod versions;

use std::collections::BTreeSet;

use countersign::acp::version::Version;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{CallKind, HANDLER, RecordedCall, Shop};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::world::*;

/// The one call of that kind.
fn only_call(shop: &Shop, kind: CallKind) -> RecordedCall {
    let mut calls = shop.calls_of(kind);
    assert_eq!(calls.len(), 1, "{kind:?}");
    calls.remove(0)
}

/// Names of headers.
fn names(headers: &HeaderMap) -> BTreeSet<&str> {
    headers.keys().map(http::HeaderName::as_str).collect()
}

/// A signed call without anything in it.
async fn bare(agent: &Agent, method: &Method, path: &str) -> Answer {
    let call = agent.call(method.clone(), path);
    let call = if *method == Method::GET { call } else { call.json(&json!({})) };
    call.send().await.unwrap()
}

/// A create request in the shape of a version.
fn order_in(version: Version) -> Value {
    let mut order = lamp_order();
    if version >= Version::V2026_01_30 {
        return order;
    }
    let members = order.as_object_mut().unwrap();
    let items = members.remove("line_items").unwrap();
    members.insert("items".to_owned(), items);
    members.remove("currency");
    members.remove("capabilities");
    if version == Version::V2025_09_29 {
        let mut details = members.remove("fulfillment_details").unwrap();
        members.insert("fulfillment_address".to_owned(), details["address"].take());
    }
    order
}

/// A complete request in the shape of a version.
fn payment_in(version: Version, token: &str) -> Value {
    if version.token_in_instrument() {
        let instrument = json!({"type": "card", "credential": {"type": "spt", "token": token}});
        return json!({"payment_data": {"handler_id": HANDLER, "instrument": instrument}});
    }
    json!({"payment_data": {"token": token, "provider": "stripe"}})
}

/// An agent of that version.
fn agent_of(world: &World, version: Version) -> Agent {
    world.agent(0, |settings| settings.version = version)
}
