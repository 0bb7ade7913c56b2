//! Answers that come when the claim has moved on, and attempts that overlap. They are made to with a
//! wall clock that jumps while an answer is waited for.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned};

use super::*;

/// Starts the complete and waits until the shop has it.
async fn underway<'w>(
    purchase: &'w Purchase<'w>,
    shop: &Shop,
    behaviour: Behaviour,
) -> impl Future<Output = Answer> + use<> {
    shop.behave_once(CallKind::Complete, behaviour);
    let call = purchase.agent.post(purchase.path("/complete"), &payment(&purchase.token));
    let call = call.key(&*purchase.key).prepare().unwrap();
    let agent = purchase.agent.clone();
    let task = tokio::spawn(async move { agent.send(&call).await.unwrap() });
    received(shop, CallKind::Complete, 1).await;
    async move { task.await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_a_read_has_settled_the_claim_is_still_the_answer() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    let first = underway(&purchase, doubt.shop(), Behaviour::HoldAfter).await;
    let shown = async || purchase.read().await.text("/status").as_deref() == Some("completed");
    doubt.until("the order", shown).await;
    assert_eq!(purchase.token_status().await, "consumed");
    assert_told(&purchase.complete().await, 409, "idempotency_in_flight");
    doubt.shop().release();
    let first = first.await;
    assert_completed(&first);
    let again = purchase.complete().await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    purchase.assert_charged_once().await;
    assert_eq!(doubt.metric("countersign_claims_total{outcome=\"charged_late\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_overlap_are_charged_once_and_told_the_same() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    let first = underway(&purchase, doubt.shop(), Behaviour::HoldBefore).await;
    assert_told(&purchase.complete().await, 409, "idempotency_in_flight");
    doubt.clock.advance(PAST_ATTEMPT);
    // The first is given up by the clock, and is still waited for.
    let second = purchase.complete().await;
    assert_told(&second, 409, "idempotency_in_flight");
    let kinds: Vec<_> = purchase.calls().iter().map(|call| call.kind).collect();
    assert_eq!(kinds, [CallKind::Complete, CallKind::Read, CallKind::Complete]);
    purchase.assert_held().await;
    doubt.shop().release();
    let first = first.await;
    assert_completed(&first);
    let again = purchase.complete().await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_from_one_of_several_attempts_releases_nothing() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase_with(DECLINED_CARD).await;
    let first = underway(&purchase, doubt.shop(), Behaviour::HoldBefore).await;
    doubt.clock.advance(PAST_ATTEMPT);
    assert_told(&purchase.complete().await, 409, "idempotency_in_flight");
    doubt.shop().release();
    assert_unknown(&first.await);
    purchase.assert_held().await;
    doubt.clock.advance(GRACE + Duration::from_secs(1));
    let told = purchase.complete().await;
    assert_eq!((told.status.as_u16(), told.text("/status").as_deref()), (200, Some("ready_for_payment")));
    assert_eq!(purchase.token_status().await, "active");
    assert_eq!(purchase.charges(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_learned_after_its_claim_was_given_up_spends_the_token_and_raises_an_alarm() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    let first = underway(&purchase, doubt.shop(), Behaviour::HoldAfter).await;
    doubt.until("the charge", async || !purchase.charges().is_empty()).await;
    // The merchant does not know its own order yet.
    let mut lie = Canned::status(200);
    lie.body = format!(r#"{{"id":"{}","status":"ready_for_payment"}}"#, purchase.session);
    doubt.shop().behave(CallKind::Read, Behaviour::Instead(lie));
    doubt.clock.advance(PAST_ATTEMPT);
    purchase.read().await;
    doubt.clock.advance(GRACE + Duration::from_secs(1));
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "active", "given up");
    doubt.shop().behave_well();
    doubt.shop().release();
    let first = first.await;
    assert_completed(&first);
    assert_eq!(doubt.metric("countersign_claims_total{outcome=\"charged_late\"}"), 1.0);
    doubt.until_logged(&["charged_late", &purchase.session]).await;
    let again = purchase.complete().await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_about_one_claim_never_spends_the_token_of_another() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(GRACE + Duration::from_secs(1));
    // A repeat reads the session, and the read takes long.
    doubt.shop().behave_once(CallKind::Read, Behaviour::HoldBefore);
    let (slow, ()) = tokio::join!(purchase.complete(), async {
        received(doubt.shop(), CallKind::Read, 1).await;
        // Meanwhile another read gives the claim up, and a second token pays; that answer is lost.
        purchase.read().await;
        assert_eq!(purchase.token_status().await, "active");
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
        let lost = purchase.complete_with_new_token().await.unwrap();
        assert_told(&lost, 502, "merchant_answer_lost");
        doubt.shop().release();
    });
    assert!(slow.status.is_client_error() || slow.status.is_server_error(), "{}", slow.json());
    assert_eq!(purchase.token_status().await, "active", "the first token paid for nothing");
    assert_eq!(purchase.read().await.text("/status").as_deref(), Some("completed"));
    let charges = purchase.charges();
    assert_eq!(charges.len(), 1);
    let paid = format!("/agentic_commerce/issued_tokens/{}", charges[0].token);
    let paid = purchase.agent.get(paid).send().await.unwrap();
    assert_eq!(paid.text("/status").as_deref(), Some("consumed"), "the token that paid is spent");
    assert_told(&purchase.complete().await, 409, "checkout_session_completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_answered_late_leaves_no_claim_half_ended() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Cancel, Behaviour::HoldBefore);
    let (canceled, ()) = tokio::join!(purchase.cancel(), async {
        received(doubt.shop(), CallKind::Cancel, 1).await;
        assert_told(&purchase.complete_anew().await, 409, "checkout_session_busy");
        doubt.clock.advance(PAST_ATTEMPT);
        // The cancel is given up by the clock; a complete begins, and its answer is lost.
        doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(500)));
        assert_eq!(purchase.complete().await.status, 500);
        doubt.shop().release();
    });
    assert_eq!(canceled.text("/status").as_deref(), Some("canceled"), "{}", canceled.json());
    // The session is closed, so claim and token are free.
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "active");
    assert_told(&purchase.complete_anew().await, 409, "checkout_session_closed");
}
