//! What is shown of a token, to whom, and how it is withdrawn.

use countersign::quickstart::client::{Client, Http};
use countersign::quickstart::shop::{Behaviour, CallKind};
use http::Request;
use http_body_util::Full;

use super::*;

/// Asks for the merchant's view of a token, with a bearer credential of one's choice.
async fn granted_to(world: &World, credential: Option<&str>, token: &str) -> Answer {
    let tls = world.certificates.client().unwrap();
    let client = Client::new(world.app().public_address(), tls, Http::Two);
    let uri = format!("https://{GATEWAY}/agentic_commerce/granted_tokens/{token}");
    let mut request = Request::get(uri).body(Full::default()).unwrap();
    if let Some(credential) = credential {
        let bearer = format!("Bearer {credential}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
    }
    client.send(request).await.unwrap()
}

async fn granted(world: &World, token: &str) -> Value {
    let answer = granted_to(world, Some(world.redeemer.expose()), token).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

/// Nothing of the card: neither its digits nor any member a card has.
fn assert_no_card(view: &Value) {
    let text = view.to_string();
    assert_eq!(shown_of_card(&text), None, "{text}");
    for secret in ["number", "\"cvc", "exp_month", "card", "billing"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_how_its_token_stands() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let minted_at = clock.now().to_rfc3339();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let view = issued(&alpha, &token).await;
    let until = view["expires_at"].as_str().unwrap().to_owned();
    let active = json!({
        "id": token, "status": "active", "merchant_id": "lamps", "checkout_session_id": session,
        "max_amount": total, "currency": "usd", "created": minted_at, "expires_at": until,
        "exposed": false, "attempts_remaining": 3
    });
    assert_eq!(view, active);

    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let call = complete_call(&alpha, &session, &token, "k");
    let (waiting, _) = under_way(&world, &alpha, call).await;
    assert_eq!(issued(&alpha, &token).await["status"], "claimed");
    world.lamps.release();
    assert_eq!(waiting.await.unwrap().status, 200);
    let consumed = issued(&alpha, &token).await;
    assert_eq!((&consumed["status"], &consumed["reason"]), (&json!("consumed"), &json!("consumed")));
    assert_eq!(consumed["ended_at"], json!(minted_at));

    let (_, _, withdrawn) = ready(&alpha, GOOD_CARD).await;
    revoke(&alpha, &withdrawn).await;
    let revoked = issued(&alpha, &withdrawn).await;
    assert_eq!((&revoked["status"], &revoked["reason"]), (&json!("revoked"), &json!("revoked")));
    let (_, _, left) = ready(&alpha, GOOD_CARD).await;
    clock.advance(2 * HOUR);
    let expired = issued(&alpha, &left).await;
    assert_eq!((&expired["status"], &expired["reason"]), (&json!("expired"), &json!("expired")));
    assert_eq!(expired["ended_at"], expired["expires_at"]);
    for view in [view, consumed, revoked, expired] {
        assert_no_card(&view);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_agent_that_minted_a_token_sees_or_withdraws_it() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let never = format!("{}{}", &token[..token.len() - 4], "0000");
    for (agent, token) in [(&beta, &token), (&beta, &never), (&alpha, &never)] {
        let seen = ask(agent, agent.get(format!("/agentic_commerce/issued_tokens/{token}"))).await;
        assert_eq!(told(&seen), refusal(404, "not_found"));
        assert_eq!(told(&revoke(agent, token).await), refusal(404, "not_found"));
    }
    assert_eq!(pay(&alpha, &session, &token).await.status, 200, "nobody withdrew it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_merchant_sees_what_was_granted_to_it_and_nobody_else_does() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let until = issued(&alpha, &token).await["expires_at"].clone();
    let view = granted(&world, &token).await;
    let active = json!({
        "id": token, "status": "active", "agent": "alpha", "merchant_id": "lamps",
        "checkout_session_id": session, "max_amount": total, "currency": "usd", "expires_at": until
    });
    assert_eq!(view, active);

    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let claimed = granted(&world, &token).await;
    assert_eq!(claimed["status"], "claimed");
    let expected = json!({"id": claim, "amount": total, "currency": "usd", "redeemed": false});
    assert_eq!(claimed["claim"], expected);
    world.lamps.release();
    waiting.await.unwrap();
    assert_eq!(granted(&world, &token).await["status"], "consumed");
    assert_no_card(&view);
    assert_no_card(&claimed);

    let (_, _, at_books) = {
        let (session, total) = create(&alpha, "books").await;
        let token = mint(&alpha, "books", &session, GOOD_CARD, total).await;
        (session, total, token)
    };
    let foreign = granted_to(&world, Some(world.redeemer.expose()), &at_books).await;
    assert_eq!(told(&foreign), refusal(404, "not_found"), "another merchant's token");
    for credential in [None, Some("guess"), Some(world.credentials()[0].as_str())] {
        let answer = granted_to(&world, credential, &token).await;
        assert_eq!(told(&answer), refusal(401, "unauthorized"), "{credential:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_token_stays_withdrawn_however_often_it_is_asked_for() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let path = format!("/agentic_commerce/issued_tokens/{token}/revoke");
    let first = ask(&alpha, alpha.post(&path, &json!({})).key("k")).await;
    assert_eq!((first.status.as_u16(), first.text("/status")), (200, Some("revoked".to_owned())));
    for key in ["k", "another"] {
        let again = ask(&alpha, alpha.post(&path, &json!({})).key(key)).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{key}");
    }
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(422, "token_revoked"));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
    let bodyless = ask(&alpha, alpha.call(http::Method::POST, path)).await;
    assert_eq!(bodyless.body, first.body, "a revoke needs no body");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_cannot_be_withdrawn_and_what_has_expired_need_not_be() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let (session, _, spent) = ready(&alpha, GOOD_CARD).await;
    assert_eq!(pay(&alpha, &session, &spent).await.status, 200);
    assert_eq!(told(&revoke(&alpha, &spent).await), refusal(409, "token_consumed"));
    let (_, _, old) = ready(&alpha, GOOD_CARD).await;
    clock.advance(2 * HOUR);
    let answer = revoke(&alpha, &old).await;
    assert_eq!((answer.status.as_u16(), answer.text("/status")), (200, Some("expired".to_owned())));
}

/// A complete is under way: once its card has left, it is too late; before, it leaves no more, and
/// the token ends with the complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_use_is_withdrawn_before_its_card_leaves_and_not_after() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    for _ in 0..2 {
        let revoking = revoke(&alpha, &token).await;
        let view = revoking.json();
        assert_eq!(
            (revoking.status.as_u16(), &view["status"], &view["revoking"]),
            (200, &json!("claimed"), &json!(true))
        );
    }
    let asked = Redeem {
        token: token.clone(),
        claim,
        session: session.clone(),
        amount: total,
        currency: "usd".into(),
    };
    assert_eq!(told(&redeem(&world, &asked).await), refusal(409, "token_revoked"));
    world.lamps.release();
    let declined = waiting.await.unwrap();
    assert_eq!(declined.text("/status").as_deref(), Some("ready_for_payment"), "{}", declined.json());
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["status"], &view["exposed"]), (&json!("revoked"), &json!(false)));
    assert!(world.lamps.charges().is_empty());

    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem { token: token.clone(), claim, session, amount: total, currency: "usd".into() };
    assert_eq!(redeem(&world, &asked).await.status, 200);
    assert_eq!(told(&revoke(&alpha, &token).await), refusal(409, "token_in_use"));
    world.lamps.release();
    assert_eq!(waiting.await.unwrap().text("/status").as_deref(), Some("completed"));
}
