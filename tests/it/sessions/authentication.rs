//! 3-D Secure: the gateway carries what issuer and agent say, and judges neither.
//!
//! The gateway carries what the issuer asks and what the agent found out, whatever it is, and judges
//! neither.

use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::{Value, json};

use super::{SESSIONS, counted, path_of, post, standing};
use crate::world::*;

/// A complete request that says how 3-D Secure went.
fn authenticated(token: &str, outcome: &str) -> Value {
    let mut request = payment(token);
    request["authentication_result"] = json!({"outcome": outcome, "outcome_details": {
        "three_ds_cryptogram": "AAIBBYNoEwAAAAAAg4PyBhdAEQs=", "electronic_commerce_indicator": "05",
        "transaction_id": "f38e6948-5388-41a6-bca4-b49723c19437", "version": "2.2.0"}});
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn k4_what_3ds_asks_and_what_came_of_it_pass_unmodified() {
    let world = World::start().await;
    let alpha = world.alpha();
    for (outcome, status) in [
        ("authenticated", "completed"),
        ("attempt_acknowledged", "completed"),
        ("denied", "ready_for_payment"),
        ("rejected", "ready_for_payment"),
        // Of 2026-01-16, and of no version.
        ("failed", "ready_for_payment"),
        ("something_new", "ready_for_payment"),
    ] {
        let (session, total) = create(&alpha, "lamps").await;
        let complete_path = format!("{}/complete", path_of(&session));
        let token = mint(&alpha, "lamps", &session, SECURE_CARD, total).await;
        let asked = complete(&alpha, "lamps", &session, &token).await;
        assert_eq!(
            (asked.status.as_u16(), &asked.json()["status"]),
            (200, &json!("authentication_required"))
        );
        assert!(asked.json()["authentication_metadata"].is_object(), "{}", asked.json());
        assert_eq!(standing(&alpha, &token).await, "active", "the same token is sent again");

        let refused = complete(&alpha, "lamps", &session, &token).await;
        assert_eq!(refused.status, 400);
        let expected = json!({"type": "invalid_request", "code": "requires_3ds", "param": "$.authentication_result",
            "message": "The issuer asked to see the buyer; send authentication_result."});
        assert_eq!(refused.json(), expected);

        let request = authenticated(&token, outcome);
        let answer = post(&alpha, &complete_path, &request).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!(status)), "{outcome}");
        let received = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
        assert_eq!(received.body, request.to_string(), "{outcome}");
        let paid = status == "completed";
        assert_eq!(charges_of(&world.lamps, &session).len(), usize::from(paid), "{outcome}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn k5_a_session_that_demands_authentication_and_does_not_say_how_is_flagged() {
    let world = World::start().await;
    let alpha = world.alpha();
    let fault = "session_faults_total{fault=\"authentication_metadata_missing\"}";
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, SECURE_CARD, total).await;
    // As it should be: with its metadata, which the shop sends.
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.json()["status"], "authentication_required");
    assert_eq!(counted(&world, fault), 0);

    let mut bare = shown_session(&session);
    bare["status"] = json!("authentication_required");
    let told = Behaviour::Instead(canned(200, bare.to_string()));
    let (path, key) = (path_of(&session), "same-key");
    let complete = || alpha.post(format!("{path}/complete"), &payment(&token)).key(key);
    for (kind, call, faults) in [
        (CallKind::Complete, complete(), 1),
        // A replay is not the merchant's doing.
        (CallKind::Complete, complete(), 1),
        (CallKind::Read, alpha.get(&path), 2),
        (CallKind::Update, alpha.post(&path, &lamp_order()), 3),
    ] {
        world.lamps.behave(kind, told.clone());
        let answer = call.send().await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (200, bare.clone()),
            "{kind:?}: relayed as it is"
        );
        assert_eq!(counted(&world, fault), faults, "{kind:?}");
    }
    world.lamps.behave(CallKind::Create, Behaviour::Instead(canned(201, bare.to_string())));
    assert_eq!(post(&alpha, SESSIONS, &lamp_order()).await.status, 201);
    assert_eq!(counted(&world, fault), 4);
    let mut world = world;
    world.close().await;
    let log = world.log.text();
    let line = log.lines().find(|line| line.contains("\"session_fault\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["level"], &line["fault"]), (&json!("warn"), &json!("authentication_metadata_missing")));
    assert_eq!((&line["merchant"], &line["session"]), (&json!("lamps"), &json!(session)));
}
