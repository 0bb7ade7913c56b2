//! Tokens of who is stopped, withdrawn for good.

use super::*;

fn counted(told: &Told) -> [u64; 3] {
    ["revoked", "at_end_of_claim", "in_use"].map(|count| told.body["tokens"][count].as_u64().unwrap())
}

async fn revoke(world: &World, subject: Value) -> Told {
    let mut body = subject;
    body["why"] = json!("a rogue loop");
    body["revoke"] = json!(true);
    let told = world.operate("POST /suspensions", Some(body)).await;
    assert_eq!(told.status, 200, "{:?}", told.body);
    told
}

async fn status_of(agent: &Agent, token: &str) -> String {
    let view = agent.get(format!("/agentic_commerce/issued_tokens/{token}")).send().await.unwrap();
    view.text("/status").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_tokens_are_withdrawn_on_two_replicas_and_counted_and_nobody_elses_are() {
    let (_server, world, replica) = two_replicas().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let there = world.agent(0, |settings| settings.address = replica);
    // The other replica mints until it is refused: whatever it minted is withdrawn.
    let minting = tokio::spawn({
        let there = there.clone();
        async move {
            let mut minted = Vec::new();
            let (session, total) = create(&there, "lamps").await;
            loop {
                let answer = try_mint(&there, "lamps", &session, GOOD_CARD, total).await;
                match answer.status.as_u16() {
                    201 => minted.push(answer.text("/id").unwrap()),
                    // As many as a session may have.
                    429 => tokio::time::sleep(Duration::from_millis(5)).await,
                    403 => return minted,
                    other => panic!("{other} {}", answer.json()),
                }
            }
        }
    });
    let mut spare = Vec::new();
    for _ in 0..20 {
        spare.push(ready(&alpha).await.1);
    }
    let (paid_session, paid) = ready(&alpha).await;
    assert_eq!(complete(&alpha, "lamps", &paid_session, &paid).await.status, 200);
    let others = ready(&beta).await;
    // One is held by a claim whose merchant has not fetched the card.
    let (held_session, held) = ready(&alpha).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), held_session.clone(), held.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&world.lamps, CallKind::Complete, 2).await;
    let told = revoke(&world, json!({"kind": "agent", "id": "alpha"})).await;
    let minted = minting.await.unwrap();
    assert_eq!(counted(&told), [u64::try_from(spare.len() + minted.len()).unwrap(), 1, 0]);
    for token in spare.iter().chain(&minted) {
        assert_eq!(status_of(&alpha, token).await, "revoked");
    }
    assert_eq!(status_of(&alpha, &paid).await, "consumed");
    world.lamps.release();
    assert_ne!(buying.await.unwrap().text("/status").as_deref(), Some("completed"));
    assert!(charges_of(&world.lamps, &held_session).is_empty());
    assert_eq!(status_of(&alpha, &held).await, "revoked");
    assert_eq!(status_of(&beta, &others.1).await, "active");
    // Said again it finds nothing more, and what is resumed stays withdrawn.
    assert_eq!(counted(&revoke(&world, json!({"kind": "agent", "id": "alpha"})).await), [0, 0, 0]);
    resume(&world, json!({"kind": "agent", "id": "alpha"})).await;
    assert_eq!(status_of(&alpha, &spare[0]).await, "revoked");
    let revoked = format!(r#""event":"tokens_revoked","kind":"agent","revoked":{}"#, counted(&told)[0]);
    until_logged(&world, &revoked, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_withdrawn_by_merchant_by_card_and_all_and_not_by_what_no_token_tells() {
    let world = World::start().await;
    let alpha = world.alpha();
    let elsewhere = async || {
        let (session, total) = create(&alpha, "books").await;
        mint(&alpha, "books", &session, "5555555555554444", total).await
    };
    let (_, lamp) = ready(&alpha).await;
    let book = elsewhere().await;
    let told = revoke(&world, json!({"kind": "merchant", "id": "lamps"})).await;
    assert_eq!(counted(&told), [1, 0, 0]);
    assert_eq!([status_of(&alpha, &lamp).await, status_of(&alpha, &book).await], ["revoked", "active"]);
    let told = revoke(&world, json!({"kind": "card", "id": book})).await;
    assert_eq!((counted(&told), status_of(&alpha, &book).await), ([1, 0, 0], "revoked".to_owned()));
    resume(&world, json!({"kind": "card", "id": book})).await;
    elsewhere().await;
    let run = world
        .run(&["suspend", "all", "--revoke", "--why", "x", "--config", "{config}", "--admin", "{admin}"])
        .await;
    let (content, out, errors) = crate::world::told(&run);
    let said =
        "all: suspended\nlive tokens: 1 revoked, 0 when their claims end, 0 whose card the merchant has\n";
    assert!(content && out == said, "{out}{errors}");
    let credential = credential_of(&world);
    for body in [
        json!({"kind": "key", "agent": "alpha", "id": "key-1", "revoke": true, "why": "x"}),
        json!({"kind": "credential", "id": credential, "revoke": true, "why": "x"}),
    ] {
        let told = world.operate("POST /suspensions", Some(body)).await;
        assert_eq!((told.status, told.body["param"].as_str()), (422, Some("$.revoke")), "{:?}", told.body);
    }
    let again = json!({"kind": "all", "revoke": true, "why": "x"});
    assert_eq!(world.operate("POST /suspensions/resume", Some(again)).await.status, 422);
}
