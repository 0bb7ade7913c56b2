//! `kill -9` in the middle of a thousand purchases, again and again. Agents repeat what was not
//! answered, each operation with its own key, until it is; then the shops' ledgers, the tokens and
//! the answers must tell one story.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{CallKind, Charge};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::child::Gateway;
use crate::world::*;

/// Purchases under way at once.
const BUYERS: usize = 32;
/// Connections they share.
const CONNECTIONS: usize = 8;
/// After this an operation counts as stuck.
const PATIENCE: Duration = Duration::from_secs(240);
/// Pause before a repeat, while the process is down or at work on the same key.
const SOON: Duration = Duration::from_millis(20);
/// Pause before a repeat when nobody knows the outcome yet.
const LATER: Duration = Duration::from_millis(500);

/// What an agent holds when a purchase is over: its keys, and the answers it was given.
struct Bought {
    number: usize,
    session: String,
    total: u64,
    token: String,
    created: Answer,
    mint: Value,
    minted: Answer,
    completed: Answer,
}

/// How it went.
#[derive(Default)]
struct Tally {
    /// Sendings beyond the first of each operation.
    repeats: AtomicUsize,
    /// Answers that the outcome is not known yet.
    unknown: AtomicUsize,
}

/// Sends until there is an answer that settles the operation, with the same key each time.
async fn insist(agent: &Agent, path: &str, body: &Value, key: String, tally: &Tally) -> Answer {
    let until = Instant::now() + PATIENCE;
    loop {
        let sent = agent.post(path, body).key(&*key).send().await;
        let (told, pause) = match &sent {
            Ok(answer) => match (answer.status.as_u16(), answer.code().as_deref()) {
                (503, Some("outcome_unknown")) => {
                    tally.unknown.fetch_add(1, Ordering::Relaxed);
                    (format!("{:?}", answer.json()), LATER)
                }
                (502..=504, _) | (409, Some("idempotency_in_flight")) => {
                    (format!("{:?}", answer.json()), SOON)
                }
                _ => return sent.unwrap(),
            },
            Err(error) => (error.to_string(), SOON),
        };
        assert!(Instant::now() < until, "{path} with {key} is stuck: {told}");
        tally.repeats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}

/// Creates, mints and pays. Declines are outcomes; anything else is a failure.
async fn buy(agent: &Agent, number: usize, tally: &Tally) -> Bought {
    let created = insist(agent, CREATE, &lamp_order(), key("create", number), tally).await;
    assert_eq!(created.status, 201, "{}", created.json());
    let (session, total) = (created.text("/id").unwrap(), total_of(&created.json()));
    let mint = mint_request(GOOD_CARD, "lamps", &session, total);
    let minted = insist(agent, MINT, &mint, key("mint", number), tally).await;
    assert_eq!(minted.status, 201, "{}", minted.json());
    let token = minted.text("/id").unwrap();
    let path = complete_path(&session);
    let completed = insist(agent, &path, &payment(&token), key("complete", number), tally).await;
    assert_eq!(completed.status, 200, "{}", completed.json());
    Bought { number, session, total, token, created, mint, minted, completed }
}

const CREATE: &str = "/m/lamps/checkout_sessions";
const MINT: &str = "/agentic_commerce/delegate_payment";

fn complete_path(session: &str) -> String {
    format!("/m/lamps/checkout_sessions/{session}/complete")
}

fn key(verb: &str, number: usize) -> String {
    format!("{verb}-{number}")
}

/// Runs `purchases` purchases while the process is killed `kills` times, and audits what is left.
async fn crash(options: Options, purchases: usize, kills: usize, seed: u64) {
    let began = Instant::now();
    let mut world = World::closed(options).await;
    // A shop that cannot redeem while the gateway is down declines, more often than an agent may.
    world.text.push_str("\n[fraud.declines]\nshadow = true\n");
    let mut gateway = Gateway::start(&mut world).await;
    let agents: Arc<Vec<Agent>> = Arc::new((0..CONNECTIONS).map(|_| world.alpha()).collect());
    let tally = Arc::new(Tally::default());
    let next = Arc::new(AtomicUsize::new(0));
    let progress = watch::Sender::new(0_usize);
    let mut buyers = JoinSet::new();
    for buyer in 0..BUYERS {
        let (agents, tally, next) = (Arc::clone(&agents), Arc::clone(&tally), Arc::clone(&next));
        let progress = progress.clone();
        buyers.spawn(async move {
            let mut bought = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= purchases {
                    return bought;
                }
                bought.push(buy(&agents[buyer % CONNECTIONS], number, &tally).await);
                progress.send_modify(|done| *done += 1);
            }
        });
    }

    let mut dice = Dice(seed);
    let mut done = progress.subscribe();
    for kill in 0..kills {
        let share = purchases / (kills + 1);
        let moment = share * kill + dice.roll(share as u64) as usize;
        done.wait_for(|done| *done >= moment).await.unwrap();
        // Somewhere within the next few requests, not always just after an answer.
        tokio::time::sleep(Duration::from_micros(dice.roll(20_000))).await;
        gateway.kill();
        if kill % 3 == 2 {
            gateway.restart().await;
            gateway.kill();
        }
        gateway.restart().await;
    }
    let killed_at = *done.borrow();
    assert!(killed_at < purchases, "the last kill came when everything was over");

    let mut bought = Vec::new();
    while let Some(joined) = buyers.join_next().await {
        match joined {
            Ok(theirs) => bought.extend(theirs),
            Err(failed) => panic!("{}", story(&world, &gateway, &failed.into_panic())),
        }
    }
    let took = began.elapsed();
    let charged = audit(&world, &agents[0], &bought).await;
    let received = world.lamps.calls_of(CallKind::Complete).len();
    assert!(received > charged, "nothing was lost, so nothing was shown");
    let [repeats, unknown] = [&tally.repeats, &tally.unknown].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{purchases} purchases, {} kills, seed {seed}: {received} completes received, {charged} charged, \
         {} declined; {repeats} repeats, {unknown} told to wait; {took:.1?}",
        kills + kills / 3,
        purchases - charged,
    );
}

