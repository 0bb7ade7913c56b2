//! The requests agents send, and what they need to remember of the answers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign::domain::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::population::Agent;
use crate::request::Draft;

/// A session of an agent, with a token for it where it was minted.
#[derive(Clone)]
pub struct Session {
    /// Whose, by number.
    pub agent: usize,
    /// At which merchant.
    pub merchant: String,
    /// Its id.
    pub id: String,
    /// A token for its total.
    pub token: Option<String>,
}

/// A text of an answer.
///
/// # Errors
/// When it is not there.
pub fn text(answer: &Value, place: &str) -> Result<String> {
    let text = answer.pointer(place).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {place} in {answer}"))?.to_owned())
}

fn path(merchant: &str, rest: &str) -> String {
    format!("/m/{merchant}/checkout_sessions{rest}")
}

fn buyer() -> Value {
    json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "phone_number": "+15551234567" })
}

fn address() -> Value {
    json!({
        "name": "Ada Lovelace", "line_one": "1 Main St", "line_two": "Apartment 7", "city": "Springfield",
        "state": "IL", "country": "US", "postal_code": "62701",
    })
}

/// A create.
pub fn create(merchant: &str) -> Draft {
    let body = json!({
        "line_items": [{ "id": "item_lamp", "quantity": 1 }],
        "currency": "usd",
        "capabilities": { "interventions": { "supported": ["3ds"] } },
        "buyer": buyer(),
        "fulfillment_details": { "name": "Ada Lovelace", "email": "ada@example.com", "address": address() },
        "locale": "en-US",
    });
    Draft::post(path(merchant, ""), body.to_string())
}

/// A read of a session.
pub fn get(merchant: &str, session: &str) -> Draft {
    Draft::get(path(merchant, &format!("/{session}")))
}

/// A mint of a token for a session, of at most `amount`.
pub fn mint(agent: &Agent, turn: usize, session: &Session, amount: u64) -> Draft {
    let card = agent.cards.get(turn % agent.cards.len().max(1)).map_or("", String::as_str);
    let last4 = card.get(12..).unwrap_or_default();
    let expires = SystemClock.now().plus(Duration::from_secs(3600)).to_rfc3339();
    let body = json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": card, "exp_month": "11", "exp_year": "2032",
            "name": "Ada Lovelace", "cvc": "737", "display_card_funding_type": "credit", "display_brand": "visa",
            "display_last4": last4, "virtual": false, "metadata": { "issuing_bank": "First" },
        },
        "allowance": {
            "reason": "one_time", "max_amount": amount, "currency": "usd", "checkout_session_id": session.id,
            "merchant_id": session.merchant, "expires_at": expires,
        },
        "billing_address": address(),
        "risk_signals": [{ "type": "card_testing", "score": 5, "action": "authorized" }],
        "metadata": { "campaign": "q4" },
    });
    Draft::post("/agentic_commerce/delegate_payment".to_owned(), body.to_string())
}

/// A complete, 1.5 KB long.
pub fn complete(merchant: &str, session: &str, token: &str) -> Draft {
    let body = json!({
        "buyer": buyer(),
        "payment_data": {
            "handler_id": "card",
            "instrument": {
                "type": "card",
                "credential": { "type": "spt", "token": token },
            },
            "billing_address": address(),
        },
        "fulfillment_details": { "name": "Ada Lovelace", "email": "ada@example.com", "address": address() },
        "affiliate_attribution": {
            "provider": "impact.com", "token": "atp_01J8Z3WXYZ9ABC", "publisher_id": "pub_123", "touchpoint": "last",
            "issued_at": "2026-04-20T12:00:00Z", "expires_at": "2026-05-20T12:00:00Z",
            "source": { "type": "url", "url": "https://publisher.example/reviews/the-best-desk-lamps-of-the-year" },
            "metadata": { "sub_id": "fall_campaign", "placement": "assistant", "ratio": 0.125, "weight": 1e-7 },
        },
        "risk_signals": { "ip_address": "203.0.113.7", "user_agent": "ShoppingAgent/4.2 (+https://agent.example/about)",
            "accept_language": "en-US,en;q=0.9", "session_id": "5f2b3c4d-8e9f-4a1b-9c2d-3e4f5a6b7c8d",
            "device_fingerprint": "d41d8cd98f00b204e9800998ecf8427e5e8ff9bf55ba3508199d22e984129be6" },
        "marketing_consents": [
            { "channel": "email", "is_subscribed": true, "text": "Send me news about lamps, once a month at most." },
            { "channel": "sms", "is_subscribed": false, "text": "Send me a message when the parcel is on its way. – Größe" },
        ],
    });
    Draft::post(path(merchant, &format!("/{session}/complete")), body.to_string())
}
