//! The risk rules through the socket.
//!
//! What they refuse, what they only mark, and that in shadow they only count.

use countersign::quickstart::shop::Context;

use super::*;

/// Numbers that a checksum accepts, all different.
fn cards() -> impl Iterator<Item = String> {
    (0..).map(|number: u64| {
        let body = format!("40000000{number:07}");
        let digits = body.bytes().rev().map(|digit| u64::from(digit - b'0'));
        let sum: u64 = digits
            .enumerate()
            .map(|(at, digit)| if at % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit })
            .sum();
        format!("{body}{}", (10 - sum % 10) % 10)
    })
}

async fn world(rules: &str) -> World {
    World::with(Options { server: rules.to_owned(), ..Options::default() }).await
}

/// How often a rule spoke.
fn spoke(world: &World, rule: &str, verdict: &str, mode: &str) -> u64 {
    let series = format!(r#"countersign_fraud_total{{mode="{mode}",rule="{rule}",verdict="{verdict}"}} "#);
    let text = world.app().metrics_text();
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

/// Whether the shop was asked to look at the latest complete.
fn marked(world: &World) -> bool {
    let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
    Context::parse(call.headers["countersign-context"].to_str().unwrap()).unwrap().review
}

fn signal(action: &str) -> impl FnOnce(&mut Value) {
    let signals = json!([
        {"type": "card_testing", "score": 1, "action": "authorized"},
        {"type": "card_testing", "score": 99, "action": action}
    ]);
    move |request| request["risk_signals"] = signals
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_itself_blocked_is_not_minted() {
    let world = world("").await;
    let alpha = world.alpha();
    let blocked = mint_changed(&alpha, signal("blocked")).await;
    assert_eq!(told(&blocked), refusal(403, "invalid_card"), "the closed list has no other word");
    assert_eq!(spoke(&world, "risk_signals", "deny", "enforced"), 1);
    assert_eq!(mint_changed(&alpha, signal("manual_review")).await.status, 201);
    assert_eq!(spoke(&world, "risk_signals", "review", "enforced"), 1);
    assert_eq!(mint_changed(&alpha, signal("authorized")).await.status, 201);
    let metrics = world.app().metrics_text();
    assert!(metrics.contains(r#"countersign_refusals_total{reason="risk_signal_blocked"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cards_of_one_agent_in_a_short_time_are_refused() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let rules = "[fraud.card_testing]\nwindow = \"10m\"\nreview_above = 2\ndeny_above = 3".to_owned();
    let options = Options { server: rules, clock: Some(clock.clone()), ..Options::default() };
    let world = World::with(options).await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let mint = async |agent: &Agent, card: &str| {
        let answer = mint_changed(agent, set("/payment_method/number", Some(json!(card)))).await;
        answer.status.as_u16()
    };
    let cards: Vec<String> = cards().take(6).collect();
    assert_eq!((mint(&alpha, &cards[0]).await, mint(&alpha, &cards[1]).await), (201, 201));
    assert_eq!(spoke(&world, "card_testing", "review", "enforced"), 0);
    assert_eq!(mint(&alpha, &cards[2]).await, 201);
    assert_eq!(spoke(&world, "card_testing", "review", "enforced"), 1);
    assert_eq!((mint(&alpha, &cards[3]).await, mint(&alpha, &cards[4]).await), (403, 403));
    assert_eq!(spoke(&world, "card_testing", "deny", "enforced"), 2);
    // What was refused does not count, a known card is no new one, and others are not touched.
    assert_eq!((mint(&alpha, &cards[0]).await, mint(&alpha, &cards[2]).await), (201, 201));
    assert_eq!(mint(&beta, &cards[5]).await, 201);
    clock.advance(Duration::from_secs(1200));
    let late = clock.now().plus(HOUR).to_rfc3339();
    let answer = mint_changed(&alpha, |request| {
        request["payment_method"]["number"] = json!(cards[3]);
        request["allowance"]["expires_at"] = json!(late);
    });
    assert_eq!(answer.await.status, 201, "the window has passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_declined_again_and_again_is_refused() {
    let world = world("[fraud.declines]\nwindow = \"24h\"\nreview_above = 1\ndeny_above = 2").await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, total, token) = ready(&alpha, DECLINED_CARD).await;
    let declined = async |agent: &Agent| {
        let (session, _, token) = ready(agent, DECLINED_CARD).await;
        assert_eq!(pay(agent, &session, &token).await.status, 200);
    };
    declined(&alpha).await;
    assert!(!marked(&world));
    declined(&alpha).await;
    declined(&alpha).await;
    assert!(marked(&world), "after two, the merchant is asked to look");
    // Three declines are more than two.
    let refused = pay(&alpha, &session, &token).await;
    assert_eq!(told(&refused), refusal(403, "repeated_declines"));
    let refused = try_mint(&alpha, "lamps", &session, DECLINED_CARD, total).await;
    assert_eq!(refused.status, 403, "{}", refused.json());
    assert_eq!(spoke(&world, "declines", "deny", "enforced"), 2);
    assert_eq!(issued(&alpha, &token).await["attempts_remaining"], 3, "a refusal uses nothing up");
    // Another card of this agent, and this card of another agent, are as good as ever.
    let other = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(pay(&alpha, &session, &other).await.text("/status").as_deref(), Some("completed"));
    declined(&beta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_the_rules_count_and_decide_nothing() {
    let rules = "[fraud.risk_signals]\nshadow = true\n[fraud.card_testing]\nreview_above = 1\ndeny_above = 1\nshadow = true\n\
                 [fraud.declines]\nreview_above = 1\ndeny_above = 1\nshadow = true\n[fraud.agent_ceiling]\nshadow = true";
    let agent = "token_ceiling = [{ amount = 1, currency = \"usd\" }]".to_owned();
    let options = Options { server: rules.to_owned(), agent, ..Options::default() };
    let world = World::with(options).await;
    let alpha = world.alpha();
    assert_eq!(mint_changed(&alpha, signal("blocked")).await.status, 201);
    assert_eq!(spoke(&world, "risk_signals", "deny", "shadow"), 1);
    for card in cards().take(2) {
        let minted = mint_changed(&alpha, set("/payment_method/number", Some(json!(card)))).await;
        assert_eq!(minted.status, 201, "{}", minted.json());
    }
    assert_eq!(spoke(&world, "card_testing", "deny", "shadow"), 2);
    for _ in 0..3 {
        let (session, _, token) = ready(&alpha, DECLINED_CARD).await;
        assert_eq!(pay(&alpha, &session, &token).await.status, 200);
        assert!(!marked(&world));
    }
    assert!(spoke(&world, "declines", "deny", "shadow") >= 1);
    assert!(spoke(&world, "agent_ceiling", "deny", "shadow") >= 6);
    let metrics = world.app().metrics_text();
    let enforced = |line: &str| line.contains(r#"mode="enforced""#) && !line.ends_with(" 0");
    assert!(!metrics.lines().any(enforced), "{metrics}");
}
