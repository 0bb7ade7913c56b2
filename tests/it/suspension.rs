//! The kill switch: who is stopped begins nothing, on any replica, and what was begun is finished.

/// The last look, when the bytes are about to leave.
mod leaving;
/// Tokens that are withdrawn.
mod revoking;

use std::time::{Duration, Instant};

use countersign::crypto::digest::sha256;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::{Value, json};

use crate::redis_server::{self, Server};
use crate::world::*;

/// By when every replica knows.
const WITHIN: Duration = Duration::from_secs(2);
/// The shape of a token that was never minted.
const NO_TOKEN: &str = "vt_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn switch(world: &World, path: &str, subject: Value) {
    let mut body = subject;
    body["why"] = json!("a rogue loop");
    let told = world.operate(&format!("POST {path}"), Some(body)).await;
    assert_eq!(told.status, 200, "{:?}", told.body);
    assert_eq!(told.body["changed"], true);
}

async fn suspend(world: &World, subject: Value) {
    switch(world, "/suspensions", subject).await;
}

async fn resume(world: &World, subject: Value) {
    switch(world, "/suspensions/resume", subject).await;
}

/// A session of the first shop and a token for it.
async fn ready(agent: &Agent) -> (String, String) {
    let (session, total) = create(agent, "lamps").await;
    let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
    (session, token)
}

fn told(answer: &Answer) -> (u16, Option<String>) {
    (answer.status.as_u16(), answer.text("/code"))
}

fn stopped(code: &str) -> (u16, Option<String>) {
    (403, Some(code.to_owned()))
}

