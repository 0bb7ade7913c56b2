//! Answers that a shop is told to give, instead of its own or after its work.

use countersign::quickstart::shop::Canned;
use serde_json::{Value, json};

/// An answer of exactly these bytes, said to be JSON.
pub fn canned(status: u16, body: impl Into<String>) -> Canned {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Canned { status, headers, body: body.into() }
}

/// A session as a merchant might show it, ready for payment, to be changed by the test.
pub fn shown_session(id: &str) -> Value {
    json!({
        "id": id,
        "status": "ready_for_payment",
        "currency": "usd",
        "line_items": [],
        "totals": [{"type": "total", "display_text": "Total", "amount": 9032}],
        "fulfillment_options": [],
        "messages": [],
        "links": [],
        "protocol": {"version": "2026-04-17"},
        "capabilities": {"payment": {"handlers": []}, "interventions": {"supported": []}}
    })
}
