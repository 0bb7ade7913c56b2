//! The merchant's side, run: the two programs that merchants copy check real requests.
//!
//! Requests really sent through `merchant::Merchants` are checked by the two programs merchants copy, in
//! Python and for Node, and both refuse whatever was changed.
#![cfg(test)]
#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]

#[path = "merchant/programs.rs"]
mod programs;
#[path = "merchant/shop.rs"]
mod shop;

use countersign::crypto::jwt;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::Timestamp;
use countersign::domain::id::MerchantId;
use countersign::merchant::{Outbound, grant};
use serde_json::json;

use programs::{Programs, Request};
use shop::{NOW, Shop, TOKEN, amount, body, kept};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256];

/// What is different about a complete before it is sent.
type Change = fn(&Shop, &mut Outbound);

/// A shop and one complete it received.
async fn received(algorithm: Algorithm) -> (Shop, Request, Programs) {
    received_after(algorithm, |_, _| {}).await
}

/// A shop and one complete it received, of which something was different when it was sent.
async fn received_after(
    algorithm: Algorithm,
    change: impl FnOnce(&Shop, &mut Outbound),
) -> (Shop, Request, Programs) {
    let shop = Shop::open(algorithm).await;
    let mut outbound = shop.complete();
    change(&shop, &mut outbound);
    let request = shop.receive(outbound).await;
    let programs = Programs::new(&shop.jwks(), "shop", NOW + 1);
    (shop, request, programs)
}

#[tokio::test]
async fn what_the_gateway_sends_is_accepted_under_either_algorithm() {
    for algorithm in ALGORITHMS {
        let (shop, request, programs) = received(algorithm).await;
        let vouched_for = json!({
            "merchant": "shop", "agent": "agent-1", "proof": "signed", "key": "agent-key", "rid": "req \"1\"",
            "token": TOKEN, "claim": "derived-key", "amount": 1999, "currency": "usd", "attempt": 1,
            "review": true,
        });
        assert_eq!(programs.judge(&request), Ok(vouched_for));

        let mut earlier = shop.complete();
        earlier.body = kept(&json!({ "payment_data": { "token": TOKEN } }));
        let vouched_for = programs.judge(&shop.receive(earlier).await);
        assert_eq!(vouched_for.unwrap()["token"], TOKEN);

        let mut order = shop.complete();
        order.body = body(json!({ "purchase_order_number": "PO-1" }));
        order.grant = None;
        order.context.complete.as_mut().unwrap().token = None;
        assert_eq!(programs.judge(&shop.receive(order).await).unwrap()["amount"], 1999);

        let vouched_for = programs.judge(&shop.receive(shop.read()).await);
        assert_eq!(vouched_for.unwrap()["rid"], "req \"1\"");
    }
}

#[tokio::test]
async fn a_request_passes_beside_signatures_of_others() {
    let (_, mut request, programs) = received(Algorithm::Ed25519).await;
    request.headers.insert(0, ("Signature-Input".to_owned(), "edge=(\"@path\");created=1".to_owned()));
    request.headers.insert(0, ("Signature".to_owned(), "edge=:AAAA:".to_owned()));
    assert!(programs.judge(&request).is_ok());
}

#[tokio::test]
async fn nothing_covered_can_be_changed_or_taken_away() {
    let (_, request, programs) = received(Algorithm::Ed25519).await;
    let covered = request.covered();
    assert!(covered.len() >= 9, "{covered:?}");
    for name in &covered {
        let check = if name == "content-digest" { "content-digest" } else { "signature" };
        let mut changed = request.clone();
        match name.as_str() {
            "@method" => changed.method = "PUT".to_owned(),
            "@target-uri" => changed.target_uri = request.target_uri.replace("cs_1", "cs_2"),
            field => changed.header(field).push('x'),
        }
        assert_eq!(programs.judge(&changed), Err(check.to_owned()), "{name} changed");
        if !name.starts_with('@') {
            let mut without = request.clone();
            without.headers.retain(|(field, _)| field != name);
            assert_eq!(programs.judge(&without), Err(check.to_owned()), "{name} taken away");
        }
    }
    let mut changed = request;
    changed.body[7] ^= 1;
    assert_eq!(programs.judge(&changed), Err("content-digest".to_owned()));
}

