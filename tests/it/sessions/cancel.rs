//! Cancel: whatever the reason, and without telling it again.

use countersign::quickstart::shop::{Behaviour, CallKind};
use http::Method;
use serde_json::json;

use super::{path_of, post};
use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn k8_cancel_takes_no_body_an_empty_one_and_any_reason() {
    let world = World::start().await;
    let alpha = world.alpha();
    let trace = r#"{"intent_trace":{"reason_code":"a_reason_of_2031","trace_summary":"Too dear.","metadata":{"score":1}}}"#;
    for (body, content_type) in
        [("", false), ("", true), ("{}", true), (trace, true), (r#"{"intent_trace":null}"#, true)]
    {
        let (session, _) = create(&alpha, "lamps").await;
        let call = alpha.call(Method::POST, format!("{}/cancel", path_of(&session))).body(body);
        let call = if content_type && body.is_empty() {
            call.header("content-type", "application/json")
        } else {
            call
        };
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("canceled")), "{body}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("intent_trace"), "{body}");
        let received = world.lamps.calls_of(CallKind::Cancel).pop().unwrap();
        assert_eq!((received.body, received.distrust), (body.into(), None), "the merchant is told");
    }
}

/// An intent trace and an affiliate attribution are for the merchant alone.
#[tokio::test(flavor = "multi_thread")]
async fn k8_k9_what_only_agents_may_write_never_comes_back() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    let path = path_of(&session);
    let mut leaking = shown_session(&session);
    leaking["intent_trace"] = json!({"reason_code": "price_sensitivity"});
    leaking["x_echo"] =
        json!([{"affiliate_attribution": {"provider": "p", "token": "atp_secret"}, "kept": 1}]);
    let mut clean = shown_session(&session);
    clean["x_echo"] = json!([{"kept": 1}]);
    let told = Behaviour::Instead(canned(200, leaking.to_string()));
    let attributed = json!({"affiliate_attribution": {"provider": "p", "token": "atp_secret"}});
    for (kind, call) in [
        (CallKind::Read, alpha.get(&path)),
        (CallKind::Update, alpha.post(&path, &attributed)),
        (CallKind::Create, alpha.post(super::SESSIONS, &attributed)),
        (
            CallKind::Cancel,
            alpha.post(format!("{path}/cancel"), &json!({"intent_trace": {"reason_code": "other"}})),
        ),
    ] {
        world.lamps.behave_once(kind, told.clone());
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json()), (200, clean.clone()), "{kind:?}");
    }
    let received = world.lamps.calls_of(CallKind::Update).pop().unwrap();
    assert_eq!(received.body, attributed.to_string(), "the merchant is told");
    let mut world = world;
    world.close().await;
    assert!(!world.log.text().contains("atp_secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_cancel_cancels_once() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    let path = format!("{}/cancel", path_of(&session));
    // No body at all is the same as an empty object.
    let bare = alpha.call(Method::POST, &path).key("cancel-1").send().await.unwrap();
    let empty = alpha.post(&path, &json!({})).key("cancel-1").send().await.unwrap();
    assert_eq!((bare.status.as_u16(), &bare.body), (200, &empty.body));
    assert_eq!(empty.header("idempotent-replayed"), Some("true"));
    assert_eq!(world.lamps.calls_of(CallKind::Cancel).len(), 1);
    let token = try_mint(&alpha, "lamps", &session, GOOD_CARD, 1).await;
    assert_eq!(token.status, 422, "nothing is minted for a session that has ended");
    let paid = post(&alpha, format!("{}/complete", path_of(&session)), &payment("vt_1")).await;
    assert_eq!((paid.status.as_u16(), paid.code().as_deref()), (409, Some("checkout_session_closed")));
}
