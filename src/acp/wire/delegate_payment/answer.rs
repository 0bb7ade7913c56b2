//! The answer to a mint (rfc.delegate_payment §4.1).
//!
//! Apart from the request because nothing of the card is in reach.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;

/// The body of the 201: `{id, created, metadata}`. The metadata echoes the request's pairs with
/// `merchant_id` and `idempotency_key` (rfc.delegate_payment §2.4), which win over pairs of the same name.
pub fn minted(
    token: &TokenId,
    created: Timestamp,
    metadata: &BTreeMap<String, String>,
    merchant_id: &str,
    idempotency_key: &str,
) -> Bytes {
    #[derive(Serialize)]
    struct Minted<'a> {
        id: &'a str,
        created: String,
        metadata: BTreeMap<&'a str, &'a str>,
    }
    let mut echoed: BTreeMap<&str, &str> =
        metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    echoed.insert("merchant_id", merchant_id);
    echoed.insert("idempotency_key", idempotency_key);
    let body = Minted { id: token.as_str(), created: created.to_rfc3339(), metadata: echoed };
    // Strings and maps of strings always serialise.
    serde_json::to_vec(&body).unwrap_or_default().into()
}