#[tokio::test]
async fn a_signature_of_either_algorithm_cannot_be_changed() {
    for algorithm in ALGORITHMS {
        let (_, mut request, programs) = received(algorithm).await;
        let signature = request.header("signature");
        let byte = "countersign=:".len() + 40;
        let other = if signature.as_bytes()[byte] == b'A' { "B" } else { "A" };
        signature.replace_range(byte..=byte, other);
        assert_eq!(programs.judge(&request), Err("signature".to_owned()));
        request.header("signature").replace_range(byte..=byte, "");
        assert_eq!(programs.judge(&request), Err("signature-input".to_owned()));
    }
}

#[tokio::test]
async fn nothing_that_matters_can_be_added() {
    let (shop, complete, programs) = received(Algorithm::Ed25519).await;
    let read = shop.receive(shop.read()).await;
    for (name, value) in [("Idempotency-Key", "mine"), ("Countersign-Grant", "mine")] {
        let mut with = read.clone();
        with.headers.push((name.to_owned(), value.to_owned()));
        assert_eq!(programs.judge(&with), Err("coverage".to_owned()), "{name} added");
        let mut twice = complete.clone();
        twice.headers.push((name.to_owned(), value.to_owned()));
        assert_eq!(programs.judge(&twice), Err("signature".to_owned()), "{name} twice");
    }
    let mut twice = complete.clone();
    let input = twice.header("signature-input").clone();
    twice.headers.push(("Signature-Input".to_owned(), input));
    assert_eq!(programs.judge(&twice), Err("signature-input".to_owned()));
    let mut unsigned = complete;
    unsigned.headers.retain(|(name, _)| name != "signature");
    assert_eq!(programs.judge(&unsigned), Err("signature-input".to_owned()));
}

#[tokio::test]
async fn a_request_is_good_for_its_five_minutes_and_its_merchant() {
    let (shop, request, programs) = received(Algorithm::Ed25519).await;
    assert!(programs.at(NOW + 299).judge(&request).is_ok());
    assert_eq!(programs.at(NOW + 300).judge(&request), Err("expires".to_owned()));
    assert!(programs.at(NOW - 30).judge(&request).is_ok(), "clocks differ a little");
    assert_eq!(programs.at(NOW - 31).judge(&request), Err("created".to_owned()));
    let other = Programs::new(&shop.jwks(), "other-shop", NOW);
    assert_eq!(other.judge(&request), Err("merchant".to_owned()));
}

#[tokio::test]
async fn a_valid_signature_that_does_not_say_enough_is_refused() {
    let (shop, request, programs) = received(Algorithm::Ed25519).await;
    let covered = request.covered();
    let names: Vec<&str> = covered.iter().map(String::as_str).collect();
    assert!(programs.judge(&shop.sign_anew(&request, &names, 300, "countersign")).is_ok());
    for name in [
        "@method",
        "@target-uri",
        "content-digest",
        "idempotency-key",
        "countersign-context",
        "countersign-grant",
    ] {
        let others: Vec<&str> = names.iter().copied().filter(|other| *other != name).collect();
        let signed = shop.sign_anew(&request, &others, 300, "countersign");
        assert_eq!(programs.judge(&signed), Err("coverage".to_owned()), "without {name}");
    }
    let directory = shop.sign_anew(&request, &names, 300, "http-message-signatures-directory");
    assert_eq!(programs.judge(&directory), Err("tag".to_owned()));
    let lasting = shop.sign_anew(&request, &names, 301, "countersign");
    assert_eq!(programs.judge(&lasting), Err("expires".to_owned()));
}

