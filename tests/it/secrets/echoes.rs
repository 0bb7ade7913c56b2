//! Merchants that repeat what they were told.
//!
//! The card they redeemed, its security code, and the gateway's own credential, in errors of every
//! envelope, pages, headers, redirects and successes.

use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::json;

use super::drive::Driven;
use super::leaks;
use super::needles::{CARDS, CRYPTOGRAM, CVC, NETWORK_TOKEN, Needles};
use crate::world::*;

fn canned(status: u16, media_type: &str, body: impl Into<String>) -> Canned {
    Canned { status, headers: vec![("content-type".to_owned(), media_type.to_owned())], body: body.into() }
}

fn answered(status: u16, body: serde_json::Value) -> Canned {
    canned(status, "application/json", body.to_string())
}

/// Answers that hold a card and its code.
fn card_echoes(card: &str) -> Vec<Canned> {
    let grouped =
        card.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap()).collect::<Vec<_>>();
    let (dashed, spaced) = (grouped.join("-"), grouped.join(" "));
    let text = format!("{card} and {dashed} and {spaced}, CVC {CVC}");
    let page = format!("<html><body><pre>number={card} cvc={CVC}</pre></body></html>");
    let mut echoes = Vec::new();
    for status in [400, 402, 409, 422, 429, 500, 502, 503] {
        echoes.push(answered(status, json!({"type": "invalid_request", "code": card, "message": text, "param": format!("$.{card}"), "number": card})));
        echoes.push(answered(
            status,
            json!({"error": {"type": text, "code": format!("card_{card}"), "message": text}}),
        ));
        echoes.push(canned(status, "text/html", page.clone()));
    }
    echoes.extend([
        answered(400, json!({"error": text})),
        answered(400, json!({"detail": {"message": text}})),
        answered(
            422,
            json!({"detail": [{"loc": ["body", card, 0], "msg": text, "type": card, "input": card}]}),
        ),
        answered(400, json!({"message": format!("{}{card}", "x".repeat(500))})),
        answered(400, json!({"message": card, "supported_versions": [card]})),
        canned(400, "text/plain", text.clone()),
        canned(400, "application/json", format!("{{\"message\":\"{card}")),
        canned(400, &format!("application/{card}"), page.clone()),
        canned(200, "text/html", page.clone()),
        canned(200, "application/json", card),
        canned(201, "application/json", format!("[\"{card}\"")),
        canned(401, "application/json", text.clone()),
        canned(403, "text/html", page),
    ]);
    for status in [301, 303, 307, 308] {
        let location = format!("https://evil.test/?card={card}");
        echoes.push(canned(status, "text/plain", text.clone()).with_header("location", &location));
    }
    let headers = [
        "set-cookie",
        "retry-after",
        "content-language",
        "cache-control",
        "request-id",
        "idempotency-key",
        "www-authenticate",
        "signature",
        "x-card",
        "server",
    ];
    echoes.push(headers.iter().fold(answered(400, json!({})), |canned, name| canned.with_header(name, card)));
    echoes
}

/// Answers that hold the credential which the gateway presents.
fn credential_echoes(credential: &str) -> Vec<Canned> {
    let text = format!("Bearer {credential} may not do this");
    let mut echoes = Vec::new();
    for status in [400, 401, 403, 404, 409, 500] {
        echoes.push(answered(
            status,
            json!({"code": credential, "message": text, "param": format!("$.{credential}")}),
        ));
        echoes.push(canned(status, "text/html", text.clone()));
    }
    echoes.push(answered(422, json!({"detail": [{"loc": ["header", credential], "msg": text}]})));
    echoes.push(answered(200, json!({"id": "cs_1", "note": text})).with_header("authorization", &text));
    echoes
}

