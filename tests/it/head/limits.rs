//! Limits on rates: 429, when to come back, and what is left, in headers.

use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::json;

use crate::wire::exchange;
use crate::world::*;

const SESSIONS: &str = "/m/lamps/checkout_sessions";

/// A parameter of a structured header such as `"agent";r=1;t=1`.
fn parameter(answer: &Answer, header: &str, name: &str) -> u64 {
    let value = answer.header(header).unwrap_or_else(|| panic!("no {header}: {:?}", answer.headers));
    let parameter = value.split(';').find_map(|part| part.strip_prefix(&format!("{name}=")));
    parameter.unwrap_or_else(|| panic!("no {name} in {value}")).parse().unwrap()
}

fn assert_limited(answer: &Answer, scope: &str, burst: u64) {
    assert_eq!(answer.status, 429, "{}", answer.json());
    assert_eq!(answer.json()["type"], "invalid_request");
    assert_eq!(answer.code().as_deref(), Some("rate_limited"));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1);
    for header in ["ratelimit", "ratelimit-policy"] {
        assert!(answer.header(header).unwrap().starts_with(&format!("\"{scope}\";")), "{:?}", answer.headers);
    }
    assert_eq!((parameter(answer, "ratelimit", "r"), parameter(answer, "ratelimit", "t")), (0, wait));
    assert_eq!(parameter(answer, "ratelimit-policy", "q"), burst);
    assert!(parameter(answer, "ratelimit-policy", "w") >= 1);
}

