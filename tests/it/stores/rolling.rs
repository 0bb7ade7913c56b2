//! Replicas of one store that are replaced one by one under load, back and forth, and then convert it.

/// The same as a Deployment does it, by the manifests' numbers.
mod rollout;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use countersign::config::Config;
use countersign::domain::clock::{Clock as _, KeptClock, SystemClock};
use countersign::domain::id::{MerchantId, SessionId, TokenId};
use countersign::domain::session::SessionKind;
use countersign::ledger::Ledger;
use countersign::quickstart::agent::Agent;
use countersign::quickstart::client::Answer;
use countersign::records::replicas::look;
use countersign::records::{Batch, Durability, Kind, Purpose, RecordKey, RecordStore, Write};
use countersign::storage::{Opened, open_engine};
use tokio::task::JoinSet;

use super::*;
use crate::wire::PATIENCE;

/// Who buys at once.
const BUYERS: usize = 8;
/// Purchases between two changes.
const BETWEEN: usize = 24;
/// Within which a replica that is told to has left.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);

/// A replica as a balancer in front sees it.
struct Place {
    agent: Agent,
    /// It was told to leave: what it answers then is its drain's.
    leaves: AtomicBool,
    /// It has said so.
    left: AtomicBool,
}

/// A purchase as its buyer knows it.
struct Bought {
    session: String,
    token: String,
    total: u64,
    key: String,
    status: Option<String>,
    body: Vec<u8>,
}

/// The replicas, and what was bought over them.
#[derive(Default)]
struct Fleet {
    places: Mutex<Vec<Arc<Place>>>,
    turn: AtomicUsize,
    sent_away: AtomicUsize,
    stop: AtomicBool,
    bought: Mutex<Vec<Bought>>,
}

impl Fleet {
    fn join(&self, world: &World, gateway: &Gateway) -> Arc<Place> {
        let agent = world.agent(0, |settings| settings.address = gateway.public);
        let place = Place { agent, leaves: AtomicBool::new(false), left: AtomicBool::new(false) };
        let place = Arc::new(place);
        self.places.lock().unwrap().push(Arc::clone(&place));
        place
    }

    /// The replicas that serve, each in its turn.
    fn next(&self) -> Arc<Place> {
        let places = self.places.lock().unwrap();
        let serving: Vec<&Arc<Place>> =
            places.iter().filter(|place| !place.left.load(Ordering::Relaxed)).collect();
        Arc::clone(serving[self.turn.fetch_add(1, Ordering::Relaxed) % serving.len()])
    }