#[tokio::test]
async fn only_the_gateways_keys_count() {
    for algorithm in ALGORITHMS {
        let (shop, mut request, _) = received(algorithm).await;
        let (stranger, _, programs) = received(algorithm).await;
        assert_eq!(programs.judge(&request), Err("keyid".to_owned()));
        // The stranger's key under the name of the gateway's.
        let input = request.header("signature-input");
        *input = input.replace(&shop.keyid(), &stranger.keyid());
        assert_eq!(programs.judge(&request), Err("signature".to_owned()));
    }
}

#[tokio::test]
async fn a_context_that_cannot_be_read_is_refused() {
    let (shop, mut request, programs) = received(Algorithm::Ed25519).await;
    *request.header("countersign-context") = "merchant=\"shop\", agent=(1)".to_owned();
    let covered = request.covered();
    let names: Vec<&str> = covered.iter().map(String::as_str).collect();
    let signed = shop.sign_anew(&request, &names, 300, "countersign");
    assert_eq!(programs.judge(&signed), Err("context".to_owned()));
}

#[tokio::test]
async fn a_grant_is_for_this_merchant_and_this_token_and_in_force() {
    let cases: [(&str, Change); 8] = [
        ("grant", |_, sent| sent.grant = None),
        ("grant-typ", |shop, sent| sent.grant = Some(shop.jwt(shop.signing_key(), "EdDSA", "JWT"))),
        ("grant-aud", |shop, sent| {
            let mut allowance = shop.allowance();
            allowance.merchant = MerchantId::parse("other-shop").unwrap();
            sent.grant = Some(shop.grant(&allowance));
        }),
        ("grant-exp", |shop, sent| {
            let mut allowance = shop.allowance();
            allowance.expires_at = Timestamp::from_unix_seconds(NOW + 1);
            sent.grant = Some(shop.grant(&allowance));
        }),
        ("grant-jti", |_, sent| {
            let other = TOKEN.replace('a', "b");
            sent.body = body(json!({ "instrument": { "credential": { "token": other } } }));
        }),
        ("grant-jti", |_, sent| sent.body = body(json!("of no known shape"))),
        ("currency", |_, sent| sent.context.complete.as_mut().unwrap().checked = amount(1, "eur")),
        ("amount", |_, sent| sent.context.complete.as_mut().unwrap().checked = amount(2001, "usd")),
    ];
    for (check, change) in cases {
        let (_, request, programs) = received_after(Algorithm::Ed25519, change).await;
        assert_eq!(programs.judge(&request), Err(check.to_owned()));
    }
    let all = |_: &Shop, sent: &mut Outbound| {
        sent.context.complete.as_mut().unwrap().checked = amount(2000, "usd");
    };
    let (_, request, programs) = received_after(Algorithm::Ed25519, all).await;
    assert!(programs.judge(&request).is_ok(), "the maximum itself");
}

#[tokio::test]
async fn a_grant_is_signed_by_the_gateway() {
    let cases: [fn(&Shop) -> String; 5] = [
        |_| "not.a.grant".to_owned(),
        |shop| shop.grant(&shop.allowance()).rsplit_once('.').unwrap().0.to_owned(),
        // A key the gateway does not have, under its own name and under the gateway's.
        |shop| {
            let stranger = SigningKey::generate(Algorithm::Ed25519).unwrap().0;
            jwt::sign(&stranger, &stranger.public().thumbprint(), grant::TYP, &shop.claims()).unwrap()
        },
        |shop| shop.jwt(&SigningKey::generate(Algorithm::Ed25519).unwrap().0, "EdDSA", grant::TYP),
        // The gateway's key, and another algorithm's name.
        |shop| shop.jwt(shop.signing_key(), "HS256", grant::TYP),
    ];
    for (number, make) in cases.into_iter().enumerate() {
        let change = |shop: &Shop, sent: &mut Outbound| sent.grant = Some(make(shop));
        let (_, request, programs) = received_after(Algorithm::Ed25519, change).await;
        assert_eq!(programs.judge(&request), Err("grant-signature".to_owned()), "case {number}");
    }
}