/// The first agent's credential, as the configuration names it.
fn credential_of(world: &World) -> String {
    let credential = world.credentials()[0].clone();
    let digest: String = sha256(&[credential.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digest}")
}

async fn cancel(agent: &Agent, session: &str) -> Answer {
    agent.post(format!("/m/lamps/checkout_sessions/{session}/cancel"), &json!({})).send().await.unwrap()
}

/// What begins something: create, mint and complete.
async fn beginnings(agent: &Agent, session: &str, token: &str) -> [Answer; 3] {
    [
        agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap(),
        try_mint(agent, "lamps", session, GOOD_CARD, 100).await,
        complete(agent, "lamps", session, token).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_stopped_begins_nothing_and_goes_on_when_it_is_resumed() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let subjects = [
        ("agent_suspended", json!({"kind": "agent", "id": "alpha"})),
        ("merchant_suspended", json!({"kind": "merchant", "id": "lamps"})),
        ("key_suspended", json!({"kind": "key", "agent": "alpha", "id": "key-1"})),
        ("credential_suspended", json!({"kind": "credential", "id": credential_of(&world)})),
        ("payments_suspended", json!({"kind": "all"})),
    ];
    for (code, subject) in subjects {
        let (session, token) = ready(&alpha).await;
        let others = ready(&beta).await;
        suspend(&world, subject.clone()).await;
        for (begun, answer) in beginnings(&alpha, &session, &token).await.into_iter().enumerate() {
            // `delegate_payment` knows only its own enumeration of codes.
            let is_told = if begun == 1 { answer.status == 403 } else { told(&answer) == stopped(code) };
            assert!(is_told, "{code}: {} {}", answer.status, answer.json());
            assert!(!answer.json().to_string().contains("rogue"), "no reason is told");
        }
        // What ends something goes on, and so do views.
        let path = format!("/m/lamps/checkout_sessions/{session}");
        assert_eq!(alpha.get(&path).send().await.unwrap().status, 200, "{code}");
        let bought = complete(&beta, "lamps", &others.0, &others.1).await;
        let concerns_all = ["merchant_suspended", "payments_suspended"].contains(&code);
        assert_eq!(bought.status == 200, !concerns_all, "{code}: {}", bought.json());
        resume(&world, subject).await;
        let completed = complete(&alpha, "lamps", &session, &token).await;
        assert_eq!(completed.text("/status").as_deref(), Some("completed"), "{code}: {}", completed.json());
    }
    let list = world.operate("GET /suspensions", None).await.body;
    assert_eq!((list["standing"].as_array().unwrap().len(), list["acts"].as_array().unwrap().len()), (0, 10));
    assert_eq!(list["acts"][0]["by"], "on-call");
    assert_eq!(list["acts"][0]["why"], "a rogue loop");
    until_logged(&world, r#""event":"suspension""#, 10).await;
}

/// Two gateways on one Redis, which ends with what is returned; where the second one listens.
async fn two_replicas() -> (Server, World, std::net::SocketAddr) {
    let server = Server::start(redis_server::Options::default());
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true",
        server.url()
    );
    let mut world = World::with(Options { store: Some(store), ..Options::default() }).await;
    let replica = world.open_replica().await;
    (server, world, replica)
}

/// Waits until as many lines with these words are in the log, which is written behind.
async fn until_logged(world: &World, words: &str, lines: usize) {
    let until = Instant::now() + Duration::from_secs(60);
    while world.log.text().matches(words).count() < lines {
        assert!(Instant::now() < until, "{words} in {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A cancel moves no money, and who has stolen a credential may cancel what others buy.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_cancels_nothing_and_where_all_is_stopped_purchases_may_be_canceled() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let subjects = [
        ("agent_suspended", json!({"kind": "agent", "id": "alpha"})),
        ("key_suspended", json!({"kind": "key", "agent": "alpha", "id": "key-1"})),
        ("credential_suspended", json!({"kind": "credential", "id": credential_of(&world)})),
    ];
    for (code, subject) in subjects {
        let (session, token) = ready(&alpha).await;
        let (others, _) = create(&beta, "lamps").await;
        suspend(&world, subject.clone()).await;
        assert_eq!(told(&cancel(&alpha, &session).await), stopped(code));
        assert_eq!(cancel(&beta, &others).await.status, 200, "{code}");
        resume(&world, subject).await;
        let completed = complete(&alpha, "lamps", &session, &token).await;
        assert_eq!(completed.text("/status").as_deref(), Some("completed"), "it was not canceled");
    }
    for subject in [json!({"kind": "merchant", "id": "lamps"}), json!({"kind": "all"})] {
        let (session, _) = create(&alpha, "lamps").await;
        suspend(&world, subject.clone()).await;
        assert_eq!(cancel(&alpha, &session).await.status, 200, "{subject}");
        resume(&world, subject).await;
    }
}

/// To take a session over that the gateway has not seen created begins something, whatever it is for.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_adopts_no_session() {
    let merchant = "adopting_agents = [\"alpha\", \"beta\"]".to_owned();
    let world = World::with(Options { merchant, ..Options::default() }).await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let subjects = [
        ("agent_suspended", json!({"kind": "agent", "id": "alpha"})),
        ("merchant_suspended", json!({"kind": "merchant", "id": "lamps"})),
    ];
    for (code, subject) in subjects {
        let foreign = format!("cs_of_{code}");
        let path = format!("/m/lamps/checkout_sessions/{foreign}");
        let shown = canned(200, shown_session(&foreign).to_string());
        world.lamps.behave(CallKind::Read, Behaviour::Instead(shown));
        suspend(&world, subject.clone()).await;
        assert_eq!(told(&alpha.get(&path).send().await.unwrap()), stopped(code));
        assert_eq!(told(&cancel(&alpha, &foreign).await), stopped(code));
        assert_eq!(told(&complete(&alpha, "lamps", &foreign, NO_TOKEN).await), stopped(code));
        let update = json!({"line_items": [{"id": "item_lamp", "quantity": 2}]});
        assert_eq!(told(&alpha.post(&path, &update).send().await.unwrap()), stopped(code));
        resume(&world, subject).await;
        // It is nobody's still: whoever may takes it.
        assert_eq!(beta.get(&path).send().await.unwrap().status, 200, "{code}");
        assert_eq!(alpha.get(&path).send().await.unwrap().status, 404, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_stopped_in_every_token_that_holds_it_and_no_other_is() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, token) = ready(&alpha).await;
    let (other_session, other_token) = ready(&beta).await;
    suspend(&world, json!({"kind": "card", "id": token})).await;
    assert_eq!(told(&complete(&alpha, "lamps", &session, &token).await), stopped("card_suspended"));
    assert_eq!(
        told(&complete(&beta, "lamps", &other_session, &other_token).await),
        stopped("card_suspended")
    );
    let (session, total) = create(&alpha, "lamps").await;
    let again = try_mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(again.status, 403, "{}", again.json());
    resume(&world, json!({"kind": "card", "id": token})).await;
    suspend(&world, json!({"kind": "card", "id": token})).await;
    let other = mint(&alpha, "lamps", &session, "5555555555554444", total).await;
    assert_eq!(
        complete(&alpha, "lamps", &session, &other).await.text("/status").as_deref(),
        Some("completed")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_settles_what_was_answered_stays_answered_and_revokes_go_on() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (answered, first) = ready(&alpha).await;
    let bought = alpha
        .post(format!("/m/lamps/checkout_sessions/{answered}/complete"), &payment(&first))
        .prepare()
        .unwrap();
    assert_eq!(alpha.send(&bought).await.unwrap().status, 200);
    let (unspent, spare) = ready(&alpha).await;
    let (session, token) = ready(&alpha).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldAfter);
    let begun = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    // The shop has the card and has charged; only its answer is held.
    let until = Instant::now() + Duration::from_secs(60);
    while charges_of(&world.lamps, &session).is_empty() {
        assert!(Instant::now() < until, "the shop does not charge");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    suspend(&world, json!({"kind": "agent", "id": "alpha"})).await;
    world.lamps.release();
    assert_eq!(begun.await.unwrap().text("/status").as_deref(), Some("completed"));
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
    let replayed = alpha.send(&bought).await.unwrap();
    assert_eq!((replayed.status.as_u16(), replayed.header("idempotent-replayed")), (200, Some("true")));
    let revoked = alpha
        .post(format!("/agentic_commerce/issued_tokens/{spare}/revoke"), &json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(revoked.status, 200, "{}", revoked.json());
    let canceled = cancel(&alpha, &unspent).await;
    assert_eq!(told(&canceled), stopped("agent_suspended"), "{}", canceled.json());
}

/// Who is refused a card may have kept it, and be at work with it: its claim is not given up for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_redeem_that_is_stopped_gets_no_card_and_its_claim_is_declined_by_the_shop() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, token) = ready(&alpha).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let begun = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&world.lamps, CallKind::Complete, 1).await;
    suspend(&world, json!({"kind": "card", "id": token})).await;
    world.lamps.release();
    let answer = begun.await.unwrap();
    assert_ne!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
    assert!(charges_of(&world.lamps, &session).is_empty());
    assert!(world.app().metrics_text().contains("countersign_refusals_total{reason=\"card_suspended\"} 1"));
}

/// To send a complete again is new work, and to find out what became of it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_in_doubt_is_not_sent_again_while_its_agent_is_stopped() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, token) = ready(&alpha).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let buying = alpha.post(&path, &payment(&token)).prepare().unwrap();
    world.lamps.behave_once(CallKind::Complete, Behaviour::After(canned(500, "{}".to_owned())));
    let lost = alpha.send(&buying).await.unwrap();
    assert!(lost.status.is_server_error(), "{}", lost.json());
    suspend(&world, json!({"kind": "all"})).await;
    // The shop has charged: the session shows it, whoever is stopped.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = alpha.send(&buying).await.unwrap();
        if answer.status == 200 {
            break;
        }
        assert!(answer.status == 503 && Instant::now() < until, "{} {}", answer.status, answer.json());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1, "it was not sent again");
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_two_replicas_both_know_within_two_seconds_and_so_does_one_that_starts_later() {
    let (_server, mut world, replica) = two_replicas().await;
    let there = world.agent(0, |settings| settings.address = replica);
    let subject = json!({"kind": "agent", "id": "alpha"});
    for _ in 0..5 {
        let (session, token) = ready(&there).await;
        suspend(&world, subject.clone()).await;
        // At once where it was said.
        let here = world.alpha().post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
        assert_eq!(told(&here), stopped("agent_suspended"));
        let said = Instant::now();
        while told(&there.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap())
            != stopped("agent_suspended")
        {
            assert!(said.elapsed() < WITHIN, "the other replica does not know");
        }
        assert_eq!(told(&complete(&there, "lamps", &session, &token).await), stopped("agent_suspended"));
        assert!(charges_of(&world.lamps, &session).is_empty());
        resume(&world, subject.clone()).await;
        while there.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap().status != 201 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    suspend(&world, subject).await;
    let later = world.open_replica().await;
    let there = world.agent(0, |settings| settings.address = later);
    let first = there.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    assert_eq!(told(&first), stopped("agent_suspended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stopped_is_named_and_the_command_says_what_it_did() {
    let world = World::start().await;
    for (body, param) in [
        (json!({"kind": "robot", "id": "alpha", "why": "x"}), "$.kind"),
        (json!({"kind": "agent", "why": "x"}), "$.id"),
        (json!({"kind": "key", "id": "key-1", "why": "x"}), "$.agent"),
        (json!({"kind": "credential", "id": "sha256:00", "why": "x"}), "$.id"),
        (json!({"kind": "agent", "id": "alpha", "why": " "}), "$.why"),
        (json!({"kind": "agent", "id": "alpha", "why": "bought with 4242 4242-4242 4242"}), "$.why"),
        (json!({"kind": "agent", "id": "alpha", "agent": "beta", "why": "x"}), "$.agent"),
        (json!({"kind": "agent", "id": "alpha", "claim": "c", "why": "x"}), "$.claim"),
        (json!({"kind": "card", "id": NO_TOKEN, "claim": "c", "why": "x"}), "$.id"),
        (json!({"kind": "card", "why": "x"}), "$.id"),
    ] {
        let told = world.operate("POST /suspensions", Some(body)).await;
        assert_eq!((told.status, told.body["param"].as_str()), (422, Some(param)), "{:?}", told.body);
    }
    for (unknown, code) in [
        (json!({"kind": "card", "id": NO_TOKEN, "why": "x"}), "token_unknown"),
        (json!({"kind": "card", "claim": "none", "why": "x"}), "claim_unknown"),
    ] {
        let told = world.operate("POST /suspensions", Some(unknown)).await;
        assert_eq!((told.status, told.code()), (404, code));
    }
    for (kind, expected) in [
        ("agent", "This is no id of an agent."),
        ("merchant", "This is no id of a merchant."),
        ("key", "This is no id of a key."),
        ("credential", "This is no credential's digest: `sha256:` and 64 hexadecimal digits"),
        ("card", "This is no id of a token."),
    ] {
        let mut body = json!({"kind": kind, "id": "a/b", "why": "x"});
        if kind == "key" {
            body["agent"] = json!("alpha");
        }
        let told = world.operate("POST /suspensions", Some(body)).await;
        let message = told.body["message"].as_str().unwrap();
        assert!(told.status == 422 && message.starts_with(expected), "{kind}: {message}");
    }
    let run = async |arguments: &[&str]| {
        let arguments = [arguments, &["--config", "{config}", "--admin", "{admin}"]].concat();
        let (content, out, errors) = crate::world::told(&world.run(&arguments).await);
        assert!(content, "{errors}");
        out
    };
    assert_eq!(run(&["suspensions"]).await, "nothing is suspended\n");
    assert_eq!(run(&["suspend", "agent", "alpha", "--why", "it loops"]).await, "agent alpha: suspended\n");
    assert_eq!(
        run(&["suspend", "agent", "alpha", "--why", "it loops"]).await,
        "agent alpha: suspended already\n"
    );
    let listed = run(&["suspensions"]).await;
    assert!(listed.starts_with("suspended:\n"), "{listed}");
    assert!(listed.contains("suspended agent alpha, by on-call: it loops"), "{listed}");
    assert_eq!(run(&["resume", "agent", "alpha", "--why", "mended"]).await, "agent alpha: resumed\n");
    let listed = run(&["suspensions"]).await;
    assert!(listed.starts_with("nothing is suspended\ndone, the latest first:\n"), "{listed}");
    // Only a card is named by a token or a claim, and by one of them.
    for arguments in [
        &["suspend", "agent", "alpha", "--token", NO_TOKEN, "--why", "x"][..],
        &["suspend", "all", "everything", "--why", "x"],
        &["suspend", "card", "--why", "x"],
        &["suspend", "card", "--token", NO_TOKEN, "--claim", "c", "--why", "x"],
        &["suspend", "merchant", "lamps", "--agent", "alpha", "--why", "x"],
    ] {
        let output = world.run(&[arguments, &["--config", "{config}", "--admin", "{admin}"]].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert_eq!(world.lamps.calls_of(CallKind::Create).len(), 0);
}

/// Who types a name wrong must not believe that somebody is stopped, nor that somebody goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_nobodys_is_refused_unless_it_is_meant() {
    let mut world = World::start().await;
    let subjects = [
        json!({"kind": "agent", "id": "aplha"}),
        json!({"kind": "merchant", "id": "lamp"}),
        json!({"kind": "key", "agent": "alpha", "id": "key-2"}),
        json!({"kind": "key", "agent": "aplha", "id": "key-1"}),
        json!({"kind": "credential", "id": format!("sha256:{}", "ab".repeat(32))}),
    ];
    for subject in &subjects {
        let mut body = subject.clone();
        body["why"] = json!("x");
        for path in ["/suspensions", "/suspensions/resume"] {
            let told = world.operate(&format!("POST {path}"), Some(body.clone())).await;
            assert_eq!((told.status, told.code()), (404, "not_configured"), "{subject}: {:?}", told.body);
        }
        body["not_configured"] = json!(true);
        suspend(&world, body.clone()).await;
        // What stands goes on whoever knows it.
        resume(&world, subject.clone()).await;
    }
    // Also whose entry has gone since.
    suspend(&world, json!({"kind": "agent", "id": "beta"})).await;
    world.reopen(&[], |text| text.replace("id = \"beta\"", "id = \"gamma\"")).await;
    resume(&world, json!({"kind": "agent", "id": "beta"})).await;
    let list = world.operate("GET /suspensions", None).await.body;
    assert_eq!(list["standing"].as_array().map(Vec::len), Some(0), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_known_by_the_claim_that_used_it_open_or_charged() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (session, token) = ready(&alpha).await;
    let others = ready(&beta).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&world.lamps, CallKind::Complete, 1).await;
    let open = world.operate("GET /claims?all=true", None).await.body;
    let by_open = json!({"kind": "card", "claim": open["claims"][0]["claim"]});
    suspend(&world, by_open.clone()).await;
    let refused = complete(&beta, "lamps", &others.0, &others.1).await;
    assert_eq!(told(&refused), stopped("card_suspended"), "{open}");
    resume(&world, by_open).await;
    world.lamps.release();
    assert_eq!(buying.await.unwrap().text("/status").as_deref(), Some("completed"));
    let by_charged = json!({"kind": "card", "claim": charges_of(&world.lamps, &session)[0].claim});
    suspend(&world, by_charged.clone()).await;
    let refused = complete(&beta, "lamps", &others.0, &others.1).await;
    assert_eq!(told(&refused), stopped("card_suspended"));
    let list = world.operate("GET /suspensions", None).await.body;
    assert_eq!(list["standing"][0]["id"], json!(token), "named by its token");
    resume(&world, by_charged).await;
    let bought = complete(&beta, "lamps", &others.0, &others.1).await;
    assert_eq!(bought.text("/status").as_deref(), Some("completed"), "{}", bought.json());
}