/// What agents may not be told either.
fn told(driven: &mut Driven, answer: &Answer) {
    driven.keep("an echo", answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_merchant_repeats_goes_nowhere() {
    let mut driven = Driven::start().await;
    let alpha = driven.alpha.clone();
    for (echo, card) in card_echoes(CARDS[0]).into_iter().zip(CARDS[..5].iter().cycle()) {
        // The same answer about the card that was just redeemed.
        let body = echo.body.replace(CARDS[0], card);
        let echo = Canned { body, ..echo };
        let (session, token) = driven.tokened(card).await;
        for kind in [CallKind::Complete, CallKind::Read, CallKind::Update, CallKind::Create] {
            driven.world.lamps.behave_once(kind, Behaviour::After(echo.clone()));
        }
        let path = format!("/m/lamps/checkout_sessions/{session}");
        let update = json!({"buyer": {"email": "a@example.com"}});
        for call in [
            alpha.get(path.as_str()),
            alpha.post(path.as_str(), &update),
            alpha.post("/m/lamps/checkout_sessions", &lamp_order()),
        ] {
            let answer = call.send().await.unwrap();
            // A success goes to the agent byte for byte: the card is its own.
            if !answer.status.is_success() {
                told(&mut driven, &answer);
            }
        }
        driven.world.lamps.behave_well();
        driven.world.lamps.behave_once(CallKind::Complete, Behaviour::After(echo));
        let answer = complete(&alpha, "lamps", &session, &token).await;
        assert!(!answer.status.is_success(), "{}", answer.json());
        told(&mut driven, &answer);
        driven.world.lamps.behave_well();
    }
    let (session, token) = driven.tokened(CARDS[1]).await;
    driven.world.lamps.behave_once(CallKind::Complete, Behaviour::EchoCard);
    assert_eq!(driven.complete(&session, &token).await.status, 402);
    check(driven).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_s_credential_is_not_told_on() {
    let mut driven = Driven::start().await;
    let alpha = driven.alpha.clone();
    let file = driven.world.directory.path().join("lamps.credential");
    let credential = std::fs::read_to_string(file).unwrap();
    for echo in credential_echoes(&credential) {
        let (session, token) = driven.tokened(CARDS[0]).await;
        driven.world.lamps.behave_once(CallKind::Read, Behaviour::After(echo.clone()));
        let read = alpha.get(format!("/m/lamps/checkout_sessions/{session}")).send().await.unwrap();
        told(&mut driven, &read);
        driven.world.lamps.behave_once(CallKind::Complete, Behaviour::After(echo));
        let answer = complete(&alpha, "lamps", &session, &token).await;
        told(&mut driven, &answer);
        driven.world.lamps.behave_well();
    }
    check(driven).await;
}

/// The card, the cryptogram and the code in a success: relayed, because they are the agent's own,
/// recorded for its retry, and nowhere in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_holds_a_card_is_kept_sealed() {
    let mut driven = Driven::start().await;
    for card in [CARDS[0], NETWORK_TOKEN] {
        let (session, token) = driven.tokened(card).await;
        let body = json!({"id": session, "status": "completed", "order": {"id": "o"}, "card": card, "cryptogram": CRYPTOGRAM, "cvc": CVC});
        driven.world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(answered(200, body)));
        let alpha = driven.alpha.clone();
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");
        for replayed in [None, Some("true")] {
            let call = alpha.post(path.as_str(), &payment(&token)).key(session.as_str());
            let answer = call.send().await.unwrap();
            assert_eq!(answer.text("/card").as_deref(), Some(card));
            assert_eq!(answer.header("idempotent-replayed"), replayed);
        }
    }
    check(driven).await;
}

async fn check(mut driven: Driven) {
    let needles = Needles::of(&driven.world);
    let mut found = Vec::new();
    for (name, answer) in &driven.answers {
        let place = format!("{name}, {}", String::from_utf8_lossy(answer));
        found.extend(needles.find_in(&place, answer));
    }
    found.extend(leaks(&mut driven.world, &needles).await);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
