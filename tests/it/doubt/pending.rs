//! Purchases that wait for a person at the merchant.

use countersign::quickstart::shop::{Behaviour, CallKind};

use super::*;

async fn pending(doubt: &Doubt) -> Purchase<'_> {
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::PendingApproval);
    let first = purchase.complete().await;
    assert_eq!(first.text("/status").as_deref(), Some("pending_approval"), "{}", first.json());
    purchase.assert_held().await;
    purchase
}

/// Whatever became of it, the key's answer was "pending".
async fn assert_key_says_pending(purchase: &Purchase<'_>) {
    let again = purchase.complete().await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.text("/status").as_deref(), Some("pending_approval"));
    assert_eq!(purchase.completes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_settled_by_a_read() {
    let doubt = Doubt::start().await;
    let purchase = pending(&doubt).await;
    assert_eq!(purchase.read().await.text("/status").as_deref(), Some("pending_approval"));
    purchase.assert_held().await;
    assert!(doubt.shop().approve(&purchase.session).await);
    assert_eq!(purchase.token_status().await, "claimed", "nobody has looked yet");
    assert_eq!(purchase.read().await.text("/status").as_deref(), Some("completed"));
    assert_eq!(purchase.token_status().await, "consumed");
    assert_eq!(purchase.charges().len(), 1);
    assert_key_says_pending(&purchase).await;
    assert_told(&purchase.complete_anew().await, 409, "checkout_session_completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_settled_by_a_read_after_the_grace() {
    let doubt = Doubt::start().await;
    let purchase = pending(&doubt).await;
    doubt.shop().refuse(&purchase.session).await;
    purchase.read().await;
    purchase.assert_held().await;
    doubt.clock.advance(GRACE + Duration::from_secs(1));
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "active");
    assert_key_says_pending(&purchase).await;
    assert_completed(&purchase.complete_anew().await);
    assert_eq!(purchase.charges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_settled_by_the_worker_when_nobody_asks() {
    let doubt = Doubt::start().await;
    let (approved, refused) = (pending(&doubt).await, pending(&doubt).await);
    assert!(doubt.shop().approve(&approved.session).await);
    doubt.shop().refuse(&refused.session).await;
    doubt.clock.advance(GRACE + Duration::from_secs(10));
    doubt.until("the charge", async || approved.token_status().await == "consumed").await;
    doubt.until("the release", async || refused.token_status().await == "active").await;
    assert_eq!((approved.charges().len(), refused.charges().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_for_too_long_raises_an_alarm_and_is_held_all_the_same() {
    let merchant = "pending_max = \"1m\"".to_owned();
    let doubt = Doubt::with(Options { merchant, ..Options::default() }).await;
    let purchase = pending(&doubt).await;
    doubt.clock.advance(Duration::from_secs(61));
    doubt.until_logged(&["pending_too_long", &purchase.session]).await;
    let unresolved = "countersign_unresolved_claims{kind=\"pending\"}";
    doubt.until("the gauge", async || doubt.metric(unresolved) == 1.0).await;
    doubt.clock.advance(GRACE * 10);
    purchase.read().await;
    purchase.assert_held().await;
    assert!(doubt.shop().approve(&purchase.session).await);
    purchase.read().await;
    assert_eq!(purchase.token_status().await, "consumed");
}
