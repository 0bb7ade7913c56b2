//! Who is stopped while its request waits for a connection: nothing of it leaves.

use super::*;

/// The world with a relay before the first shop.
async fn relayed(options: Options) -> (World, Relay) {
    let mut world = World::closed(options).await;
    let shop = world.lamps.base_url().to_string();
    let address = shop.trim_end_matches('/').rsplit('/').next().unwrap().parse().unwrap();
    let relay = Relay::before(address).await;
    let entry = format!("base_url = \"{shop}\"");
    assert_eq!(world.text.matches(&entry).count(), 1);
    let relayed = format!("base_url = \"https://{}\"\npublic_{entry}", relay.address());
    world.text = world.text.replace(&entry, &relayed);
    world.open().await;
    (world, relay)
}

/// What `agent` is told of a request that was on its way to the shop when the agent was stopped.
async fn stopped_on_its_way(
    world: &World,
    relay: &Relay,
    request: impl Future<Output = Answer> + Send + 'static,
) -> Answer {
    relay.cut_and_hold().await;
    let sending = tokio::spawn(request);
    relay.holds_one().await;
    suspend(world, json!({"kind": "agent", "id": "alpha"})).await;
    relay.release();
    let answer = sending.await.unwrap();
    resume(world, json!({"kind": "agent", "id": "alpha"})).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_for_who_is_stopped_while_a_connection_is_opened() {
    let (world, relay) = relayed(Options { http1_shops: true, ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, token) = ready(&alpha).await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    let update = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
    let requests = [
        (CallKind::Create, alpha.post("/m/lamps/checkout_sessions", &lamp_order())),
        (CallKind::Update, alpha.post(&path, &update)),
        (CallKind::Cancel, alpha.post(format!("{path}/cancel"), &json!({}))),
        (CallKind::Complete, alpha.post(format!("{path}/complete"), &payment(&token))),
    ];
    for (kind, request) in requests {
        let before = world.lamps.calls_of(kind).len();
        let request = request.prepare().unwrap();
        let sending = (alpha.clone(), request.clone());
        let sending = async move { sending.0.send(&sending.1).await.unwrap() };
        let answer = stopped_on_its_way(&world, &relay, sending).await;
        assert_eq!(told(&answer), stopped("agent_suspended"), "{kind:?}: {}", answer.json());
        assert_eq!(world.lamps.calls_of(kind).len(), before, "{kind:?}");
        // Nothing was begun, nothing is held: with another key, as who asks anew does.
        let session = alpha.get(&path).send().await.unwrap();
        assert_eq!(session.text("/status").as_deref(), Some("ready_for_payment"), "{kind:?}");
    }
    until_logged(&world, r#""cause":"withheld""#, 4).await;
    assert_eq!(world.log.text().matches(r#""cause":"withheld""#).count(), 4, "{}", world.log.text());
    // The claim was given back and the token is free.
    let bought = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(bought.text("/status").as_deref(), Some("completed"), "{}", bought.json());
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_over_a_connection_that_many_share() {
    let (world, relay) = relayed(Options::default()).await;
    let alpha = world.alpha();
    let sending = alpha.clone();
    let creating =
        async move { sending.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap() };
    let answer = stopped_on_its_way(&world, &relay, creating).await;
    assert_eq!(told(&answer), stopped("agent_suspended"), "{}", answer.json());
    assert!(world.lamps.calls_of(CallKind::Create).is_empty());
    // The connection is there for the next.
    let (session, token) = ready(&alpha).await;
    let bought = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(bought.text("/status").as_deref(), Some("completed"), "{}", bought.json());
}
