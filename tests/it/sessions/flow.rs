//! Create, read, update, complete, cancel, with statuses as the merchant gave them.
//!
//! Statuses as the merchant gave them, and what an answer to complete proves.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::json;

use super::{SESSIONS, counted, path_of, post, standing};
use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn k1_every_call_is_relayed_with_the_merchants_status_and_body() {
    let world = World::start().await;
    let alpha = world.alpha();
    let created = post(&alpha, SESSIONS, &lamp_order()).await;
    assert_eq!(created.status, 201);
    let path = path_of(&created.text("/id").unwrap());
    let read = alpha.get(&path).send().await.unwrap();
    assert_eq!((read.status.as_u16(), &read.body), (200, &created.body));
    let mut more = lamp_order();
    more["line_items"] = json!([{"id": "item_lamp", "quantity": 2}]);
    let updated = post(&alpha, &path, &more).await;
    assert_eq!((updated.status.as_u16(), &updated.json()["line_items"][0]["quantity"]), (200, &json!(2)));
    let session = created.text("/id").unwrap();
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total_of(&updated.json())).await;
    let completed = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((completed.status.as_u16(), &completed.json()["status"]), (200, &json!("completed")));
    assert_eq!(completed.json()["order"]["checkout_session_id"], session);
    assert_eq!(alpha.get(&path).send().await.unwrap().body, completed.body);

    let (other, _) = create(&alpha, "lamps").await;
    let canceled = post(&alpha, format!("{}/cancel", path_of(&other)), &json!({})).await;
    assert_eq!((canceled.status.as_u16(), &canceled.json()["status"]), (200, &json!("canceled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn k1_cancel_of_a_session_that_has_ended_is_405_in_the_merchants_words() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (canceled, _) = create(&alpha, "lamps").await;
    assert_eq!(post(&alpha, format!("{}/cancel", path_of(&canceled)), &json!({})).await.status, 200);
    let (completed, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &completed, GOOD_CARD, total).await;
    assert_eq!(complete(&alpha, "lamps", &completed, &token).await.status, 200);
    for session in [canceled, completed] {
        let before = world.lamps.calls_of(CallKind::Cancel).len();
        let answer = post(&alpha, format!("{}/cancel", path_of(&session)), &json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (405, Some("invalid_state")));
        assert_eq!(world.lamps.calls_of(CallKind::Cancel).len(), before + 1, "the merchant decides");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_a_200_without_completed_is_not_recorded_as_paid() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let declined = mint(&alpha, "lamps", &session, DECLINED_CARD, total).await;
    let answer = complete(&alpha, "lamps", &session, &declined).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("ready_for_payment")));
    assert_eq!(answer.json()["messages"][0]["code"], "payment_declined");
    assert_eq!(standing(&alpha, &declined).await, "active");
    assert_eq!(counted(&world, "claims_total{outcome=\"charged\"}"), 0);
    assert_eq!(counted(&world, "token_events_total{event=\"consumed\"}"), 0);
    // The session can still be paid, with another token.
    let good = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(complete(&alpha, "lamps", &session, &good).await.json()["status"], "completed");
    assert_eq!(standing(&alpha, &good).await, "consumed");
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn k3_a_200_that_is_pending_holds_session_and_token_until_the_order_is_seen() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::PendingApproval);
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("pending_approval")));
    assert_eq!(standing(&alpha, &token).await, "claimed");
    for path in [path_of(&session), format!("{}/cancel", path_of(&session))] {
        let answer = post(&alpha, path, &json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (409, Some("checkout_session_busy")));
        assert!(answer.header("retry-after").is_some());
    }
    assert!(world.lamps.approve(&session).await);
    let read = alpha.get(path_of(&session)).send().await.unwrap();
    assert_eq!(read.json()["status"], "completed");
    assert_eq!(standing(&alpha, &token).await, "consumed");
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}
