//! Through which of a session's payment handlers it may be completed.

use countersign::quickstart::shop::Behaviour;

use super::*;

/// A complete that names this handler.
async fn through(agent: &Agent, session: &str, token: &str, handler: Option<&str>) -> Answer {
    let mut body = payment(token);
    let paying = body["payment_data"].as_object_mut().unwrap();
    match handler {
        Some(handler) => _ = paying.insert("handler_id".to_owned(), json!(handler)),
        None => _ = paying.remove("handler_id"),
    }
    ask(agent, agent.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &body)).await
}

/// The session as its shop would show it with these handlers.
fn listing(session: &str, handlers: &[&str]) -> Behaviour {
    let mut shown = shown_session(session);
    let listed = handlers.iter().map(|id| json!({"id": id, "requires_delegate_payment": true}));
    shown["capabilities"]["payment"]["handlers"] = listed.collect();
    Behaviour::Instead(canned(200, shown.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_through_a_handler_that_the_session_does_not_list_goes_nowhere() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    for unlisted in ["card_tokenised", "CARD_TOKENIZED", "card_tokenized "] {
        let refused = through(&alpha, &session, &token, Some(unlisted)).await;
        assert_eq!(told(&refused), refusal(422, "handler_unlisted"), "{unlisted}");
        assert_eq!(refused.text("/param").as_deref(), Some("$.payment_data.handler_id"));
    }
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
    assert_eq!(issued(&alpha, &token).await["attempts_remaining"], 3);
    let paid = through(&alpha, &session, &token, Some("card_tokenized")).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_that_count_are_those_of_the_answer_that_showed_the_total_last() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    world.lamps.behave_once(CallKind::Read, listing(&session, &["wallet", "points"]));
    assert_eq!(ask(&alpha, alpha.get(&path)).await.status, 200);
    let refused = through(&alpha, &session, &token, Some("card_tokenized")).await;
    assert_eq!(told(&refused), refusal(422, "handler_unlisted"));
    // An update shows them anew.
    assert_eq!(ask(&alpha, alpha.post(&path, &json!({}))).await.status, 200);
    let refused = through(&alpha, &session, &token, Some("points")).await;
    assert_eq!(told(&refused), refusal(422, "handler_unlisted"));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
    let paid = through(&alpha, &session, &token, Some("card_tokenized")).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_none_is_listed_or_none_is_named_the_merchant_decides() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Read, listing(&session, &[]));
    let path = format!("/m/lamps/checkout_sessions/{session}");
    assert_eq!(ask(&alpha, alpha.get(&path)).await.status, 200);
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(422, "{}".to_owned())));
    assert_eq!(through(&alpha, &session, &token, Some("anything")).await.status, 422);
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);
    let paid = through(&alpha, &session, &token, None).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
}
