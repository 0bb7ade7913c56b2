//! Claims as operators see them on the admin listener, and ended by hand: by request and by command.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned};
use serde_json::Value;

use super::*;

/// A purchase whose answer was lost before or after the merchant charged.
async fn lost(doubt: &Doubt, behaviour: Behaviour) -> Purchase<'_> {
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, behaviour);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    purchase
}

impl Doubt {
    /// The claims in the list.
    async fn claims(&self, query: &str) -> Vec<Value> {
        let told = self.world.operate(&format!("GET /claims{query}"), None).await;
        assert_eq!(told.status, 200, "{told:?}");
        told.body["claims"].as_array().unwrap().clone()
    }
}

impl Purchase<'_> {
    /// The claim as listed.
    async fn listed(&self, doubt: &Doubt) -> Value {
        let claims = doubt.claims("").await;
        let own = |claim: &&Value| claim["checkout_session_id"] == self.session.as_str();
        claims.iter().find(own).unwrap_or_else(|| panic!("not listed: {claims:?}")).clone()
    }

    /// The operator's word.
    async fn resolve(&self, claim: &Value, evidence: &str) -> Told {
        let body = json!({
            "merchant": "lamps", "checkout_session_id": self.session, "claim": claim["claim"], "evidence": evidence
        });
        self.world.operate("POST /claims/resolve", Some(body)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_doubt_is_listed_with_all_that_an_operator_needs_and_nothing_of_the_card() {
    let doubt = Doubt::keyless().await;
    assert_eq!(doubt.claims("").await, Vec::<Value>::new());
    let purchase = lost(&doubt, Behaviour::ResetBefore).await;
    let claim = purchase.listed(&doubt).await;
    let sent = purchase.completes()[0].idempotency_key.clone().unwrap();
    for (member, value) in [
        ("merchant", json!("lamps")),
        ("checkout_session_id", json!(purchase.session)),
        ("claim", json!(sent)),
        ("token", json!(purchase.token)),
        ("agent", json!("alpha")),
        ("amount", json!(purchase.total)),
        ("currency", json!("usd")),
        ("state", json!("in_doubt")),
        ("contested", json!(true)),
        ("pending", json!(false)),
        ("redeemed", json!(false)),
        ("attempts", json!(1)),
        ("awaited_until", json!(null)),
        ("age_seconds", json!(0)),
    ] {
        assert_eq!(claim[member], value, "{member} in {claim}");
    }
    assert!(claim["why"].as_str().unwrap().contains("lost"), "{claim}");
    doubt.clock.advance(Duration::from_secs(90));
    assert!(purchase.listed(&doubt).await["age_seconds"].as_u64().unwrap() >= 90);
    assert_eq!(shown_of_card(&claim.to_string()), None, "{claim}");
    assert_eq!(doubt.claims("?merchant=books").await, Vec::<Value>::new());
    assert_eq!(doubt.claims("?merchant=lamps&limit=1&all=true").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_cut_at_its_limit_and_says_so() {
    let doubt = Doubt::keyless().await;
    let first = lost(&doubt, Behaviour::ResetBefore).await;
    doubt.clock.advance(Duration::from_secs(1));
    let _second = lost(&doubt, Behaviour::ResetBefore).await;
    let told = doubt.world.operate("GET /claims?limit=1", None).await;
    assert_eq!(told.body["more"], true);
    let claims = told.body["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["checkout_session_id"], first.session.as_str(), "the longest open first");
    assert_eq!(doubt.world.operate("GET /claims?limit=2", None).await.body["more"], false);
    for query in ["limit=0", "limit=10001", "limit=x", "merchant=a%2fb", "colour=red", "all=perhaps"] {
        let told = doubt.world.operate(&format!("GET /claims?{query}"), None).await;
        assert_eq!((told.status, told.code()), (400, "invalid_query"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_charged_consumes_its_token_and_the_answer_is_the_session() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt, Behaviour::ResetAfter).await;
    doubt.shop().behave(CallKind::Read, Behaviour::ResetBefore);
    let claim = purchase.listed(&doubt).await;
    let told = purchase.resolve(&claim, "charged").await;
    assert_eq!(told.status, 200, "{told:?}");
    assert_eq!(told.body["resolved_now"], true);
    assert_eq!(told.body["token_status"], "consumed");
    assert_eq!(purchase.token_status().await, "consumed");
    assert_eq!(doubt.claims("").await, Vec::<Value>::new());
    assert_eq!(doubt.metric("countersign_claims_total{outcome=\"charged\"}"), 1.0);
    doubt.until_logged(&["claim_resolved", "on-call", "\"charged\"", &purchase.session]).await;
    assert!(!doubt.world.log.text().contains(doubt.world.operator.expose()));

    let again = purchase.resolve(&claim, "charged").await;
    assert_eq!((again.status, &again.body["resolved_now"]), (200, &json!(false)));
    let other = purchase.resolve(&claim, "not_charged").await;
    assert_eq!((other.status, other.code()), (409, "claim_not_open"));
    assert_eq!(doubt.metric("countersign_claims_total{outcome=\"charged\"}"), 1.0);
    assert_eq!(doubt.metric("countersign_token_events_total{event=\"consumed\"}"), 1.0);

    doubt.shop().behave_well();
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 1, "nothing was sent again");
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_did_not_charge_frees_its_token_for_another_try() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt, Behaviour::ResetBefore).await;
    purchase.assert_held().await;
    let claim = purchase.listed(&doubt).await;
    let told = purchase.resolve(&claim, "not_charged").await;
    assert_eq!((told.status, &told.body["token_status"]), (200, &json!("active")), "{told:?}");
    assert_eq!(doubt.metric("countersign_claims_total{outcome=\"released\"}"), 1.0);
    let again = purchase.resolve(&claim, "not_charged").await;
    assert_eq!((again.status, &again.body["resolved_now"]), (200, &json!(false)));
    assert_completed(&purchase.complete_anew().await);
    assert_eq!((purchase.charges().len(), purchase.token_status().await.as_str()), (1, "consumed"));
    let late = purchase.resolve(&claim, "charged").await;
    assert_eq!((late.status, late.code()), (409, "claim_not_open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_was_wrong_about_no_charge_is_corrected_by_the_session() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt, Behaviour::ResetAfter).await;
    let claim = purchase.listed(&doubt).await;
    assert_eq!(purchase.resolve(&claim, "not_charged").await.status, 200);
    assert_eq!(purchase.read().await.text("/status").as_deref(), Some("completed"));
    doubt.until_logged(&["charged_late", &purchase.session]).await;
    assert_eq!(purchase.token_status().await, "consumed");
    assert_eq!(purchase.charges().len(), 1);
    let known = purchase.resolve(&claim, "charged").await;
    assert_eq!((known.status, &known.body["resolved_now"]), (200, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_gives_back_what_the_agent_may_hold() {
    let mut doubt = Doubt::keyless().await;
    let one = "live_tokens_per_session = 1\nlive_tokens = 1";
    doubt.world.reopen(&[], |text| text.replace("live_tokens_per_session = 1000", one)).await;
    for (behaviour, evidence) in [(Behaviour::ResetAfter, "charged"), (Behaviour::ResetBefore, "not_charged")]
    {
        let purchase = lost(&doubt, behaviour).await;
        let (other, total) = create(&purchase.agent, "lamps").await;
        let mint_another = || try_mint(&purchase.agent, "lamps", &other, GOOD_CARD, total);
        assert_eq!(mint_another().await.status, 429, "the one that is held counts");
        let claim = purchase.listed(&doubt).await;
        assert_eq!(purchase.resolve(&claim, evidence).await.status, 200);
        if evidence == "charged" {
            let minted = mint_another().await;
            assert_eq!(minted.status, 201, "{}", minted.json());
            assert_completed(&complete(&purchase.agent, "lamps", &other, &minted.text("/id").unwrap()).await);
        } else {
            assert_eq!(mint_another().await.status, 429, "its token is free, and so still counts");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_purchase_is_listed_as_such_and_can_be_resolved() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::PendingApproval);
    purchase.complete().await;
    let claim = purchase.listed(&doubt).await;
    assert_eq!((&claim["state"], &claim["pending"]), (&json!("pending"), &json!(true)), "{claim}");
    assert_eq!(purchase.resolve(&claim, "not_charged").await.body["token_status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_is_resolved_while_its_answer_is_awaited() {
    let doubt = Doubt::patient().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::HoldAfter);
    let (answer, ()) = tokio::join!(purchase.complete(), async {
        received(doubt.shop(), CallKind::Complete, 1).await;
        assert_eq!(doubt.claims("").await, Vec::<Value>::new(), "neither in doubt nor pending");
        let claims = doubt.claims("?all=true").await;
        let claim = &claims[0];
        assert_eq!(claim["state"], "under_way");
        assert!(claim["awaited_until"].is_string(), "{claim}");
        for evidence in ["charged", "not_charged"] {
            let told = purchase.resolve(claim, evidence).await;
            assert_eq!((told.status, told.code()), (409, "attempt_outstanding"), "{told:?}");
            assert!(told.head.contains("\r\nretry-after: "), "{}", told.head);
        }
        doubt.shop().release();
    });
    assert_completed(&answer);
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_operators_agents_and_the_worker_at_once_one_ends_the_claim() {
    let doubt = Doubt::keyless().await;
    for round in 0..20 {
        let purchase = lost(&doubt, Behaviour::ResetAfter).await;
        let claim = purchase.listed(&doubt).await;
        let word = |evidence| purchase.resolve(&claim, evidence);
        let (yes, no, yes_again, no_again, _read, _retry) = tokio::join!(
            word("charged"),
            word("not_charged"),
            word("charged"),
            word("not_charged"),
            purchase.read(),
            purchase.complete()
        );
        let told = [yes, no, yes_again, no_again];
        assert!(told.iter().all(|told| [200, 409].contains(&told.status)), "round {round}: {told:?}");
        let now = told.iter().filter(|told| told.body["resolved_now"] == true).count();
        assert!(now <= 1, "round {round}: ended {now} times: {told:?}");
        // Whoever was first: there is one charge, and a read of the session shows it.
        purchase.read().await;
        assert_eq!(purchase.token_status().await, "consumed", "round {round}: {told:?}");
        assert_eq!(purchase.charges().len(), 1, "round {round}");
    }
    assert_eq!(doubt.claims("?all=true").await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_open_claim_or_no_evidence_changes_nothing() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt, Behaviour::ResetBefore).await;
    let claim = purchase.listed(&doubt).await;
    let good = json!({
        "merchant": "lamps", "checkout_session_id": purchase.session, "claim": claim["claim"], "evidence": "charged"
    });
    for (member, value, status, code) in [
        ("merchant", json!("books"), 404, "checkout_session_not_found"),
        ("merchant", json!("a/b"), 422, "invalid_body"),
        ("checkout_session_id", json!("cs_other"), 404, "checkout_session_not_found"),
        ("checkout_session_id", json!(""), 422, "invalid_body"),
        ("claim", json!("another"), 409, "claim_not_open"),
        ("claim", json!(1), 400, "invalid_body"),
        ("evidence", json!("perhaps"), 400, "invalid_body"),
        ("note", json!("he said so"), 400, "invalid_body"),
    ] {
        let mut body = good.clone();
        body[member] = value;
        let told = doubt.world.operate("POST /claims/resolve", Some(body.clone())).await;
        assert_eq!((told.status, told.code()), (status, code), "{body}: {told:?}");
    }
    let huge = json!({"merchant": "x".repeat(20_000)});
    assert_eq!(doubt.world.operate("POST /claims/resolve", Some(huge)).await.status, 400);
    purchase.assert_held().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_and_the_log_say_what_came_of_the_complete_and_of_the_last_read() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::After(Canned::html(200)));
    assert_told(&purchase.complete().await, 502, "merchant_answer_invalid");
    let why = async || purchase.listed(&doubt).await["why"].as_str().unwrap().to_owned();
    let unread = |words: &[&str]| {
        let told = |line: &&str| line.contains(r#""event":"session_unread""#);
        let log = doubt.world.log.text();
        log.lines().filter(told).filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    assert_eq!(
        why().await,
        "the answer to the complete, with status 200, cannot be read; no read of the session has settled it"
    );
    // The worker's read, then an agent's.
    let mut refused = Canned::status(400);
    refused.body = r#"{"type":"invalid_request","code":"missing_header","message":"x"}"#.to_owned();
    doubt.shop().behave(CallKind::Read, Behaviour::Instead(refused));
    doubt.clock.advance(Duration::from_secs(6));
    doubt.until("the line", async || unread(&["refused", "400", &purchase.session]) == 1).await;
    assert!(why().await.ends_with("; the last read of the session was refused with status 400"));
    doubt.clock.advance(BETWEEN_READS);
    assert_unknown(&purchase.complete().await);
    for (behaviour, cause, said) in [
        (Behaviour::Instead(Canned::html(404)), "unreadable", "with status 404, cannot be read"),
        (Behaviour::ResetBefore, "reset", "the answer to the last read of the session was lost"),
        (Behaviour::Instead(Canned::status(503)), "refused", "was refused with status 503"),
    ] {
        doubt.shop().behave(CallKind::Read, behaviour);
        doubt.clock.advance(BETWEEN_READS);
        assert_unknown(&purchase.complete().await);
        doubt.until("the reason", async || why().await.ends_with(said)).await;
        doubt.until("the line", async || unread(&[cause, &purchase.session]) > 0).await;
    }
    doubt.until("a line a change and no more", async || unread(&[]) == 4).await;
    doubt.shop().behave_well();
    doubt.clock.advance(BETWEEN_READS);
    assert_completed(&purchase.complete().await);
    // A claim begun anew has no such past.
    let next = lost(&doubt, Behaviour::ResetBefore).await;
    let why = next.listed(&doubt).await["why"].as_str().unwrap().to_owned();
    assert_eq!(why, "the answer to the complete was lost; no read of the session has settled it");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_is_answered_and_only_on_the_admin_listener() {
    let doubt = Doubt::keyless().await;
    let purchase = lost(&doubt, Behaviour::ResetBefore).await;
    let admin = doubt.world.app().admin_address();
    let agents = doubt.world.credentials();
    let body = json!({
        "merchant": "lamps", "checkout_session_id": purchase.session, "claim": "c", "evidence": "not_charged"
    });
    for request in ["GET /claims", "POST /claims/resolve", "POST /store/backup"] {
        for credential in [None, Some("wrong"), Some(agents[0].as_str()), Some(doubt.world.redeemer.expose())]
        {
            let told = ask_admin(admin, credential, request, Some(&body)).await;
            assert_eq!((told.status, told.code()), (401, "unauthorized"), "{request} {credential:?}");
            assert!(told.head.contains("www-authenticate: bearer"), "{}", told.head);
        }
        let (method, path) = request.split_once(' ').unwrap();
        let other = if method == "GET" { "POST" } else { "GET" };
        let told = doubt.world.operate(&format!("{other} {path}"), None).await;
        assert_eq!((told.status, told.code()), (405, "method_not_allowed"));
        assert!(told.head.contains(&format!("allow: {}", method.to_ascii_lowercase())), "{}", told.head);
        // With the operator's own credential: there is no such path for anybody.
        let operator = doubt.world.agent(0, |settings| settings.credential = doubt.world.operator.clone());
        let public = if method == "GET" {
            operator.get(path).send().await.unwrap()
        } else {
            operator.post(path, &body).send().await.unwrap()
        };
        assert_eq!(public.status, 404, "{request} on the public listener");
    }
    assert_eq!(doubt.world.operate("GET /claim", None).await.status, 404);
    assert!(doubt.metric("countersign_refusals_total{reason=\"operator_unauthorized\"}") >= 12.0);
    purchase.assert_held().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_in_the_configuration_nobody_is_one() {
    let mut world = World::closed(Options::default()).await;
    let start = world.text.find("[[admin.operators]]").unwrap();
    let end = start + world.text[start..].find("[store]").unwrap();
    world.text.replace_range(start..end, "");
    world.open().await;
    for request in ["GET /claims", "POST /claims/resolve", "POST /store/backup"] {
        let told = world.operate(request, None).await;
        assert_eq!((told.status, told.code()), (403, "operator_api_disabled"));
    }
    assert_eq!(world.operate("GET /livez", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_list_and_resolve_claims() {
    let doubt = Doubt::keyless().await;
    let world = &doubt.world;
    let list = ["claims", "list", "--config", "{config}", "--admin", "{admin}"];
    let (content, out, _) = told(&world.run(&list).await);
    assert!(content && out.contains("no claim"), "{out}");

    let purchase = lost(&doubt, Behaviour::ResetBefore).await;
    let (content, out, error) = told(&world.run(&list).await);
    assert!(content, "{error}");
    let claim = purchase.completes()[0].idempotency_key.clone().unwrap();
    for word in ["STATE", "in_doubt", "lamps", &purchase.session, &claim, "usd", "alpha", "lost"] {
        assert!(out.contains(word), "{word} in\n{out}");
    }
    let json = [&list[..], &["--json"]].concat();
    let (_, out, _) = told(&world.run(&json).await);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed["claims"][0]["claim"], claim.as_str());

    let resolve = |session: &str, word: &str| {
        let words = "claims resolve --config {config} --admin {admin} --merchant lamps --session";
        let words = words.split(' ').chain([session, "--claim", &claim, word]);
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |words: Vec<String>| {
        told(&world.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await)
    };
    let (content, _, error) = run(resolve("cs_other", "--not-charged")).await;
    assert!(!content && error.contains("no such checkout session"), "{error}");
    let (content, _, error) = run(resolve(&purchase.session, "--json")).await;
    assert!(!content && error.contains("--charged"), "evidence is needed: {error}");
    let (content, out, error) = run(resolve(&purchase.session, "--not-charged")).await;
    assert!(content && out.contains("is resolved: not charged") && out.contains("active"), "{out}{error}");
    let (content, out, _) = run(resolve(&purchase.session, "--not-charged")).await;
    assert!(content && out.contains("resolved before"), "{out}");
    let (content, _, error) = run(resolve(&purchase.session, "--charged")).await;
    assert!(!content && error.contains("claim_not_open"), "{error}");

    let wrong = [&list[..], &["--credential", "env:PATH"]].concat();
    let (content, _, error) = told(&world.run(&wrong).await);
    assert!(!content && !error.contains(&std::env::var("PATH").unwrap()), "{error}");
    let absent = [&list[..], &["--credential", "env:NOT_SET_ANYWHERE"]].concat();
    let (content, _, error) = told(&world.run(&absent).await);
    assert!(!content && error.contains("no credential"), "{error}");
    let nobody = ["claims", "list", "--config", "{config}", "--admin", "127.0.0.1:1"];
    let (content, _, error) = told(&world.run(&nobody).await);
    assert!(!content && error.contains("no gateway answers"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_repeated_after_its_claim_was_ended_brings_back_no_total() {
    let doubt = Doubt::start().await;
    let mut purchase = doubt.purchase_with(SECURE_CARD).await;
    let total = purchase.total;
    purchase.token = mint(&purchase.agent, "lamps", &purchase.session, SECURE_CARD, total * 3).await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_ne!(purchase.complete().await.status, 200);
    let claim = purchase.listed(&doubt).await;
    assert_eq!(purchase.resolve(&claim, "not_charged").await.status, 200);
    assert_eq!(purchase.update().await.status, 200);
    // The merchant answers as it did, when there was one lamp.
    let again = purchase.complete().await;
    assert_eq!(again.text("/status").as_deref(), Some("authentication_required"), "{}", again.json());
    let sent = purchase.completes().len();
    let token = mint(&purchase.agent, "lamps", &purchase.session, GOOD_CARD, total).await;
    let cheap = complete(&purchase.agent, "lamps", &purchase.session, &token).await;
    assert_told(&cheap, 422, "amount_exceeds_allowance");
    assert_eq!(purchase.completes().len(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_does_what_its_roles_allow_and_looks_at_everything() {
    let mut doubt = Doubt::keyless().await;
    let more = ["read", "resolve", "suspend"].map(|role| {
        let digest = countersign::crypto::digest::sha256(&[role.as_bytes()]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[admin.operators]]\nname = \"{role}er\"\nroles = [\"{role}\"]\ncredentials = [\"sha256:{hex}\"]\n")
    });
    doubt
        .world
        .reopen(&[], |text| text.replacen("[store]\n", &format!("{}[store]\n", more.concat()), 1))
        .await;
    let admin = doubt.world.app().admin_address();
    let resolve = json!({
        "merchant": "lamps", "checkout_session_id": "cs_none", "claim": "c", "evidence": "not_charged"
    });
    let suspend = json!({"kind": "agent", "id": "alpha", "why": "a test"});
    let rows = [
        ("GET /claims", None, [true, true, true]),
        ("GET /suspensions", None, [true, true, true]),
        ("GET /store/replicas", None, [true, true, true]),
        ("POST /config/reload?try_out=true", None, [false, false, false]),
        ("POST /config/reload", None, [false, false, false]),
        ("POST /config/reload?try_out=false", None, [false, false, false]),
        ("POST /store/backup", None, [false, false, false]),
        ("POST /store/accept", None, [false, false, false]),
        ("POST /store/convert", None, [false, false, false]),
        ("POST /claims/resolve", Some(&resolve), [false, true, false]),
        ("POST /suspensions", Some(&suspend), [false, false, true]),
        ("POST /suspensions/resume", Some(&suspend), [false, false, true]),
    ];
    for (request, body, allowed) in rows {
        for (role, allowed) in ["read", "resolve", "suspend"].into_iter().zip(allowed) {
            let told = ask_admin(admin, Some(role), request, body).await;
            let refused = (told.status, told.code()) == (403, "operator_role_required");
            assert_eq!(refused, !allowed, "{role}: {request}: {told:?}");
        }
        let told = doubt.world.operate(request, body.cloned()).await;
        assert_ne!(told.code(), "operator_role_required", "who has all roles");
    }
    assert!(doubt.metric("countersign_refusals_total{reason=\"operator_role\"}") >= 20.0);
}