/// The next of these lines in a configuration, and one that lets three requests pass and then, for
/// the length of a test, almost none.
const RATE: (&str, &str) =
    ("requests_per_second = 1000000\nrequest_burst = 1000000", "requests_per_second = 1\nrequest_burst = 3");

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_over_its_rate_is_told_what_it_has_and_when_to_come_back() {
    let world = World::amended(Options::default(), &[("id = \"alpha\"", RATE.0, RATE.1)]).await;
    let alpha = world.alpha();
    let mut left = Vec::new();
    let limited = loop {
        let answer = alpha.post(SESSIONS, &lamp_order()).send().await.unwrap();
        if answer.status != 201 {
            break answer;
        }
        assert_eq!(parameter(&answer, "ratelimit-policy", "q"), 3);
        assert!(answer.header("retry-after").is_none());
        left.push(parameter(&answer, "ratelimit", "r"));
    };
    // On a slow machine a request may be earned meanwhile.
    assert!(left.starts_with(&[2]) && left.contains(&0), "{left:?}");
    assert_limited(&limited, "agent", 3);
    assert_eq!(world.lamps.calls().len(), left.len(), "what is over the limit reaches no merchant");
    let (_, total) = create(&world.beta(), "lamps").await;
    assert!(total > 0, "another agent has a bucket of its own");
    let metrics = world.app().metrics_text();
    assert!(metrics.contains("countersign_limited_total{scope=\"agent\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchants_rate_is_shared_by_all_agents_and_by_no_other_merchant() {
    let rate = (
        "concurrency = 4000\nrequests_per_second = 1000000\nrequest_burst = 1000000",
        "concurrency = 4000\nrequests_per_second = 1\nrequest_burst = 3",
    );
    let world = World::amended(Options::default(), &[("id = \"lamps\"", rate.0, rate.1)]).await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let mut agents = [&alpha, &beta].into_iter().cycle();
    let limited = loop {
        let answer = agents.next().unwrap().post(SESSIONS, &lamp_order()).send().await.unwrap();
        if answer.status != 201 {
            break answer;
        }
    };
    assert_limited(&limited, "merchant", 3);
    create(&alpha, "books").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_over_its_rate_is_429_before_anything_else() {
    let from = "address_requests_per_second = 1000000\naddress_request_burst = 1000000";
    let to = "address_requests_per_second = 1\naddress_request_burst = 5";
    let world = World::amended(Options::default(), &[("[limits]", from, to)]).await;
    let stranger = world.alpha();
    let limited = loop {
        let answer = stranger.get("/.well-known/jwks.json").unsigned().without("authorization").send().await;
        let answer = answer.unwrap();
        if answer.status != 200 {
            break answer;
        }
    };
    assert_limited(&limited, "address", 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_what_is_not_here_is_charged_for_it_too() {
    let from = "address_requests_per_second = 1000000\naddress_request_burst = 1000000";
    let to = "address_requests_per_second = 1\naddress_request_burst = 5";
    for (host, path, status) in [(GATEWAY, "/nothing", 404), ("evil.test", SESSIONS, 421)] {
        let world = World::amended(Options::default(), &[("[limits]", from, to)]).await;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let mut statuses = Vec::new();
        while statuses.last() != Some(&Some(429)) && statuses.len() < 100 {
            statuses.push(exchange(&world, request.as_bytes()).await.status);
        }
        let (last, others) = statuses.split_last().unwrap();
        assert_eq!(*last, Some(429), "{statuses:?}");
        assert!(others.len() >= 5 && others.iter().all(|other| *other == Some(status)), "{statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_guesses_credentials_is_429_and_who_is_known_there_is_served() {
    let from = "failed_authentications_per_minute = 1000000\nfailed_authentication_burst = 1000000";
    let to = "failed_authentications_per_minute = 1\nfailed_authentication_burst = 2";
    let world = World::amended(Options::default(), &[("[limits]", from, to)]).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let guess = || {
        let call = alpha.post(SESSIONS, &lamp_order()).without("authorization");
        call.header("authorization", "Bearer guess").send()
    };
    for _ in 0..2 {
        assert_eq!(guess().await.unwrap().status, 401);
    }
    assert_limited(&guess().await.unwrap(), "failed-authentication", 2);
    let granted = format!("/agentic_commerce/granted_tokens/{token}");
    let call = alpha.get(&granted).without("authorization").header("authorization", "Bearer guess");
    assert_limited(&call.send().await.unwrap(), "failed-authentication", 2);

    // Neighbours behind the same address: an agent, and a shop that redeems.
    create(&alpha, "lamps").await;
    assert_eq!(complete(&alpha, "lamps", &session, &token).await.text("/status").unwrap(), "completed");
    let unused = mint(&alpha, "lamps", &create(&alpha, "lamps").await.0, GOOD_CARD, 1).await;
    let revoked = alpha.post(format!("/agentic_commerce/issued_tokens/{unused}/revoke"), &json!({}));
    assert_eq!(revoked.send().await.unwrap().status, 200);
    assert_limited(&guess().await.unwrap(), "failed-authentication", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeemers_credential_without_its_proof_uses_up_its_own_allowance_and_no_neighbours() {
    let mut world = World::closed(Options::default()).await;
    let set = |text: &str, name: &str, value: u32| {
        text.replacen(&format!("{name} = 1000000"), &format!("{name} = {value}"), 1)
    };
    world.text = ["failed_authentication_burst", "failed_signature_burst"]
        .iter()
        .fold(world.text.clone(), |text, name| set(&text, name, 2));
    world.text =
        set(&set(&world.text, "failed_signatures_per_minute", 1), "failed_authentications_per_minute", 1);
    // Of the first shop alone, which is then somewhere else.
    world.text = world.text.replacen("networks = [\"127.0.0.0/8\"]", "networks = [\"192.0.2.1/32\"]", 1);
    world.open().await;
    let alpha = world.alpha();
    let thief = world.agent(0, |settings| settings.credential = world.redeemer.clone());
    let granted = "/agentic_commerce/granted_tokens/vt_00000000000000000000000000000000";
    for _ in 0..2 {
        let refused = thief.get(granted).send().await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (401, Some("redeemer_not_proven")));
    }
    assert_limited(&thief.get(granted).send().await.unwrap(), "failed-signature", 2);
    create(&alpha, "lamps").await;
    let (session, total) = create(&alpha, "books").await;
    let token = mint(&alpha, "books", &session, GOOD_CARD, total).await;
    assert_eq!(complete(&alpha, "books", &session, &token).await.text("/status").unwrap(), "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_without_its_key_uses_up_its_own_allowance_and_not_the_agents() {
    let from = "failed_signatures_per_minute = 1000000\nfailed_signature_burst = 1000000";
    let to = "failed_signatures_per_minute = 1\nfailed_signature_burst = 2";
    let rate = ("id = \"alpha\"", RATE.0, RATE.1);
    let world = World::amended(Options::default(), &[("[limits]", from, to), rate]).await;
    let alpha = world.alpha();
    let thief = world.agent(1, |settings| settings.credential = alpha.settings().credential.clone());
    for _ in 0..2 {
        assert_eq!(thief.post(SESSIONS, &lamp_order()).send().await.unwrap().status, 401);
    }
    let limited = thief.post(SESSIONS, &lamp_order()).send().await.unwrap();
    assert_limited(&limited, "failed-signature", 2);
    let metrics = world.app().metrics_text();
    assert!(metrics.contains("countersign_limited_total{scope=\"agent\"} 0\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_mint_is_in_delegate_payments_own_words() {
    let world = World::amended(Options::default(), &[("id = \"alpha\"", RATE.0, RATE.1)]).await;
    let alpha = world.alpha();
    let limited = loop {
        let answer = try_mint(&alpha, "lamps", "cs_unknown", GOOD_CARD, 1).await;
        if answer.status != 422 {
            break answer;
        }
    };
    assert_eq!(limited.status, 429);
    assert_eq!(limited.json()["type"], "rate_limit_exceeded");
    assert_eq!(limited.code().as_deref(), Some("too_many_requests"));
    assert!(limited.header("retry-after").is_some());
}

/// A merchant that takes this many requests at once, and holds every create it gets.
async fn holding(concurrency: u32) -> World {
    let amended = format!("concurrency = {concurrency}");
    let amendment = ("id = \"lamps\"", "concurrency = 4000", amended.as_str());
    let world = World::amended(Options::default(), &[amendment]).await;
    world.lamps.behave(CallKind::Create, Behaviour::HoldBefore);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gets_a_quarter_of_what_a_merchant_takes_at_once() {
    let world = holding(4).await;
    let (alpha, order) = (world.alpha(), lamp_order());
    let first = alpha.post(SESSIONS, &order).prepare().unwrap();
    let under_way = tokio::spawn({
        let alpha = alpha.clone();
        async move { alpha.send(&first).await.unwrap() }
    });
    world.lamps.received(CallKind::Create, 1).await;
    let limited = alpha.post(SESSIONS, &order).send().await.unwrap();
    assert_eq!((limited.status.as_u16(), limited.code().as_deref()), (429, Some("rate_limited")));
    assert!(limited.header("retry-after").is_some());
    // Another agent, and another merchant, are as free as before.
    create(&alpha, "books").await;
    world.lamps.behave_once(CallKind::Create, Behaviour::Good);
    create(&world.beta(), "lamps").await;
    world.lamps.release();
    assert_eq!(under_way.await.unwrap().status, 201);
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_is_busy_with_others_is_503_and_not_the_callers_fault() {
    let world = holding(1).await;
    let (alpha, order) = (world.alpha(), lamp_order());
    let first = alpha.post(SESSIONS, &order).prepare().unwrap();
    let under_way = tokio::spawn(async move { alpha.send(&first).await.unwrap() });
    world.lamps.received(CallKind::Create, 1).await;
    let busy = world.beta().post(SESSIONS, &order).send().await.unwrap();
    assert_eq!((busy.status.as_u16(), busy.code().as_deref()), (503, Some("service_unavailable")));
    assert!(busy.header("retry-after").is_some());
    world.lamps.release();
    assert_eq!(under_way.await.unwrap().status, 201);
    world.lamps.behave_well();
    create(&world.beta(), "lamps").await;
}
