//! The bodies an agent sends, in the words of each version.

use serde_json::{Value, json};

use crate::acp::version::Version;
use crate::quickstart::order;

/// Moves members of one body into another.
fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// A new checkout of one item, with an address.
pub(super) fn checkout(version: Version, item: &str, currency: &str) -> Value {
    let address = order::address();
    if version.token_in_instrument() {
        let checkout = with(order::checkout(&[(item, 1)]), json!({ "currency": currency }));
        let details = json!({ "name": "Ada Lovelace", "email": "ada@example.com", "address": address });
        return with(checkout, json!({ "fulfillment_details": details }));
    }
    let items = json!({ "items": [{ "id": item, "quantity": 1 }] });
    match version {
        Version::V2025_09_29 => with(items, json!({ "fulfillment_address": address })),
        _ => {
            let details = json!({ "name": "Ada Lovelace", "email": "ada@example.com", "address": address });
            with(items, json!({ "fulfillment_details": details }))
        }
    }
}

/// The choice of a way to send it; `lines` are what it is for.
pub(super) fn choice(version: Version, kind: &str, option: &str, lines: &[String]) -> Value {
    let chosen = json!({ "option_id": option, "item_ids": lines });
    match version {
        Version::V2025_09_29 => json!({ "fulfillment_option_id": option }),
        Version::V2025_12_12 | Version::V2026_01_16 => {
            json!({ "selected_fulfillment_options": [{ "type": kind, (kind): chosen }] })
        }
        Version::V2026_01_30 | Version::V2026_04_17 => {
            json!({ "selected_fulfillment_options": [with(json!({ "type": kind }), chosen)] })
        }
    }
}

/// A buyer that no other body here has.
pub(super) fn another_buyer() -> Value {
    json!({ "first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com" })
}

/// A complete that pays with a token.
pub(super) fn payment(version: Version, handler: Option<&str>, token: &str) -> Value {
    let body = order::payment(token);
    let data = if version.token_in_instrument() {
        let data = body.get("payment_data").cloned().unwrap_or_default();
        handler.map_or(data.clone(), |handler| with(data, json!({ "handler_id": handler })))
    } else {
        json!({ "token": token, "provider": "stripe", "billing_address": order::address() })
    };
    with(body, json!({ "payment_data": data }))
}

/// The same after 3-D Secure.
pub(super) fn authenticated(payment: Value) -> Value {
    let of_sample = order::authenticated_payment("vt_any");
    with(payment, json!({ "authentication_result": of_sample.get("authentication_result") }))
}

/// The card behind a token, as a redeem answers it.
pub(super) fn card(number: &str) -> Value {
    json!({ "payment_method": order::payment_method(number), "billing_address": order::address() })
}