/// What the gateway logged of the session that a failure names, and what its shop received for it.
fn story(world: &World, gateway: &Gateway, failure: &(dyn std::any::Any + Send)) -> String {
    let why = failure.downcast_ref::<String>().map_or("", String::as_str);
    let session = why.split('/').find(|part| part.starts_with("cs_")).unwrap_or("no session");
    let mut story = format!("{why}\n");
    for line in gateway.log().lines().filter(|line| line.contains(session)) {
        story += &format!("{line}\n");
    }
    for call in world.lamps.calls().iter().filter(|call| call.path.contains(session)) {
        story += &format!("{:?} {:?}\n", call.kind, call.idempotency_key);
    }
    story
}

/// One story: what the ledger says, what agents were told, what the tokens say. How many were
/// charged.
async fn audit(world: &World, agent: &Agent, bought: &[Bought]) -> usize {
    let mut charges: HashMap<String, Charge> = HashMap::new();
    for charge in world.lamps.charges() {
        let session = charge.session.clone();
        let twice = charges.insert(session, charge);
        assert_eq!(twice, None, "charged twice");
    }
    let mut charged = 0;
    for purchase in bought {
        let Bought { number, session, total, token, .. } = purchase;
        let token_path = format!("/agentic_commerce/issued_tokens/{token}");
        let status = agent.get(token_path).send().await.unwrap().text("/status");
        let told = purchase.completed.text("/status");
        match charges.remove(session) {
            Some(charge) => {
                charged += 1;
                assert_eq!((charge.amount, &charge.token), (*total, token));
                assert_eq!(told.as_deref(), Some("completed"), "{number}: an order without its answer");
                assert_eq!(purchase.completed.text("/order/id"), Some(charge.order));
                assert_eq!(status.as_deref(), Some("consumed"), "{number}: {session}");
            }
            None => {
                assert_eq!(
                    told.as_deref(),
                    Some("ready_for_payment"),
                    "{number}: an answer without its order"
                );
                assert_eq!(status.as_deref(), Some("active"), "{number}: {session}");
            }
        }
        // What was acknowledged is still there, and is answered again as it was.
        for (path, body, verb, first) in [
            (CREATE.to_owned(), lamp_order(), "create", &purchase.created),
            (MINT.to_owned(), purchase.mint.clone(), "mint", &purchase.minted),
            (complete_path(session), payment(token), "complete", &purchase.completed),
        ] {
            let again = agent.post(path, &body).key(key(verb, *number)).send().await.unwrap();
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{verb} {number}");
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{verb} {number}");
        }
    }
    assert!(charges.is_empty(), "orders nobody was told of: {charges:?}");
    charged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_purchases_survive_kill_9_at_a_merchant_that_honours_keys() {
    // Under another key the shop would charge a completed session again.
    // What was lost is sent again only after its deadline and a margin.
    let merchant = "[merchants.deadlines]\nfirst_byte = \"2s\"\ntotal = \"2s\"".to_owned();
    crash(Options { careless_shops: true, merchant, ..Options::default() }, 1000, 9, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_survive_kill_9_at_a_merchant_that_ignores_keys() {
    // What never arrived is sent again only after the grace period: the shortest there is.
    let merchant = "doubt_grace = \"1m\"".to_owned();
    let options = Options { careless_shops: true, keyless_shops: true, merchant, ..Options::default() };
    crash(options, 300, 6, 2).await;
}
