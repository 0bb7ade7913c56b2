//! A complete in doubt at a merchant that honours keys.
//!
//! The same request is sent again until its outcome is known, and is charged once however often that is.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_the_first_request_byte_for_byte() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let path = purchase.path("/complete");
    let send = async |body: String| {
        let call = purchase.agent.call(http::Method::POST, path.clone()).key(&*purchase.key);
        call.body(body).send().await.unwrap()
    };
    for _ in 0..3 {
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
        let answer = send(payment(&purchase.token).to_string()).await;
        assert_told(&answer, 502, "merchant_answer_lost");
        doubt.clock.advance(AWAITED);
    }
    // The same JSON to the agent and to the key, other bytes.
    let answer = send(format!("{:#}", payment(&purchase.token))).await;
    assert_completed(&answer);
    let sent = purchase.completes();
    assert_eq!(sent.len(), 4);
    for again in &sent[1..] {
        assert_eq!((&again.body, &again.idempotency_key), (&sent[0].body, &sent[0].idempotency_key));
        let header = |name: &str| again.headers.get(name).cloned();
        assert_eq!(header("countersign-grant"), sent[0].headers.get("countersign-grant").cloned());
        assert_ne!(header("signature"), sent[0].headers.get("signature").cloned(), "signed anew");
    }
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_the_key_is_refused_in_doubt_too() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    purchase.complete().await;
    let other = mint(&purchase.agent, "lamps", &purchase.session, GOOD_CARD, purchase.total).await;
    let answer = purchase.complete_with(&other, &purchase.key).await;
    assert_told(&answer, 422, "idempotency_conflict");
    assert_eq!(purchase.calls().len(), 1, "the merchant heard nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_refusal_releases_nothing_and_an_agent_that_keeps_asking_is_told_after_the_grace() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase_with(DECLINED_CARD).await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(500)));
    assert_eq!(purchase.complete().await.status, 500);
    // The merchant declines what it is sent again, when it has fetched the card: it may be about to
    // charge it, for the first sending.
    doubt.clock.advance(AWAITED);
    let mut waited = Duration::ZERO;
    while waited < GRACE {
        assert_unknown(&purchase.complete().await);
        purchase.assert_held().await;
        let step = GRACE / 6;
        doubt.clock.advance(step);
        waited += step;
    }
    assert_eq!(purchase.world.lamps.redeemed().len(), 1);
    let answer = purchase.complete().await;
    assert_eq!((answer.status.as_u16(), answer.text("/status").as_deref()), (200, Some("ready_for_payment")));
    assert_eq!(purchase.token_status().await, "active");
    assert_eq!(purchase.complete().await.header("idempotent-replayed"), Some("true"));
    assert_eq!(purchase.charges(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_canceled_at_the_merchant_ends_the_claim() {
    let doubt = Doubt::start().await;
    for status in ["canceled", "expired"] {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
        assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
        let mut shown = Canned::status(200);
        shown.body = format!(r#"{{"id":"{}","status":"{status}"}}"#, purchase.session);
        doubt.shop().behave_once(CallKind::Read, Behaviour::Instead(shown));
        assert_eq!(purchase.read().await.text("/status").as_deref(), Some(status));
        assert_eq!(purchase.token_status().await, "active");
        assert_told(&purchase.complete().await, 409, "checkout_session_closed");
        assert_eq!(purchase.completes().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubt_outlives_the_process() {
    let mut doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let Purchase { session, total, token, key, .. } = purchase;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let first = doubt.world.alpha().post(path, &payment(&token)).key(&*key).send().await.unwrap();
    assert_told(&first, 502, "merchant_answer_lost");
    doubt.world.close().await;
    doubt.world.open().await;
    let purchase = Purchase { world: &doubt.world, agent: doubt.world.alpha(), session, total, token, key };
    purchase.assert_held().await;
    doubt.clock.advance(AWAITED);
    assert_completed(&purchase.complete().await);
    let sent = purchase.completes();
    assert_eq!((sent.len(), &sent[0].idempotency_key), (2, &sent[1].idempotency_key));
    assert_eq!(sent[0].body, sent[1].body);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_withdrawn_in_doubt_is_not_sent_again_and_ends_with_its_claim() {
    let doubt = Doubt::start().await;
    for done in [false, true] {
        let purchase = doubt.purchase().await;
        let lost = Behaviour::Instead(Canned::status(500));
        doubt.shop().behave_once(CallKind::Complete, lost);
        assert_eq!(purchase.complete().await.status, 500);
        let revoke = format!("/agentic_commerce/issued_tokens/{}/revoke", purchase.token);
        let revoked = purchase.agent.post(revoke, &json!({})).send().await.unwrap();
        assert_eq!((revoked.status.as_u16(), &revoked.json()["revoking"]), (200, &json!(true)));
        assert_unknown(&purchase.complete().await);
        assert_eq!(purchase.completes().len(), 1, "not sent again");
        if done {
            // The merchant had charged after all.
            let mut shown = Canned::status(200);
            shown.body = format!(r#"{{"id":"{}","status":"completed"}}"#, purchase.session);
            doubt.shop().behave_once(CallKind::Read, Behaviour::Instead(shown));
            purchase.read().await;
            assert_eq!(purchase.token_status().await, "consumed");
        } else {
            doubt.clock.advance(GRACE + Duration::from_secs(1));
            purchase.read().await;
            assert_eq!(purchase.token_status().await, "revoked");
            assert_told(&purchase.complete().await, 422, "token_revoked");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_doubt_does_not_expire() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    doubt.shop().behave(CallKind::Read, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(Duration::from_secs(48 * 3600));
    assert_eq!(purchase.token_status().await, "claimed");
    assert_unknown(&purchase.complete().await);
    doubt.shop().behave_well();
    doubt.clock.advance(BETWEEN_READS);
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}
