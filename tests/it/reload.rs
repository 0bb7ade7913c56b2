//! The configuration read again while the gateway serves: what that changes, and what it never breaks.

/// Keys that become current on several replicas.
mod keys;
/// Merchants that move.
mod moved;
/// Merchants that leave.
mod retired;
/// Many reloads of replicas that are bought through.
mod storm;

use std::time::{Duration, Instant};

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Http;
use countersign::quickstart::shop::{Behaviour, CallKind};

use crate::world::child::{Gateway, LOOK_AGAIN};
use crate::world::*;

/// For what a reload does, and a watch that waits until files stand still.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that watches no files, so that what is read is what a test asks for.
const UNWATCHED: &str = "\n[reload]\nwatch = false\n";

struct Reloading {
    world: World,
    gateway: Gateway,
}

impl Reloading {
    async fn start(more: &str) -> Self {
        let mut world = World::closed(Options::default()).await;
        world.text.push_str(more);
        let gateway = Gateway::start(&mut world).await;
        Self { world, gateway }
    }

    /// Writes the configuration anew, whole, as a deployment does.
    fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let text = change(std::fs::read_to_string(self.gateway.config()).unwrap());
        let beside = self.gateway.config().with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.gateway.config()).unwrap();
    }

    fn count(&self, words: &str) -> usize {
        self.gateway.log().matches(words).count()
    }

    /// Waits for one more line with these words than there were.
    async fn until_more(&self, words: &str, before: usize) {
        let until = Instant::now() + PATIENCE;
        while self.count(words) <= before {
            assert!(Instant::now() < until, "no {words} in {}", self.gateway.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Sends SIGHUP and waits for the event.
    async fn hang_up(&self, event: &str) {
        let words = format!(r#""event":"{event}","by":"signal""#);
        let before = self.count(&words);
        self.gateway.signal("HUP");
        self.until_more(&words, before).await;
    }

    /// What `countersign reload` says: whether it was content, and its words.
    async fn command(&self, verb: &str) -> (bool, String) {
        let (content, out, errors) = told(&self.gateway.run(&self.world, verb).await);
        (content, out + &errors)
    }

    async fn outcomes(&self, outcome: &str) -> String {
        let line = format!("countersign_config_reloads_total{{outcome=\"{outcome}\"}} ");
        let metrics = self.gateway.metrics().await;
        metrics.lines().find_map(|shown| shown.strip_prefix(&line)).unwrap_or("0").to_owned()
    }
}

/// The part of a configuration that is one agent's entry.
fn agent_entry(text: &str, name: &str) -> String {
    let start = text.find(&format!("\n[[agents]]\nid = \"{name}\"")).unwrap();
    let rest = &text[start + 1..];
    let end = rest[1..].find("\n[[agents]]").or_else(|| rest.find("\n[[merchants]]")).unwrap();
    text[start..start + 1 + end].to_owned()
}

async fn status(agent: &Agent) -> u16 {
    agent.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap().status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_removed_is_refused_at_once_and_nobody_else_loses_a_request() {
    let reloading = Reloading::start(UNWATCHED).await;
    let (alpha, beta) = (reloading.world.alpha(), reloading.world.beta());
    assert_eq!((status(&alpha).await, status(&beta).await), (201, 201));
    // One of each is at the merchant when the configuration is replaced: both end as they would have.
    let purchase = async |agent: &Agent| {
        let (session, total) = create(agent, "lamps").await;
        (session.clone(), mint(agent, "lamps", &session, GOOD_CARD, total).await)
    };
    let mut buying = Vec::new();
    for (begun, agent) in [&alpha, &beta].into_iter().enumerate() {
        let (session, token) = purchase(agent).await;
        reloading.world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
        let agent = agent.clone();
        buying.push(tokio::spawn(async move { complete(&agent, "lamps", &session, &token).await }));
        received(&reloading.world.lamps, CallKind::Complete, begun + 1).await;
    }
    let whole = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    reloading.rewrite(|text| text.replace(&agent_entry(&text, "beta"), ""));
    reloading.hang_up("config_reloaded").await;
    assert_eq!((status(&alpha).await, status(&beta).await), (201, 401), "on the connections they had");
    reloading.world.lamps.release();
    for bought in buying {
        assert_eq!(bought.await.unwrap().text("/status").as_deref(), Some("completed"));
    }
    reloading.rewrite(|_| whole);
    reloading.hang_up("config_reloaded").await;
    assert_eq!(status(&beta).await, 201);
    reloading.hang_up("config_unchanged").await;
    assert_eq!(reloading.outcomes("applied").await, "2");
    assert_eq!(reloading.outcomes("unchanged").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_have_changed_and_stand_still_are_read_by_themselves() {
    let reloading = Reloading::start("").await;
    let alpha = reloading.world.alpha();
    let good = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    let applied = r#""event":"config_reloaded","by":"watch""#;
    // Mistakes change nothing, each is told with its line, and once.
    reloading.rewrite(|text| text.replacen("concurrency = 4000", "concurency = 4000", 1) + "\n[nothing]\n");
    reloading.until_more(r#""event":"config_invalid""#, 1).await;
    let log = reloading.gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("config_invalid")).collect();
    assert!(told[0].contains("did you mean `concurrency`?"), "{told:?}");
    assert_eq!(status(&alpha).await, 201);
    assert_eq!(reloading.count(applied), 0);
    // A secret beside it counts as a part of it.
    reloading.rewrite(|_| good.replacen("concurrency = 4000", "concurrency = 3999", 1));
    reloading.until_more(applied, 0).await;
    std::fs::write(reloading.world.directory.path().join("lamps.credential"), "another-credential").unwrap();
    reloading.until_more(applied, 1).await;
    let (session, _) = create(&reloading.world.alpha(), "books").await;
    let refused = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).send().await.unwrap();
    assert_eq!(refused.status, 502, "the shop knows the other credential: {}", refused.json());
    assert!(!session.is_empty());
    assert_eq!(reloading.outcomes("config_invalid").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_asked_for_its_secret_at_each_reload_and_one_that_fails_leaves_the_last() {
    let mut world = World::closed(Options::default()).await;
    let by_file = "credential = \"file:lamps.credential\"";
    assert_eq!(world.text.matches(by_file).count(), 1);
    world.text = world.text.replace(by_file, "credential = \"exec:lamps\"");
    world.text.push_str("[[programs]]\nid = \"lamps\"\ncommand = [\"cat\", \"lamps.credential\"]\n");
    world.text.push_str(UNWATCHED);
    let gateway = Gateway::start(&mut world).await;
    let mut reloading = Reloading { world, gateway };
    let alpha = reloading.world.alpha();
    assert_eq!(status(&alpha).await, 201);
    let printed = reloading.world.directory.path().join("lamps.credential");
    let aside = printed.with_extension("aside");
    std::fs::rename(&printed, &aside).unwrap();
    let (content, said) = reloading.command("reload").await;
    assert!(
        !content
            && said.contains(
                "credential: the program failed (exit code 1) and said: … … No such file or directory"
            ),
        "{said}"
    );
    assert_eq!(status(&alpha).await, 201, "with what it printed last");
    // A start has nothing to go on with.
    reloading.gateway.kill();
    let (content, _, errors) = told(&reloading.gateway.run(&reloading.world, "serve").await);
    assert!(!content && errors.contains("the program failed (exit code 1)"), "{errors}");
    std::fs::rename(&aside, &printed).unwrap();
    reloading.gateway.restart().await;
    assert_eq!(status(&reloading.world.alpha()).await, 201);
    // What it prints from now on is taken, though no file that is named has changed.
    std::fs::write(&printed, "another-credential").unwrap();
    let (content, said) = reloading.command("reload").await;
    assert!(content && said == "applied\n  ~ merchants lamps\n", "{said}");
    assert_eq!(status(&reloading.world.alpha()).await, 502, "the shop knows the other credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_is_not_taken_away_and_each_reason_is_named() {
    let reloading = Reloading::start(UNWATCHED).await;
    let alpha = reloading.world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    reloading.world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&reloading.world.lamps, CallKind::Complete, 1).await;
    let good = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    let new_key = "[[keys.sealing]]\nid = \"sealing-2\"\nsecret = \"file:new.key\"\n";
    std::fs::write(reloading.world.directory.path().join("new.key"), "ab".repeat(32)).unwrap();
    reloading.rewrite(|text| {
        text.replacen("min_free_bytes = \"16MiB\"", "min_free_bytes = \"17MiB\"", 1)
            .replacen("[server]\n", "[server]\nheader_count = 99\n", 1)
            .replacen("idempotency = \"keys\"", "idempotency = \"none\"", 1)
            // The key that seals now is gone, and one nobody has had is current.
            .replacen("[[keys.sealing]]\nid = \"sealing-1\"\nsecret = \"file:sealing.key\"\n", new_key, 1)
    });
    let reasons = [
        "[server]: only a restart",
        "[store]: only a restart",
        "the store still depends on sealing key \"sealing-1\"",
        "keys.sealing: \"sealing-2\" is to stand behind the current key",
        "merchants: \"lamps\" cannot have another `idempotency` while claims are open there: 1 now",
    ];
    for verb in ["diff", "reload"] {
        let (content, said) = reloading.command(verb).await;
        assert!(!content, "{said}");
        for reason in reasons {
            assert!(said.contains(reason), "{verb}: no {reason} in {said}");
        }
    }
    reloading.hang_up("reload_refused").await;
    let words = r#""event":"reload_refused","by":"signal""#;
    reloading.until_more(words, reasons.len() - 1).await;
    let log = reloading.gateway.log();
    let logged = log.lines().filter(|line| line.contains(words));
    assert_eq!(logged.count(), reasons.len());
    // Nor does the whole merchant go; once its claim has ended, it may move and go.
    let entry = good[good.find("\n[[merchants]]").unwrap()..].to_owned();
    let lamps = entry[..1 + entry[1..].find("\n[[merchants]]\n").unwrap()].to_owned();
    reloading.rewrite(|_| good.replace(&lamps, ""));
    let (content, said) = reloading.command("reload").await;
    assert!(!content && said.contains("\"lamps\" cannot go while claims are open there: 1 now"), "{said}");
    reloading.world.lamps.release();
    assert_eq!(buying.await.unwrap().text("/status").as_deref(), Some("completed"));
    let (content, said) = reloading.command("diff").await;
    assert!(content && said.starts_with("would apply\n  - merchants lamps"), "{said}");
    assert_eq!(status(&alpha).await, 201, "it was only tried out");
    let (content, said) = reloading.command("reload").await;
    assert!(content && said.starts_with("applied\n  - merchants lamps"), "{said}");
    assert_eq!(status(&alpha).await, 404);
    assert_eq!(reloading.outcomes("reload_refused").await, "3");
}

/// Its claims were looked for when it had none; what comes later finds that it has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_that_was_on_its_way_when_its_merchant_went_begins_no_claim() {
    let reloading = Reloading::start(UNWATCHED).await;
    let alpha = reloading.world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let path = format!("/m/lamps/checkout_sessions/{session}");
    // The total is not known any more, and read first; the read is held.
    let lost = Behaviour::After(countersign::quickstart::shop::Canned::status(500));
    reloading.world.lamps.behave_once(CallKind::Update, lost);
    let update = serde_json::json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
    assert_eq!(alpha.post(&path, &update).send().await.unwrap().status, 500);
    reloading.world.lamps.behave_once(CallKind::Read, Behaviour::HoldBefore);
    let buying = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    received(&reloading.world.lamps, CallKind::Read, 1).await;
    let good = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    let entry = good[good.find("\n[[merchants]]").unwrap()..].to_owned();
    let lamps = entry[..1 + entry[1..].find("\n[[merchants]]\n").unwrap()].to_owned();
    reloading.rewrite(|_| good.replace(&lamps, ""));
    reloading.hang_up("config_reloaded").await;
    reloading.world.lamps.release();
    let answer = buying.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text("/code").as_deref()), (503, Some("service_unavailable")));
    assert!(reloading.world.lamps.calls_of(CallKind::Complete).is_empty());
    // It is back, and so is the purchase.
    reloading.rewrite(|_| good);
    reloading.hang_up("config_reloaded").await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
    assert_eq!(reloading.world.lamps.charges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_secret_and_a_setting_of_reload_itself_are_refused() {
    let reloading = Reloading::start(UNWATCHED).await;
    std::fs::write(reloading.world.directory.path().join("sealing.key"), "cd".repeat(32)).unwrap();
    reloading.rewrite(|text| text.replace("watch = false", "watch = true"));
    let (content, said) = reloading.command("reload").await;
    assert!(!content, "{said}");
    for reason in ["keys.sealing: \"sealing-1\" has another secret", "[reload]: only a restart"] {
        assert!(said.contains(reason), "no {reason} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_takes_away_no_more_than_a_tenth_and_who_asks_may() {
    let reloading = Reloading::start("").await;
    reloading.rewrite(|text| text.replace(&agent_entry(&text, "beta"), ""));
    reloading.until_more(r#""event":"reload_refused","by":"watch""#, 0).await;
    assert!(reloading.gateway.log().contains("agents: 1 of 2 would go"), "{}", reloading.gateway.log());
    assert_eq!(status(&reloading.world.beta()).await, 201);
    let (content, said) = reloading.command("reload").await;
    assert!(content && said == "applied\n  - agents beta\n", "{said}");
    let told = r#""event":"config_reloaded","by":"operator","operator":"on-call""#;
    reloading.until_more(told, 0).await;
    let until = Instant::now() + PATIENCE;
    let age = "countersign_key_current_since_timestamp_seconds{ring=";
    while reloading.gateway.metrics().await.matches(age).count() < 5 {
        assert!(Instant::now() < until, "the current key of each ring has an age");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!(status(&reloading.world.beta()).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_to_who_connects_and_closes_no_connection() {
    let reloading = Reloading::start(UNWATCHED).await;
    let first = reloading.world.alpha();
    assert_eq!(status(&first).await, 201);
    let accepted = async |gateway: &Gateway| {
        let metrics = gateway.metrics().await;
        let ready = metrics.lines().filter(|line| line.starts_with("countersign_connections_total{"));
        ready.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    };
    let before = accepted(&reloading.gateway).await;
    // Of another authority, so that who still sees the old one fails.
    let directory = tempfile::tempdir().unwrap();
    let renewed = countersign::quickstart::certificates::Certificates::ensure(
        directory.path(),
        &[GATEWAY, SHOP_HOST],
        reloading.world.clock.now(),
    )
    .unwrap();
    std::fs::copy(&renewed.certificate_file, &reloading.world.certificates.certificate_file).unwrap();
    std::fs::copy(&renewed.key_file, &reloading.world.certificates.key_file).unwrap();
    reloading.hang_up("config_reloaded").await;
    let mut newcomer = reloading.world.agent(0, |settings| {
        settings.tls = renewed.client().unwrap();
        settings.http = Http::One;
    });
    assert_eq!(status(&newcomer).await, 201);
    assert_eq!(status(&first).await, 201);
    assert_eq!(accepted(&reloading.gateway).await, before + 1, "the first connection is used still");
    // A key that is not the certificate's is refused, and the certificate in use stays in use.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&reloading.world.certificates.key_file, other).unwrap();
    let (content, said) = reloading.command("reload").await;
    assert!(!content && said.contains("key_file"), "{said}");
    newcomer = reloading.world.agent(0, |settings| settings.tls = renewed.client().unwrap());
    assert_eq!(status(&newcomer).await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_refills_nobodys_bucket() {
    let mut world = World::closed(Options::default()).await;
    world.text = world.text.replace(
        "requests_per_second = 1000000\nrequest_burst = 1000000\n\n[[agents.keys]]",
        "requests_per_second = 1\nrequest_burst = 100\n\n[[agents.keys]]",
    );
    world.text.push_str(UNWATCHED);
    let gateway = Gateway::start(&mut world).await;
    let reloading = Reloading { world, gateway };
    let alpha = reloading.world.alpha();
    // Nothing is left of the burst.
    let mut asked = 0;
    while status(&alpha).await != 429 {
        asked += 1;
        assert!(asked < 5_000, "never limited");
    }
    let since = Instant::now();
    reloading.rewrite(|text| text.replacen("concurrency = 4000", "concurrency = 3999", 1));
    reloading.hang_up("config_reloaded").await;
    // One a second has come back meanwhile, and no burst.
    let mut passed = 0;
    while status(&alpha).await != 429 {
        passed += 1;
    }
    assert!(passed <= since.elapsed().as_secs() + 1, "{passed} after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_under_load_lose_no_request_and_release_no_claim() {
    let reloading = Reloading::start(UNWATCHED).await;
    let good = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    let beta = agent_entry(&good, "beta");
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut buying = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (alpha, over) = (reloading.world.alpha(), over.clone());
        buying.spawn(async move {
            let mut bought = 0;
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let (session, total) = create(&alpha, "lamps").await;
                let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
                let answer = complete(&alpha, "lamps", &session, &token).await;
                assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
                bought += 1;
            }
            bought
        });
    }
    for round in 0..20 {
        let (text, event) = match round % 4 {
            0 => (good.replace(&beta, ""), "config_reloaded"),
            1 => (good.clone() + "\n[nothing]\n", "config_invalid"),
            2 => (good.clone(), "config_reloaded"),
            _ => (
                good.replacen("request_burst = 1000000", &format!("request_burst = {}", 900_000 + round), 1),
                "config_reloaded",
            ),
        };
        reloading.rewrite(|_| text);
        reloading.hang_up(event).await;
    }
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    let bought: usize = buying.join_all().await.into_iter().sum();
    let charges = reloading.world.lamps.charges();
    assert!(bought > 0);
    assert_eq!(charges.len(), bought);
    let claims = ask_admin(
        reloading.gateway.admin,
        Some(reloading.world.operator.expose()),
        "GET /claims?all=true",
        None,
    )
    .await;
    assert_eq!(claims.body["claims"].as_array().map(Vec::len), Some(0), "{:?}", claims.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_is_open_stays_open_and_leaves_nothing_behind_when_its_merchant_goes() {
    let mut world = World::closed(Options::default()).await;
    let door = Door::before(&world.lamps).await;
    world.text = door.put_before(&world.lamps, &world.text) + UNWATCHED;
    let gateway = Gateway::start(&mut world).await;
    let reloading = Reloading { world, gateway };
    let (alpha, beta) = (reloading.world.alpha(), reloading.world.beta());
    assert_eq!((status(&alpha).await, status(&beta).await), (201, 201));
    door.shut();
    for _ in 0..10 {
        assert_eq!((status(&alpha).await, status(&beta).await), (502, 502));
    }
    assert_eq!((status(&alpha).await, status(&beta).await), (503, 503));
    // Its entry says something else, of its breaker too.
    reloading.rewrite(|text| {
        text.replacen("concurrency = 4000", "concurrency = 3999\nbreaker = { requests = 25 }", 1)
    });
    reloading.hang_up("config_reloaded").await;
    assert_eq!((status(&alpha).await, status(&beta).await), (503, 503));
    let shown = reloading.gateway.metrics().await;
    assert!(shown.contains("countersign_breaker_state{merchant=\"lamps\"} 2\n"), "{shown}");
    assert!(
        shown.contains("countersign_breaker_openings_total{cause=\"unanswered\",merchant=\"lamps\"} 1\n")
    );
    let whole = std::fs::read_to_string(reloading.gateway.config()).unwrap();
    let start = whole.find("\n[[merchants]]\nid = \"lamps\"").unwrap();
    let end = whole.find("\n[[merchants]]\nid = \"books\"").unwrap();
    reloading.rewrite(|text| text[..start].to_owned() + &text[end..]);
    reloading.hang_up("config_reloaded").await;
    let shown = reloading.gateway.metrics().await;
    assert!(shown.contains("countersign_breaker_state{merchant=\"books\"} 0\n"), "{shown}");
    assert!(!shown.contains("merchant=\"lamps\""), "{shown}");
    // Who comes back begins anew.
    door.open();
    reloading.rewrite(|_| whole);
    reloading.hang_up("config_reloaded").await;
    assert_eq!((status(&alpha).await, status(&beta).await), (201, 201));
}
