//! What an agent may mint: how many tokens, for how much, for how long, for whose session.

use super::*;

fn agent_lines(lines: &str) -> Options {
    Options { agent: lines.to_owned(), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_so_many_live_tokens_and_no_more() {
    let (world, clock) = at_rest(agent_lines("live_tokens_per_session = 2")).await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let mint = async || {
        let request = mint_request(GOOD_CARD, "lamps", &session, total);
        ask(&alpha, alpha.post(MINT, &request)).await
    };
    let first = mint().await.text("/id").unwrap();
    assert_eq!(mint().await.status, 201);
    let third = mint().await;
    assert_eq!(told(&third), refusal(429, "too_many_requests"), "{}", third.json());
    assert_eq!(third.text("/type").as_deref(), Some("rate_limit_exceeded"));
    assert!(third.header("retry-after").is_some());
    assert_eq!(self::session(&alpha).await.1, total, "another session is another matter");

    assert_eq!(revoke(&alpha, &first).await.status, 200);
    assert_eq!(mint().await.status, 201, "what is withdrawn is live no more");
    assert_eq!(mint().await.status, 429);
    clock.advance(2 * HOUR);
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["allowance"]["expires_at"] = json!(clock.now().plus(HOUR).to_rfc3339());
    assert_eq!(ask(&alpha, alpha.post(MINT, &request)).await.status, 201, "nor what has expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_has_so_many_live_tokens_and_no_more() {
    let (world, clock) = at_rest(agent_lines("live_tokens = 3\nlive_tokens_per_session = 1")).await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(ready(&alpha, GOOD_CARD).await);
    }
    let (session, total) = session(&alpha).await;
    let mint = async |hours: u32| {
        let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
        request["allowance"]["expires_at"] = json!(clock.now().plus(HOUR * hours).to_rfc3339());
        ask(&alpha, alpha.post(MINT, &request)).await
    };
    assert_eq!(told(&mint(1).await), refusal(429, "too_many_requests"));
    ready(&beta, GOOD_CARD).await;
    // Spent, withdrawn and worn out are live no more; refused mints never were.
    assert_eq!(pay(&alpha, &tokens[0].0, &tokens[0].2).await.status, 200);
    assert_eq!(mint(1).await.status, 201);
    assert_eq!(mint(1).await.status, 429);
    assert_eq!(revoke(&alpha, &tokens[1].2).await.status, 200);
    let (another, total, _) = ready(&alpha, GOOD_CARD).await;
    let full = mint_request(GOOD_CARD, "lamps", &another, total);
    assert_eq!(ask(&alpha, alpha.post(MINT, &full)).await.status, 429);
    // Two hours on, all have expired.
    clock.advance(2 * HOUR);
    assert_eq!(mint(1).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_no_longer_than_its_agents_tokens_may() {
    let (world, clock) = at_rest(agent_lines("token_life = \"2h\"")).await;
    let alpha = world.alpha();
    let until = |after: Duration| json!(clock.now().plus(after).to_rfc3339());
    let exact = mint_changed(&alpha, set("/allowance/expires_at", Some(until(2 * HOUR)))).await;
    assert_eq!(exact.status, 201, "{}", exact.json());
    let longer = until(2 * HOUR + Duration::from_millis(1));
    let longer = mint_changed(&alpha, set("/allowance/expires_at", Some(longer))).await;
    assert_eq!(told(&longer), refusal(422, "invalid_card"));
    assert_eq!(longer.text("/param").as_deref(), Some("$.allowance.expires_at"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_no_more_than_its_agents_ceiling() {
    let ceiling =
        "token_ceiling = [{ amount = 10000, currency = \"usd\" }, { amount = 5, currency = \"eur\" }]";
    let world = World::with(agent_lines(ceiling)).await;
    let alpha = world.alpha();
    let mint = async |amount: u64, currency: &str| {
        let currency = currency.to_owned();
        let answer = mint_changed(&alpha, |request| {
            request["allowance"]["max_amount"] = json!(amount);
            request["allowance"]["currency"] = json!(currency);
        });
        answer.await.status.as_u16()
    };
    assert_eq!((mint(10_000, "usd").await, mint(10_001, "usd").await), (201, 403));
    assert_eq!((mint(5, "eur").await, mint(6, "eur").await), (201, 403));
    assert_eq!(mint(1, "gbp").await, 403, "no ceiling in this currency: none is allowed in it");
    let metrics = world.app().metrics_text();
    assert!(metrics.contains(r#"countersign_refusals_total{reason="over_agent_ceiling"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"countersign_refusals_total{reason="currency_not_allowed"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_mints_for_a_session_that_is_not_theirs_or_not_open() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let mint = async |agent: &Agent, merchant: &str, session: &str| {
        let answer = ask(agent, agent.post(MINT, &mint_request(GOOD_CARD, merchant, session, total))).await;
        (answer.status.as_u16(), answer.text("/param").unwrap_or_default())
    };
    let no_session = (422, "$.allowance.checkout_session_id".to_owned());
    assert_eq!(mint(&beta, "lamps", &session).await, no_session, "another agent's");
    assert_eq!(mint(&alpha, "books", &session).await, no_session, "another merchant's");
    assert_eq!(mint(&alpha, "lamps", "cs_never_seen").await, no_session);
    assert_eq!(mint(&alpha, "lamps", "../../admin").await, no_session);
    assert_eq!(mint(&alpha, "lamps", "").await, no_session);
    let no_merchant = (422, "$.allowance.merchant_id".to_owned());
    assert_eq!(mint(&alpha, "nobody", &session).await, no_merchant);
    assert_eq!(pay(&alpha, &session, &token).await.status, 200);
    assert_eq!(mint(&alpha, "lamps", &session).await, no_session, "it is completed");
    let (session, _) = self::session(&alpha).await;
    let cancel = alpha.post(format!("/m/lamps/checkout_sessions/{session}/cancel"), &json!({}));
    assert_eq!(ask(&alpha, cancel).await.status, 200);
    assert_eq!(mint(&alpha, "lamps", &session).await, no_session, "it is canceled");
}

/// Two merchants may know themselves by one id; the path then says which is meant.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_two_merchants_is_told_apart_by_path_or_host() {
    let mut world = World::closed(Options::default()).await;
    world.text = world.text.replace("acct_lamps", "acct_both").replace("acct_books", "acct_both");
    world.open().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let request = mint_request(GOOD_CARD, "acct_both", &session, total);
    let ambiguous = ask(&alpha, alpha.post(MINT, &request)).await;
    assert_eq!(told(&ambiguous), refusal(422, "invalid_card"));
    assert_eq!(ambiguous.text("/param").as_deref(), Some("$.allowance.merchant_id"));
    let by_path = ask(&alpha, alpha.post(format!("/m/lamps{MINT}"), &request)).await;
    assert_eq!(by_path.status, 201, "{}", by_path.json());
    let at_shop = world.agent(0, |settings| settings.authority = SHOP_HOST.to_owned());
    let by_host = ask(&at_shop, at_shop.post(MINT, &request)).await;
    assert_eq!(by_host.status, 201, "{}", by_host.json());
    // The path names the merchant; an allowance for another is refused.
    let mismatch = mint_request(GOOD_CARD, "books", &session, total);
    let mismatch = ask(&alpha, alpha.post(format!("/m/lamps{MINT}"), &mismatch)).await;
    assert_eq!(told(&mismatch), refusal(422, "invalid_card"));
}
