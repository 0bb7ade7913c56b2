//! What agents of the world send: the usual requests of a purchase.

use countersign::domain::clock::{Clock, SystemClock};
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use serde_json::{Value, json};

use super::GOOD_CARD;

/// A create request: one lamp, ready to be paid.
pub fn lamp_order() -> Value {
    json!({
        "line_items": [{"id": "item_lamp", "quantity": 1}],
        "currency": "usd",
        "capabilities": {"interventions": {"supported": []}},
        "buyer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "fulfillment_details": {
            "name": "Ada Lovelace", "email": "ada@example.com",
            "address": {"name": "Ada Lovelace", "line_one": "1 Main St", "city": "Springfield", "state": "IL", "country": "US", "postal_code": "62701"}
        }
    })
}

/// A `delegate_payment` request.
pub fn mint_request(card: &str, merchant: &str, session: &str, amount: u64) -> Value {
    json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": card, "exp_month": "11", "exp_year": "2030",
            "name": "Ada Lovelace", "cvc": "737", "display_card_funding_type": "credit",
            "display_last4": &card[card.len() - 4..], "virtual": false, "metadata": {}
        },
        "allowance": {
            "reason": "one_time", "max_amount": amount, "currency": "usd", "checkout_session_id": session,
            "merchant_id": merchant, "expires_at": in_an_hour()
        },
        "risk_signals": [{"type": "card_testing", "score": 5, "action": "authorized"}],
        "metadata": {"campaign": "q4"}
    })
}

/// What of [`mint_request`]'s card a text shows. Three digits count where they stand alone: ids are drawn,
/// and instants have milliseconds.
pub fn shown_of_card(text: &str) -> Option<&'static str> {
    let stands_alone = |part: &str| {
        text.match_indices(part).any(|(at, _)| {
            let around = [text[..at].chars().next_back(), text[at + part.len()..].chars().next()];
            !around.into_iter().flatten().any(char::is_alphanumeric)
        })
    };
    let shown = [GOOD_CARD, "4242", "Lovelace"].into_iter().find(|part| text.contains(part));
    shown.or_else(|| stands_alone("737").then_some("737"))
}

pub fn in_an_hour() -> String {
    SystemClock.now().plus(std::time::Duration::from_secs(3600)).to_rfc3339()
}

/// A complete request of the newest version.
pub fn payment(token: &str) -> Value {
    json!({"payment_data": {"handler_id": "card_tokenized", "instrument": {"type": "card", "credential": {"type": "spt", "token": token}}}})
}

/// The session-level total of a session.
pub fn total_of(session: &Value) -> u64 {
    let totals = session["totals"].as_array().unwrap_or_else(|| panic!("no totals in {session}"));
    totals.iter().find(|total| total["type"] == "total").and_then(|total| total["amount"].as_u64()).unwrap()
}

/// Creates a session that is ready for payment; its id and total.
pub async fn create(agent: &Agent, merchant: &str) -> (String, u64) {
    let answer = agent.post(format!("/m/{merchant}/checkout_sessions"), &lamp_order()).send().await.unwrap();
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    (answer.text("/id").unwrap(), total_of(&answer.json()))
}

/// Mints a token.
pub async fn mint(agent: &Agent, merchant: &str, session: &str, card: &str, amount: u64) -> String {
    let answer = try_mint(agent, merchant, session, card, amount).await;
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    answer.text("/id").unwrap()
}

pub async fn try_mint(agent: &Agent, merchant: &str, session: &str, card: &str, amount: u64) -> Answer {
    let request = mint_request(card, merchant, session, amount);
    agent.post("/agentic_commerce/delegate_payment", &request).send().await.unwrap()
}

/// Completes with a token, under a fresh key.
pub async fn complete(agent: &Agent, merchant: &str, session: &str, token: &str) -> Answer {
    agent
        .post(format!("/m/{merchant}/checkout_sessions/{session}/complete"), &payment(token))
        .send()
        .await
        .unwrap()
}