    /// Sends to whoever serves. Nothing above 499 is answered but by a drain.
    async fn post(&self, path: &str, body: &Value, key: &str) -> Answer {
        loop {
            let place = self.next();
            let sent = place.agent.post(path, body).key(key).send().await;
            let leaves = place.leaves.load(Ordering::Relaxed);
            match sent {
                Ok(answer) if !answer.status.is_server_error() => return answer,
                Ok(answer) => {
                    let told = (answer.status, answer.code().unwrap_or_default());
                    let of_drain = ["shutting_down", "service_unavailable"].contains(&&*told.1);
                    assert!(leaves && told.0 == 503 && of_drain, "{path}: {told:?} {:?}", answer.json());
                }
                Err(error) => assert!(leaves, "{path}: {error}"),
            }
            place.left.store(true, Ordering::Relaxed);
            self.sent_away.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Buys, each step over another replica; one of four cards is declined.
    async fn buy(&self, number: usize) {
        let [create, mint, complete] = ["create", "mint", "complete"].map(|verb| format!("{verb}-{number}"));
        let created = self.post("/m/lamps/checkout_sessions", &lamp_order(), &create).await;
        assert_eq!(created.status, 201, "{:?}", created.json());
        let (session, total) = (created.text("/id").unwrap(), total_of(&created.json()));
        let card = if number.is_multiple_of(4) { DECLINED_CARD } else { GOOD_CARD };
        let request = mint_request(card, "lamps", &session, total);
        let minted = self.post("/agentic_commerce/delegate_payment", &request, &mint).await;
        assert_eq!(minted.status, 201, "{:?}", minted.json());
        let token = minted.text("/id").unwrap();
        let completed = self.post(&complete_path(&session), &payment(&token), &complete).await;
        let status = completed.text("/status");
        let body = completed.body.to_vec();
        let bought = Bought { session, token, total, key: complete, status, body };
        self.bought.lock().unwrap().push(bought);
    }

    fn count(&self) -> usize {
        self.bought.lock().unwrap().len()
    }

    /// Sessions and tokens of what was bought so far.
    fn known(&self) -> Vec<(String, String)> {
        let bought = self.bought.lock().unwrap();
        bought.iter().map(|bought| (bought.session.clone(), bought.token.clone())).collect()
    }

    async fn buys_more(&self, running: &mut JoinSet<()>) {
        let (began, until) = (self.count(), Instant::now() + PATIENCE * 3);
        while self.count() < began + BETWEEN {
            if let Some(ended) = running.try_join_next() {
                ended.unwrap();
            }
            assert!(Instant::now() < until, "nobody buys");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn complete_path(session: &str) -> String {
    format!("/m/lamps/checkout_sessions/{session}/complete")
}

/// Where the release is that is replaced: this one, unless somebody names an older one.
fn before() -> String {
    let program = std::env::var("COUNTERSIGN_RELEASE_BEFORE").unwrap_or_default();
    if program.is_empty() { OURS.to_owned() } else { format!("exec {program} \"$@\"") }
}

const OURS: &str = "exec \"$0\" \"$@\"";

async fn opened(world: &World) -> Arc<dyn RecordStore> {
    let config = Config::parse(&world.text, world.directory.path());
    let config = config.map_err(|errors| errors.to_string()).unwrap();
    let clock = Arc::new(KeptClock::new(Arc::new(SystemClock)));
    let Opened { records, .. } =
        open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys).await.unwrap();
    records
}

/// Leaves a store as a release does that knows no registry of replicas.
async fn forget_registry(server: &Server, store: &dyn RecordStore) {
    let key = RecordKey::new(Kind::Registry, "replicas", "roll");
    let (durability, purpose) = (Durability::Synced, Purpose::Finish);
    let batch = Batch { expect: vec![], writes: vec![Write::Delete { key }], durability, purpose };
    assert!(store.commit(batch).await.unwrap().is_applied());
    let identity = "cs:{00}:identity";
    let text = server.command(&["GET", identity]).text();
    let (format, rest) = text.split_once(' ').unwrap();
    assert_eq!(format, "2");
    server.command(&["SET", identity, &format!("1 {rest}")]);
}

/// In which formats the records of these sessions and tokens are.
async fn formats(store: &Arc<dyn RecordStore>, bought: Vec<(String, String)>) -> BTreeMap<(u8, u8), usize> {
    let ledger = Ledger::new(Arc::clone(store), Arc::new(SystemClock));
    let merchant = MerchantId::parse("lamps").unwrap();
    let mut found = BTreeMap::new();
    for (session, token) in bought {
        let id = SessionId::parse(&session).unwrap();
        let session = ledger.partitions().session_key(SessionKind::Checkout, &merchant, &id);
        let token = countersign::token::record_key(&TokenId::parse(&token).unwrap());
        let records = store.read(&[session, token]).await.unwrap();
        let [session, token] = [0, 1].map(|at: usize| records[at].as_ref().unwrap().bytes[0]);
        *found.entry((session, token)).or_default() += 1;
    }
    found
}

/// A fleet of two under load, and the world around it.
struct Town {
    world: World,
    fleet: Arc<Fleet>,
    buyers: JoinSet<()>,
    serving: Vec<(Gateway, Arc<Place>)>,
    started: usize,
}

impl Town {
    async fn start_one(&mut self, script: &str) {
        self.started += 1;
        let name = format!("replica-{}", self.started);
        let gateway = Gateway::start_beside(&mut self.world, &name, script.to_owned()).await;
        let place = self.fleet.join(&self.world, &gateway);
        self.serving.push((gateway, place));
    }

    /// Leaves a purchase at the other shop in doubt, whose answer was lost: its path, body and key.
    async fn doubt(&self, place: &Place) -> (String, Value, String) {
        let agent = &place.agent;
        let (session, total) = create(agent, "books").await;
        let token = mint(agent, "books", &session, GOOD_CARD, total).await;
        self.world.books.behave_once(CallKind::Complete, Behaviour::ResetAfter);
        self.world.books.behave(CallKind::Read, Behaviour::Instead(Canned::status(500)));
        let (path, body) = (format!("/m/books/checkout_sessions/{session}/complete"), payment(&token));
        let key = format!("doubt-{session}");
        let lost = agent.post(&path, &body).key(&key).send().await.unwrap();
        assert_eq!(lost.status, 502, "{:?}", lost.json());
        (path, body, key)
    }

    /// The purchase is finished by those who serve now, whoever began it.
    async fn settles(&self, (path, body, key): (String, Value, String)) {
        self.world.books.behave_well();
        let until = Instant::now() + PATIENCE * 3;
        loop {
            let place = self.fleet.next();
            let told = place.agent.post(&path, &body).key(&key).send().await.unwrap();
            if told.status == 200 {
                assert_eq!(told.text("/status").as_deref(), Some("completed"));
                return;
            }
            assert!(Instant::now() < until, "{:?}", told.json());
            tokio::time::sleep(LOOK_AGAIN * 20).await;
        }
    }

    /// Replaces the one that has served the longest: it leaves, and then another comes.
    async fn replace(&mut self, script: &str) {
        let in_doubt = self.doubt(&self.serving[0].1).await;
        let (mut gateway, place) = self.serving.remove(0);
        self.world.meet(self.serving[0].0.public);
        place.leaves.store(true, Ordering::Relaxed);
        gateway.terminate();
        let status = gateway.exited(LEAVES_WITHIN).await;
        assert!(status.success(), "{status:?} {}", gateway.log());
        place.left.store(true, Ordering::Relaxed);
        for word in ["record_unreadable", "store_corrupt", "\"event\":\"overcharge\"", "second_order"] {
            assert!(!gateway.log().contains(word), "{word} {}", gateway.log());
        }
        self.start_one(script).await;
        self.settles(in_doubt).await;
        self.fleet.buys_more(&mut self.buyers).await;
    }

    async fn replace_both(&mut self, script: &str) {
        for _ in 0..2 {
            self.replace(script).await;
        }
    }
}

/// A fleet of the release before under load, with the server of its store.
struct Opening {
    server: Server,
    town: Town,
    before: String,
    is_ours: bool,
}

impl Town {
    async fn open(settings: &str) -> Opening {
        let server = tokio::task::block_in_place(|| Server::start(redis_server::Options::default()));
        let lines = format!(
            "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true",
            server.url()
        );
        let options = Options {
            store: Some(lines),
            agent: "live_tokens = 1000000".to_owned(),
            server: settings.to_owned(),
            ..Options::default()
        };
        let mut world = World::closed(options).await;
        // What an older release does not know; and one card is declined again and again.
        world.text = world
            .text
            .lines()
            .filter(|line| !line.starts_with("address_connection"))
            .fold(String::new(), |text, line| text + line + "\n");
        world.text.push_str("\n[fraud.declines]\nshadow = true\n");
        let mut town =
            Town { world, fleet: Arc::default(), buyers: JoinSet::new(), serving: Vec::new(), started: 0 };
        let (before, is_ours) = (before(), before() == OURS);
        if is_ours {
            // Whoever comes now finds a store that was used, and no registry in it.
            let mut first = Gateway::start_beside(&mut town.world, "first", before.clone()).await;
            first.terminate();
            assert!(first.exited(LEAVES_WITHIN).await.success());
            forget_registry(&server, &*opened(&town.world).await).await;
        }
        for _ in 0..2 {
            town.start_one(&before).await;
        }
        let numbers = Arc::new(AtomicUsize::new(0));
        for _ in 0..BUYERS {
            let (fleet, numbers) = (Arc::clone(&town.fleet), Arc::clone(&numbers));
            town.buyers.spawn(async move {
                while !fleet.stop.load(Ordering::Relaxed) {
                    fleet.buy(numbers.fetch_add(1, Ordering::Relaxed)).await;
                }
            });
        }
        Opening { server, town, before, is_ours }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_one_by_one_under_load_and_back_before_the_store_is_converted() {
    let Opening { server: _server, mut town, before, is_ours } = Town::open("drain_timeout = \"20s\"").await;
    let began = Instant::now();
    town.fleet.buys_more(&mut town.buyers).await;
    town.replace_both(OURS).await;
    town.replace_both(&before).await;
    town.replace_both(OURS).await;
    let store = opened(&town.world).await;
    let until_now = town.fleet.known();
    let (before_it, known) = (until_now.len(), formats(&store, until_now).await);
    assert_eq!(known.keys().collect::<Vec<_>>(), [&(1, 1)], "what every release reads: {known:?}");
    let registry = look(&*store, SystemClock.steady()).await.unwrap().unwrap();
    assert_eq!((registry.written.number(), registry.awaits_operator, registry.replicas.len()), (1, true, 2));

    let admin = town.serving[0].0.admin.to_string();
    let arguments = ["store", "convert", "--config", "{config}", "--admin", &admin];
    let (converted, out, error) = told(&town.world.run(&arguments).await);
    assert!(converted && out.contains("in formats 3 from now on"), "{out}{error}");
    // Each replica follows at its next look.
    let until = Instant::now() + PATIENCE;
    while !town.serving.iter().all(|(gateway, _)| gateway.log().contains("store_converted")) {
        assert!(Instant::now() < until, "a replica does not follow");
        town.fleet.buys_more(&mut town.buyers).await;
    }
    let converted = town.fleet.count() + BUYERS;
    town.replace_both(OURS).await;
    town.fleet.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = town.buyers.join_next().await {
        ended.unwrap();
    }
    let (took, sent_away) = (began.elapsed(), town.fleet.sent_away.load(Ordering::Relaxed));
    let last = formats(&store, town.fleet.known().split_off(converted)).await;
    assert_eq!(last.keys().collect::<Vec<_>>(), [&(5, 3)], "{last:?}");
    let bought = std::mem::take(&mut *town.fleet.bought.lock().unwrap());

    let mut charges: HashMap<String, _> = HashMap::new();
    for charge in town.world.lamps.charges() {
        assert!(charges.insert(charge.session.clone(), charge).is_none(), "charged twice");
    }
    let [mut charged, mut declined] = [0; 2];
    for Bought { session, token, total, key, status, body } in &bought {
        let state = status_of(&town.world, token).await;
        match charges.remove(session) {
            Some(charge) => {
                charged += 1;
                assert_eq!((charge.amount, &charge.token, charge.claim.is_empty()), (*total, token, false));
                assert_eq!((status.as_deref(), state.as_str()), (Some("completed"), "consumed"));
            }
            None => {
                declined += 1;
                assert_eq!((status.as_deref(), state.as_str()), (Some("ready_for_payment"), "active"));
            }
        }
        let again = town.fleet.post(&complete_path(session), &payment(token), key).await;
        assert_eq!((again.header("idempotent-replayed"), &again.body.to_vec()), (Some("true"), body));
    }
    assert!(charges.is_empty() && charged > declined && declined > 0);
    let doubted = town.world.books.charges();
    let sessions: HashSet<&str> = doubted.iter().map(|charge| charge.session.as_str()).collect();
    assert_eq!((doubted.len(), sessions.len()), (8, 8), "each once");
    if !is_ours {
        let mut refused = std::process::Command::new("/bin/sh");
        let config = town.world.directory.path().join("replica-1.toml");
        refused.args(["-c", &before, "countersign", "serve", "--config"]).arg(config);
        let output = refused.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("newer program"), "{said}");
    }
    println!(
        "{} purchases in {took:.1?} ({before_it} before the conversion), {charged} charged, {declined} declined, \
         {sent_away} sent away by drains",
        bought.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_read_what_is_written_does_not_start_and_says_so() {
    let mut world = World::with(Options { store: Some(EMBEDDED.to_owned()), ..Options::default() }).await;
    buy(&world).await;
    world.close().await;
    let store = opened(&world).await;
    let key = RecordKey::new(Kind::Registry, "replicas", "roll");
    let record = store.read(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap();
    // As a release leaves it that has newer formats: they stand behind the format of the record itself.
    let mut bytes = record.bytes.to_vec();
    assert_eq!(bytes[..2], [1, 3]);
    bytes[1] = 4;
    let write = Write::Put { key, bytes: bytes.into(), expires_at: None, due: None };
    let (durability, purpose) = (Durability::Synced, Purpose::Finish);
    let batch = Batch { expect: vec![], writes: vec![write], durability, purpose };
    assert!(store.commit(batch).await.unwrap().is_applied());
    drop(store);
    let (started, _, error) = told(&world.run(&["serve", "--config", "{config}"]).await);
    let said = "the store's records are written in formats 4, and this release reads formats up to 3";
    assert!(!started && error.contains(said), "{error}");
}
