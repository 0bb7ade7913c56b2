//! Create, update and cancel whose answers are lost: sent again with the key of their first use. At
//! worst that leaves a session nobody uses, never a charge.

use countersign::quickstart::shop::{Behaviour, CallKind};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_create_update_or_cancel_is_sent_again_as_it_was() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let update = json!({"line_items": [{"id": "item_lamp", "quantity": 2}]});
    for (kind, path, body, done) in [
        (CallKind::Create, "/m/lamps/checkout_sessions".to_owned(), lamp_order(), 201),
        (CallKind::Update, purchase.path(""), update, 200),
        (CallKind::Cancel, purchase.path("/cancel"), json!({}), 200),
    ] {
        let before = doubt.shop().calls_of(kind).len();
        let key = format!("{kind:?}");
        let send = async || purchase.agent.post(path.as_str(), &body).key(&*key).send().await.unwrap();
        for lost in [Behaviour::ResetBefore, Behaviour::ResetAfter] {
            doubt.shop().behave_once(kind, lost);
            assert_told(&send().await, 502, "merchant_answer_lost");
        }
        let answer = send().await;
        assert_eq!((answer.status.as_u16(), answer.header("idempotent-replayed")), (done, None), "{kind:?}");
        let again = send().await;
        assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &answer.body));
        let calls = &doubt.shop().calls_of(kind)[before..];
        assert_eq!(calls.len(), 3, "{kind:?}");
        for call in calls {
            assert_eq!((&call.idempotency_key, &call.body), (&calls[0].idempotency_key, &calls[0].body));
        }
    }
    assert_eq!(purchase.read().await.text("/status").as_deref(), Some("canceled"));
    assert_eq!(doubt.shop().charges(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_update_no_older_total_counts() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Update, Behaviour::ResetAfter);
    assert_told(&purchase.update().await, 502, "merchant_answer_lost");
    assert_told(&purchase.complete().await, 422, "amount_exceeds_allowance");
    assert_eq!((purchase.completes().len(), purchase.token_status().await.as_str()), (0, "active"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_repeated_after_another_brings_back_no_total() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let lamps = async |quantity: u64, key: &str| {
        let body = json!({"line_items": [{"id": "item_lamp", "quantity": quantity}]});
        purchase.agent.post(purchase.path(""), &body).key(key).send().await.unwrap()
    };
    // Done by the merchant, which answers it again as it did the first time whatever came after.
    doubt.shop().behave_once(CallKind::Update, Behaviour::ResetAfter);
    assert_told(&lamps(1, "one").await, 502, "merchant_answer_lost");
    assert_eq!(lamps(2, "two").await.status, 200);
    assert_eq!(lamps(1, "one").await.status, 200);
    assert_told(&purchase.complete().await, 422, "amount_exceeds_allowance");
    assert_eq!(purchase.completes().len(), 0);
}
