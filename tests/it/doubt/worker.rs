//! No agent asks again: the worker finds out by itself.

use countersign::quickstart::shop::{Behaviour, CallKind};

use super::*;

/// The worker's first look at a claim comes this long after its last attempt.
const FIRST_LOOK: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_in_the_session_and_given_to_whoever_asks_later() {
    for doubt in [Doubt::start().await, Doubt::keyless().await] {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
        assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
        assert_eq!(purchase.token_status().await, "claimed");
        doubt.clock.advance(FIRST_LOOK);
        doubt.until("the charge", async || purchase.token_status().await == "consumed").await;
        let charged = || doubt.metric("countersign_claims_total{outcome=\"charged\"}");
        doubt.until("the count", async || charged() == 1.0).await;
        let late = purchase.complete().await;
        assert_eq!(late.header("idempotent-replayed"), None, "the session as it stands is the answer");
        assert_completed(&late);
        let again = purchase.complete().await;
        assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &late.body));
        assert_eq!(purchase.completes().len(), 1);
        purchase.assert_charged_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_never_arrived_is_given_up_after_the_grace_and_its_token_works_again() {
    for doubt in [Doubt::start().await, Doubt::keyless().await] {
        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetBefore);
        assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
        doubt.clock.advance(FIRST_LOOK);
        received(doubt.shop(), CallKind::Read, 1).await;
        purchase.assert_held().await;
        doubt.clock.advance(GRACE);
        doubt.until("the release", async || purchase.token_status().await == "active").await;
        let released = || doubt.metric("countersign_claims_total{outcome=\"released\"}");
        doubt.until("the count", async || released() == 1.0).await;
        assert_completed(&purchase.complete_anew().await);
        assert_eq!(purchase.charges().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_tell_is_counted_and_looked_at_again_and_again() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.shop().behave(CallKind::Read, Behaviour::ResetBefore);
    for look in 1..=4 {
        doubt.clock.advance(GRACE * 4);
        received(doubt.shop(), CallKind::Read, look).await;
        // What came of the first is kept before the clock moves on.
        doubt.until_logged(&[r#""event":"session_unread""#, &purchase.session]).await;
    }
    let gauge = |name: &str| doubt.metric(&format!("countersign_unresolved_{name}{{kind=\"in_doubt\"}}"));
    doubt.until("the gauge", async || gauge("claims") == 1.0).await;
    doubt.until("its age", async || gauge("oldest_seconds") >= GRACE.as_secs_f64()).await;
    purchase.assert_held().await;
    doubt.shop().behave_well();
    doubt.clock.advance(GRACE * 4);
    doubt.until("the charge", async || purchase.token_status().await == "consumed").await;
    doubt.clock.advance(GRACE);
    doubt.until("the gauge", async || gauge("claims") == 0.0 && gauge("oldest_seconds") == 0.0).await;
    assert_completed(&purchase.complete().await);
    purchase.assert_charged_once().await;
}
