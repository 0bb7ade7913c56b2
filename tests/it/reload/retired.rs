//! A merchant that takes no new purchases, until what was begun there has ended.

use serde_json::json;

use super::*;

fn retire(text: &str) -> String {
    text.replacen("id = \"lamps\"\n", "id = \"lamps\"\nretired = true\n", 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_merchant_begins_nothing_finishes_what_was_begun_and_then_goes() {
    let reloading = Reloading::start(UNWATCHED).await;
    let (world, alpha) = (&reloading.world, reloading.world.alpha());
    let (unspent, total) = create(&alpha, "lamps").await;
    let spare = mint(&alpha, "lamps", &unspent, GOOD_CARD, total).await;
    let (canceled, _) = create(&alpha, "lamps").await;
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let (lost, total) = create(&alpha, "lamps").await;
    let lost_token = mint(&alpha, "lamps", &lost, GOOD_CARD, total).await;
    // One is at the merchant, which has yet to fetch the card; of another the answer was lost.
    let paying = alpha.post(format!("/m/lamps/checkout_sessions/{lost}/complete"), &payment(&lost_token));
    let paying = paying.prepare().unwrap();
    world.lamps.behave_once(CallKind::Complete, Behaviour::After(canned(500, "{}")));
    assert!(alpha.send(&paying).await.unwrap().status.is_server_error());
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&world.lamps, CallKind::Complete, 2).await;

    let good = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    reloading.rewrite(|text| retire(&text));
    let (content, said) = reloading.command("diff").await;
    let changed = "  ~ merchants lamps\n  merchant lamps takes no new purchases\n";
    assert!(content && said == format!("would apply\n{changed}"), "{said}");
    assert_eq!(status(&alpha).await, 201, "it was only tried out");
    let (content, said) = reloading.command("reload").await;
    assert!(content && said == format!("applied\n{changed}"), "{said}");
    let (content, out, errors) = told(&reloading.gateway.run(world, "check").await);
    assert!(content && out.contains("retired, without new purchases: lamps\n"), "{out}{errors}");

    // Nothing begins.
    let calls = world.lamps.calls_of(CallKind::Create).len();
    let created = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    let completed = complete(&alpha, "lamps", &unspent, &spare).await;
    for answer in [created, completed] {
        let told = (answer.status.as_u16(), answer.text("/code"));
        assert_eq!(told, (403, Some("merchant_retired".to_owned())), "{}", answer.json());
    }
    assert_eq!(try_mint(&alpha, "lamps", &unspent, GOOD_CARD, 100).await.status, 403);
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), calls);
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 2);
    // What was begun goes on: its card leaves, its answer comes, its doubt ends.
    let path = |session: &str| format!("/m/lamps/checkout_sessions/{session}");
    assert_eq!(alpha.get(path(&unspent)).send().await.unwrap().status, 200);
    let cancel = alpha.post(format!("{}/cancel", path(&canceled)), &json!({})).send().await.unwrap();
    assert_eq!(cancel.status, 200, "{}", cancel.json());
    world.lamps.release();
    assert_eq!(buying.await.unwrap().text("/status").as_deref(), Some("completed"));
    let until = Instant::now() + PATIENCE;
    while alpha.send(&paying).await.unwrap().status != 200 {
        assert!(Instant::now() < until, "its answer was lost, and the session shows the order");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.lamps.charges().len(), 2);
    assert_eq!(status(&reloading.world.beta()).await, 403);
    // Nobody else is concerned, and it may come back.
    let books = create(&alpha, "books").await;
    assert!(!books.0.is_empty());
    reloading.rewrite(|_| good.clone());
    assert!(reloading.command("reload").await.0);
    let bought = complete(&alpha, "lamps", &unspent, &spare).await;
    assert_eq!(bought.text("/status").as_deref(), Some("completed"), "{}", bought.json());
    let entry = good[good.find("\n[[merchants]]").unwrap()..].to_owned();
    let lamps = entry[..1 + entry[1..].find("\n[[merchants]]\n").unwrap()].to_owned();
    reloading.rewrite(|_| good.replace(&lamps, ""));
    let (content, said) = reloading.command("reload").await;
    assert!(content && said.starts_with("applied\n  - merchants lamps"), "{said}");
}
