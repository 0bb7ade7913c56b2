//! The bodies an agent sends in ACP 2026-04-17, from checkout to payment.

use serde_json::{Value, json};

use super::shop::HANDLER;
use crate::domain::clock::Timestamp;

/// A new checkout of so many of each item. The schema knows no quantity: it is left out where it is 1.
pub fn checkout(items: &[(&str, u64)]) -> Value {
    let line = |(id, quantity): &(&str, u64)| match quantity {
        1 => json!({ "id": id }),
        _ => json!({ "id": id, "quantity": quantity }),
    };
    let lines: Vec<Value> = items.iter().map(line).collect();
    json!({
        "currency": "usd",
        "line_items": lines,
        "capabilities": { "interventions": { "supported": ["3ds"] } },
    })
}

/// Where to send it, and how.
pub fn delivery(shipping: &str, item: &str) -> Value {
    json!({
        "fulfillment_details": { "name": "Ada Lovelace", "email": "ada@example.com", "address": address() },
        "selected_fulfillment_options": [{ "type": "shipping", "option_id": shipping, "item_ids": [item] }],
    })
}

/// A billing address, and where to send it.
pub(crate) fn address() -> Value {
    json!({
        "name": "Ada Lovelace",
        "line_one": "1234 Chat Road",
        "city": "San Francisco",
        "state": "CA",
        "country": "US",
        "postal_code": "94131",
    })
}

/// What a token is to be good for.
#[derive(Clone, Copy, Debug)]
pub struct Mandate<'a> {
    /// The card.
    pub card: &'a str,
    /// The merchant it may be spent at.
    pub merchant: &'a str,
    /// The session it may be spent for.
    pub session: &'a str,
    /// How much, in minor units of the dollar.
    pub most: u64,
    /// Until when.
    pub until: Timestamp,
}

/// The sample customer's card, of this number.
pub fn payment_method(number: &str) -> Value {
    json!({
        "type": "card",
        "card_number_type": "fpan",
        "number": number,
        "exp_month": "11",
        "exp_year": "2099",
        "name": "Ada Lovelace",
        "cvc": "223",
        "display_card_funding_type": "credit",
        "virtual": false,
        "metadata": {},
    })
}

/// The body of `delegate_payment`.
pub fn mandate(mandate: &Mandate<'_>) -> Value {
    let Mandate { card, merchant, session, most, until } = *mandate;
    json!({
        "payment_method": payment_method(card),
        "allowance": {
            "reason": "one_time",
            "max_amount": most,
            "currency": "usd",
            "checkout_session_id": session,
            "merchant_id": merchant,
            "expires_at": until.to_rfc3339(),
        },
        "billing_address": address(),
        "risk_signals": [{ "type": "card_testing", "score": 5, "action": "authorized" }],
        "metadata": { "source": "quickstart" },
    })
}

/// The body of complete: pay with this token.
pub fn payment(token: &str) -> Value {
    json!({
        "buyer": { "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" },
        "payment_data": {
            "handler_id": HANDLER,
            "instrument": { "type": "card", "credential": { "type": "spt", "token": token } },
        },
    })
}

/// As [`payment`], after 3-D Secure: the issuer has seen the buyer.
pub fn authenticated_payment(token: &str) -> Value {
    let mut body = payment(token);
    if let Some(members) = body.as_object_mut() {
        let result = json!({
            "outcome": "authenticated",
            "outcome_details": {
                "three_ds_cryptogram": "AAECAwQFBgcICQoLDA0ODxAREhM=",
                "electronic_commerce_indicator": "05",
                "transaction_id": "c4e59ceb-a382-4d6a-bc87-385d591fa09d",
                "version": "2.2.0",
            },
        });
        members.insert("authentication_result".to_owned(), result);
    }
    body
}
