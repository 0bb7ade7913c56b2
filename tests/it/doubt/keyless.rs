//! A complete in doubt at a merchant that ignores keys and charges whatever it is sent.
//!
//! It is never sent again before its grace period has passed without an order.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Change, Redeem};

use super::*;

/// Ways to lose the answer to a complete that has charged.
fn losses() -> Vec<(&'static str, Behaviour)> {
    vec![
        ("silence", Behaviour::HoldAfter),
        ("a reset", Behaviour::ResetAfter),
        ("500", Behaviour::After(Canned::status(500))),
        ("503", Behaviour::After(Canned::status(503))),
        ("a page", Behaviour::After(Canned::html(502))),
        ("303", Behaviour::After(Canned::redirect(303))),
        ("408", Behaviour::After(Canned::status(408))),
        ("another session", Behaviour::Changed(Change::OtherSession)),
        ("half an answer", Behaviour::Changed(Change::Truncated)),
    ]
}

/// What a desperate agent does, each at random; how it was answered.
async fn desperate(purchase: &Purchase<'_>, roll: u64) -> Option<Answer> {
    match roll {
        0 => Some(purchase.complete_anew().await),
        1 => purchase.complete_with_new_token().await,
        2 => Some(purchase.update().await),
        3 => Some(purchase.cancel().await),
        4 => Some(purchase.read().await),
        _ => Some(purchase.complete().await),
    }
}

/// What it may be told: nothing but these.
const TOLD: &[(u16, &str)] = &[
    (503, "outcome_unknown"),
    (409, "idempotency_in_flight"),
    (409, "checkout_session_busy"),
    (409, "token_in_use"),
    (409, "checkout_session_completed"),
    // The shop's own words about a session that has ended.
    (405, "invalid_state"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_desperate_agent_does_a_lost_answer_is_charged_once() {
    const STORMS: usize = 12;
    const AT_ONCE: usize = 4;
    let doubt = Doubt::keyless().await;
    for (seed, (name, behaviour)) in (0..).zip(losses()) {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, behaviour);
        let lost = purchase.complete().await;
        assert!(lost.status == 408 || lost.status.is_server_error(), "{name}: {}", lost.status);
        let mut dice = Dice(seed);
        for _ in 0..STORMS {
            let [a, b, c, d] = [(); AT_ONCE].map(|()| desperate(&purchase, dice.roll(8)));
            let answers = <[_; AT_ONCE]>::from(tokio::join!(a, b, c, d));
            for answer in answers.into_iter().flatten() {
                let (status, code) = (answer.status.as_u16(), answer.code().unwrap_or_default());
                let known = status == 200 || TOLD.contains(&(status, code.as_str()));
                assert!(known, "{name}, seed {seed}: {status} {code}");
            }
            // The grace period passes half way.
            doubt.clock.advance(GRACE / 5);
        }
        doubt.until("an answer", async || purchase.complete().await.status == 200).await;
        assert_eq!(purchase.completes().len(), 1, "{name}, seed {seed}: sent once");
        purchase.assert_charged_once().await;
        doubt.shop().release();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_never_arrived_is_sent_again_only_after_the_grace() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    for _ in 0..5 {
        assert_unknown(&purchase.complete().await);
        purchase.assert_held().await;
        doubt.clock.advance(GRACE / 6);
    }
    assert_eq!(purchase.completes().len(), 1);
    doubt.clock.advance(GRACE / 6 + Duration::from_secs(1));
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 2);
    purchase.assert_charged_once().await;
}

/// Whether its card was declined or it never arrived nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_is_given_up_in_doubt_was_an_attempt_at_the_card() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    for left in [2, 1, 0] {
        assert_eq!(purchase.attempts_left().await, left + 1);
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
        assert_told(&purchase.complete_anew().await, 502, "merchant_answer_lost");
        assert_eq!(purchase.attempts_left().await, left + 1, "it may be an order yet");
        doubt.clock.advance(GRACE + Duration::from_secs(1));
        assert_eq!(purchase.read().await.status, 200);
        assert_eq!(purchase.attempts_left().await, left);
    }
    assert_eq!(purchase.token_status().await, "revoked");
    assert_told(&purchase.complete_anew().await, 422, "token_attempts_exceeded");
    assert!(purchase.complete_with_new_token().await.is_some_and(|answer| answer.status == 200));
    assert_eq!(purchase.charges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_is_no_evidence_however_long_it_lasts() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    let mut other = Canned::status(200);
    other.body = r#"{"id":"cs_other","status":"ready_for_payment"}"#.to_owned();
    let mut unknown = Canned::status(200);
    unknown.body = format!(r#"{{"id":"{}","status":"shipped"}}"#, purchase.session);
    for behaviour in [
        Behaviour::Instead(Canned::status(500)),
        Behaviour::Instead(Canned::status(404)),
        Behaviour::Instead(Canned::html(200)),
        Behaviour::Instead(Canned::redirect(302)),
        Behaviour::Instead(other),
        Behaviour::Instead(unknown),
        Behaviour::ResetBefore,
        Behaviour::Changed(Change::OtherSession),
        Behaviour::Changed(Change::Truncated),
    ] {
        doubt.shop().behave(CallKind::Read, behaviour);
        doubt.clock.advance(GRACE * 2);
        assert_unknown(&purchase.complete().await);
        purchase.read().await;
        purchase.assert_held().await;
    }
    doubt.shop().behave_well();
    doubt.clock.advance(BETWEEN_READS);
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 1);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_which_the_merchant_is_still_at_work_is_waited_for() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    let mut working = Canned::status(200);
    working.body = format!(r#"{{"id":"{}","status":"complete_in_progress"}}"#, purchase.session);
    doubt.shop().behave(CallKind::Read, Behaviour::Instead(working));
    for _ in 0..3 {
        doubt.clock.advance(GRACE * 2);
        assert_unknown(&purchase.complete().await);
        purchase.assert_held().await;
    }
    doubt.shop().behave_well();
    assert_unknown(&purchase.complete().await);
    doubt.clock.advance(GRACE);
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_to_a_complete_that_was_given_up_gets_no_card() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.clock.advance(GRACE + Duration::from_secs(1));
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (again, ()) = tokio::join!(purchase.complete(), async {
        received(doubt.shop(), CallKind::Complete, 2).await;
        let [first, second] = <[_; 2]>::try_from(purchase.completes()).unwrap();
        assert_ne!(first.idempotency_key, second.idempotency_key, "a claim of its own");
        let redeem = Redeem {
            token: purchase.token.clone(),
            claim: first.idempotency_key.unwrap(),
            session: purchase.session.clone(),
            amount: purchase.total,
            currency: "usd".to_owned(),
        };
        let refused = doubt.shop().redeem(&redeem).await.unwrap().unwrap();
        assert_told(&refused, 409, "claim_unknown");
        doubt.shop().release();
    });
    assert_completed(&again);
    purchase.assert_charged_once().await;
}
