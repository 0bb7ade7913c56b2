//! The shop's and the agent's words against the official ACP schemas, which are not part of this repository.
//!
//! Without `ACP_SPEC_DIR` these tests say so and do nothing.

use serde_json::{Map, Value, json};

use super::basket::Cart;
use super::catalogue::Catalogue;
use super::session::{Message, Session, Status};
use super::view::Viewer;
use crate::acp::version::Version;
use crate::domain::clock::Timestamp;
use crate::quickstart::order;

/// The definitions of a bundle; `None`, with a printed reason, where they are not at hand.
fn definitions(version: Version, family: &str) -> Option<Map<String, Value>> {
    let Some(directory) = std::env::var_os("ACP_SPEC_DIR") else {
        println!("skipped: ACP_SPEC_DIR is not set");
        return None;
    };
    let path =
        std::path::Path::new(&directory).join(format!("spec/{version}/json-schema/schema.{family}.json"));
    let mut bundle: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // In 2025-09-29 an order has no place in a session that allows nothing else, and a
    // quantity's `exclusiveMinimum` is a boolean (`src/acp/README.md`, "Published files").
    let definitions = bundle["$defs"].as_object_mut().unwrap();
    if version == Version::V2025_09_29 && family == "agentic_checkout" {
        definitions["CheckoutSessionBase"]["properties"]["order"] = json!({ "$ref": "#/$defs/Order" });
        definitions["Item"]["properties"]["quantity"] = json!({ "type": "number", "exclusiveMinimum": 0 });
    }
    Some(std::mem::take(definitions))
}

fn assert_valid(definitions: &Map<String, Value>, name: &str, instance: &Value) {
    let schema = json!({ "$defs": definitions, "$ref": format!("#/$defs/{name}") });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?} in {instance:#}");
}

fn sessions(catalogue: &Catalogue) -> Vec<Session> {
    let fresh = |items: &[&str]| {
        let lines = items.iter().map(|item| catalogue.line(item, 2).unwrap()).collect();
        let mut session = Session::new("cs_1".to_owned(), lines);
        session.settle_down(catalogue);
        session
    };
    let ready = || {
        let mut session = fresh(&["item_lamp", "item_notebook"]);
        let delivery = order::delivery("ship_express", "item_lamp");
        session.details = Some(delivery["fulfillment_details"].clone());
        session.buyer =
            Some(json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "a@example.com" }));
        session.settle_down(catalogue);
        session
    };
    let ended = |status, message| {
        let mut session = ready();
        session.begin_complete(false, false).unwrap();
        session.end_complete(status, message);
        session
    };
    let mut completed = ready();
    completed.complete("ord_1".to_owned());
    let mut canceled = ready();
    canceled.cancel().unwrap();
    let mut completing = ready();
    completing.begin_complete(false, false).unwrap();
    vec![
        fresh(&["item_lamp"]),
        fresh(&["item_teapot"]),
        ready(),
        completing,
        ended(Status::Ready, Some(Message::Declined)),
        ended(Status::PendingApproval, None),
        ended(Status::AuthenticationRequired, None),
        completed,
        canceled,
    ]
}

#[test]
fn sessions_are_valid_in_every_version() {
    let catalogue = Catalogue::default();
    for version in Version::NEWEST_FIRST {
        let Some(definitions) = definitions(version, "agentic_checkout") else { return };
        let viewer =
            Viewer { catalogue: &catalogue, version, merchant: "shop", base_url: "https://127.0.0.1:1" };
        for session in sessions(&catalogue) {
            // Older versions ask for a browser's fingerprint with it, or do not know it.
            if session.status == Status::AuthenticationRequired && version < Version::LATEST {
                continue;
            }
            assert_valid(&definitions, "CheckoutSessionBase", &viewer.session(&session));
        }
    }
}

#[test]
fn carts_are_valid() {
    let catalogue = Catalogue::default();
    let Some(mut all) = definitions(Version::LATEST, "agentic_checkout") else { return };
    let carts = Value::Object(definitions(Version::LATEST, "cart").unwrap()).to_string();
    let carts = carts.replace("schema.agentic_checkout.json#", "#");
    all.extend(serde_json::from_str::<Map<String, Value>>(&carts).unwrap());
    let version = Version::LATEST;
    let viewer = Viewer { catalogue: &catalogue, version, merchant: "shop", base_url: "https://127.0.0.1:1" };
    let lines = ["item_lamp", "item_teapot"].map(|item| catalogue.line(item, 1).unwrap()).to_vec();
    assert_valid(&all, "Cart", &viewer.cart(&Cart { id: "cart_1".to_owned(), lines, buyer: None }));
}

#[test]
fn what_the_agent_sends_is_valid() {
    let Some(checkout) = definitions(Version::LATEST, "agentic_checkout") else { return };
    assert_valid(&checkout, "CheckoutSessionCreateRequest", &order::checkout(&[("item_lamp", 1)]));
    assert_valid(&checkout, "CheckoutSessionUpdateRequest", &order::delivery("ship_express", "item_lamp"));
    assert_valid(&checkout, "CheckoutSessionCompleteRequest", &order::payment("vt_1"));
    assert_valid(&checkout, "CheckoutSessionCompleteRequest", &order::authenticated_payment("vt_1"));
    let delegate = definitions(Version::LATEST, "delegate_payment").unwrap();
    let until = Timestamp::from_unix_seconds(1_790_000_000);
    let mandate =
        order::Mandate { card: super::GOOD_CARD, merchant: "shop", session: "cs_1", most: 1, until };
    assert_valid(&delegate, "DelegatePaymentRequest", &order::mandate(&mandate));
}
