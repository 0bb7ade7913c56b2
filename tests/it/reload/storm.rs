//! Many reloads of two replicas on one Redis, while both are bought through.
//!
//! Agents come and go, leaf certificates are swapped, a key is rotated, a merchant moves while claims there
//! are in doubt, and a quarter of all reloads is broken. As many as `COUNTERSIGN_RELOADS` says, of those a whole rotation needs more than a minute's.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign::crypto::digest::sha256;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::secret::SecretString;
use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::Answer;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::JoinSet;

use super::*;
use crate::redis_server::{self, Server};

/// Without being told otherwise.
const RELOADS: usize = 16;
/// From so many on a key has stood behind the current one for long enough meanwhile.
const WITH_A_ROTATION: usize = 200;
/// Who buys, at each replica.
const BUYERS: usize = 4;
/// Reloads without anybody buying: before memory is looked at, and until it is looked at again.
const QUIET: [usize; 2] = [20, 40];
/// A snapshot that is not freed is more than this, over so many.
const GROWTH: u64 = 8 << 20;

struct Storm {
    world: World,
    replicas: [Gateway; 2],
    /// The configuration of each as it began.
    good: [String; 2],
    /// Where the first shop is found, in turn.
    urls: [String; 2],
    /// Certificate and key, of two authorities that everybody here trusts.
    leaves: [[Vec<u8>; 2]; 2],
    tls: ClientConfig,
    guest: Guest,
    state: State,
    _server: Server,
}

/// An agent that comes and goes.
#[derive(Clone)]
struct Guest {
    credential: Arc<SecretString>,
    key: Arc<SigningKey>,
    entry: String,
}

/// What the configuration says now.
#[derive(Clone, Copy, Default)]
struct State {
    has_guest: bool,
    is_rotated: bool,
    burst: usize,
    leaf: usize,
    url: usize,
}

#[derive(Default)]
struct Count {
    bought: AtomicUsize,
    /// Requests that were sent again because the store did not answer in time.
    repeated: AtomicUsize,
    /// Those whose answer had been lost on its way.
    lost: AtomicUsize,
    is_over: AtomicBool,
}

const OLD_KEY: &str = "[[keys.sealing]]\nid = \"sealing-1\"\nsecret = \"file:sealing.key\"\n";
const NEW_KEY: &str = "[[keys.sealing]]\nid = \"sealing-2\"\nsecret = \"file:new.key\"\n";

impl State {
    fn text(self, good: &str, guest: &Guest, urls: &[String; 2]) -> String {
        let behind = format!("{OLD_KEY}{NEW_KEY}current = false\n");
        assert!(good.contains(&behind));
        let keys = if self.is_rotated { format!("{NEW_KEY}{OLD_KEY}") } else { behind.clone() };
        let burst = format!("address_request_burst = {}", 1_000_000 - self.burst);
        let text = good.replace(&behind, &keys).replace("address_request_burst = 1000000", &burst);
        let text = text.replace(&urls[0], &urls[self.url]);
        if self.has_guest { text + &guest.entry } else { text }
    }
}

impl Storm {
    async fn start() -> Self {
        let server = Server::start(redis_server::Options::default());
        let store = format!(
            "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true",
            server.url()
        );
        let mut world = World::closed(Options { store: Some(store), ..Options::default() }).await;
        std::fs::write(world.directory.path().join("new.key"), "ab".repeat(32)).unwrap();
        world.text = world.text.replace(OLD_KEY, &format!("{OLD_KEY}{NEW_KEY}current = false\n"));
        let doors = [Door::before(&world.lamps).await, Door::before(&world.lamps).await];
        let urls = doors.each_ref().map(|door| door.url(&world.lamps));
        world.text = doors[0].put_before(&world.lamps, &world.text);
        world.text.push_str(UNWATCHED);
        let script = || "exec \"$0\" \"$@\"".to_owned();
        let replicas = [
            Gateway::start_beside(&mut world, "first", script()).await,
            Gateway::start_beside(&mut world, "second", script()).await,
        ];
        let good = [&replicas[0], &replicas[1]].map(|one| std::fs::read_to_string(one.config()).unwrap());
        let directory = world.directory.path().join("renewed");
        let renewed = Certificates::ensure(&directory, &[GATEWAY, SHOP_HOST], world.clock.now()).unwrap();
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        let leaf = |one: &Certificates| [read(&one.certificate_file), read(&one.key_file)];
        let leaves = [leaf(&world.certificates), leaf(&renewed)];
        let mut roots = rustls::RootCertStore::empty();
        for authority in [&world.certificates, &renewed] {
            roots.add(CertificateDer::from_pem_file(&authority.authority_file).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        for shop in [&world.lamps, &world.books] {
            shop.connect_with(replicas[1].public, GATEWAY, tls.clone());
        }
        let guest = Guest::new();
        Self { world, replicas, good, urls, leaves, tls, guest, state: State::default(), _server: server }
    }

    /// One of the two agents, at a replica.
    fn agent(&self, index: usize, replica: usize) -> Agent {
        let address = self.replicas[replica].public;
        self.world.agent(index, |settings| {
            settings.address = address;
            settings.tls = self.tls.clone();
        })
    }

    fn guest(&self) -> Agent {
        let address = self.replicas[0].public;
        self.world.agent(0, |settings| {
            settings.address = address;
            settings.tls = self.tls.clone();
            settings.credential = Arc::clone(&self.guest.credential);
            settings.key = Arc::clone(&self.guest.key);
        })
    }

    /// Has a replica read this; the status and the words of its answer.
    async fn read(&self, replica: usize, text: &str) -> (u16, String) {
        let gateway = &self.replicas[replica];
        let beside = gateway.config().with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, gateway.config()).unwrap();
        let credential = Some(self.world.operator.expose());
        let told = ask_admin(gateway.admin, credential, "POST /config/reload", None).await;
        let words = told.body["message"].as_str().or(told.body["outcome"].as_str()).unwrap_or_default();
        (told.status, words.to_owned())
    }

    /// Has both replicas read what the configuration says now, changed by `change`.
    async fn both_say(&self, status: u16, change: impl Fn(String) -> String) -> Vec<String> {
        let mut said = Vec::new();
        for (replica, good) in self.good.iter().enumerate() {
            let (told, words) =
                self.read(replica, &change(self.state.text(good, &self.guest, &self.urls))).await;
            assert_eq!(told, status, "{words}");
            said.push(words);
        }
        said
    }

    /// The key becomes current on both replicas, or is refused by the first.
    async fn try_to_rotate(&mut self) {
        let rotated = State { is_rotated: true, ..self.state };
        let (status, words) = self.read(0, &rotated.text(&self.good[0], &self.guest, &self.urls)).await;
        if status == 409 {
            assert!(words.contains("sealing-2"), "{words}");
            return;
        }
        assert_eq!(status, 200, "{words}");
        self.state = rotated;
        self.both_say(200, |text| text).await;
    }

    /// The first shop gets its other base URL while the answers to some completes are lost.
    async fn move_away(&mut self) {
        for _ in 0..BUYERS {
            self.world.lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
        }
        let before = self.world.lamps.calls_of(CallKind::Complete).len();
        received(&self.world.lamps, CallKind::Complete, before + BUYERS).await;
        self.state.url = 1 - self.state.url;
        for replica in 0..2 {
            let text = self.state.text(&self.good[replica], &self.guest, &self.urls);
            let until = Instant::now() + PATIENCE;
            loop {
                let (status, words) = self.read(replica, &text).await;
                if status == 200 {
                    break;
                }
                // Just started, the other has not said yet what it writes.
                assert!(status == 409 && words.contains("until every replica notes"), "{words}");
                assert!(Instant::now() < until, "{words}");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    async fn reload(&mut self, round: usize) {
        match round % 8 {
            0 => {
                self.state.has_guest = true;
                self.both_say(200, |text| text).await;
            }
            1 => drop(self.both_say(422, |text| text + "\n[nothing]\n").await),
            3 => {
                self.state.leaf = 1 - self.state.leaf;
                let files = &self.world.certificates;
                let to = [&files.certificate_file, &files.key_file];
                for (content, file) in self.leaves[self.state.leaf].iter().zip(to) {
                    std::fs::write(file, content).unwrap();
                }
                assert_eq!(self.both_say(200, |text| text).await, ["applied"; 2]);
            }
            4 => {
                let restart = |text: String| text.replacen("[server]\n", "[server]\nheader_count = 99\n", 1);
                drop(self.both_say(409, restart).await);
            }
            5 if !self.state.is_rotated => self.try_to_rotate().await,
            6 => {
                self.state.has_guest = false;
                self.both_say(200, |text| text).await;
            }
            // When no guest buys, who might not be there to ask again.
            7 => self.move_away().await,
            _ => {
                self.state.burst += 1;
                assert_eq!(self.both_say(200, |text| text).await, ["applied"; 2]);
            }
        }
    }

    /// Operations on the store that neither worked nor found another writer first.
    async fn store_failures(&self) -> f64 {
        let mut failures = 0.0;
        for replica in &self.replicas {
            for line in replica.metrics().await.lines() {
                let is_well =
                    ["ok", "conflict"].iter().any(|word| line.contains(&format!("outcome=\"{word}\"")));
                if line.starts_with("countersign_store_operations_total{") && !is_well {
                    failures += line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
                }
            }
        }
        failures
    }

    async fn counted(&self, line: &str) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            let metrics = replica.metrics().await;
            let found =
                metrics.lines().find_map(|shown| shown.strip_prefix(line)?.trim().parse::<f64>().ok());
            sum += found.unwrap_or_default();
        }
        sum
    }
}

impl Guest {
    fn new() -> Self {
        let credential = SecretString::new("a-guests-credential".to_owned());
        let digest = sha256(&[credential.expose().as_bytes()]);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap().0;
        let entry = format!(
            "\n[[agents]]\nid = \"guest\"\ncredentials = [\"sha256:{digest}\"]\n\
             requests_per_second = 1000000\nrequest_burst = 1000000\n[[agents.keys]]\nid = \"key-1\"\n\
             jwk = {{ kty = \"OKP\", crv = \"Ed25519\", x = {} }}\n",
            key.public().to_jwk()["x"]
        );
        Self { credential: Arc::new(credential), key: Arc::new(key), entry }
    }
}

/// The answer to a request. On a busy machine the store may answer too late, which is no reload's doing, and
/// the shop is told to break off some answers: then it is sent again under its key, as its sender is told to,
/// and counted.
async fn answer_to(agent: &Agent, path: &str, body: &serde_json::Value, count: &Count) -> Answer {
    let request = agent.post(path, body).prepare().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = agent.send(&request).await.unwrap();
        let is_unknown = ["merchant_answer_lost", "outcome_unknown"].map(str::to_owned).map(Some);
        let repeats = match answer.status.as_u16() {
            502 | 503 if is_unknown.contains(&answer.code()) => &count.lost,
            503 => &count.repeated,
            _ => return answer,
        };
        if Instant::now() > until {
            return answer;
        }
        repeats.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const CREATE: &str = "/m/lamps/checkout_sessions";
const MINT: &str = "/agentic_commerce/delegate_payment";

fn complete_of(session: &str) -> String {
    format!("{CREATE}/{session}/complete")
}

/// Buys until it is over, and loses no request.
async fn buy(agent: Agent, count: Arc<Count>) {
    while !count.is_over.load(Ordering::SeqCst) {
        let created = answer_to(&agent, CREATE, &lamp_order(), &count).await;
        assert_eq!(created.status, 201, "{}", created.json());
        let session = created.text("/id").unwrap();
        let mint = mint_request(GOOD_CARD, "lamps", &session, total_of(&created.json()));
        let minted = answer_to(&agent, MINT, &mint, &count).await;
        assert_eq!(minted.status, 201, "{}", minted.json());
        let paying = payment(&minted.text("/id").unwrap());
        let answer = answer_to(&agent, &complete_of(&session), &paying, &count).await;
        assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
        count.bought.fetch_add(1, Ordering::SeqCst);
    }
}

/// The same, by who is not always known; how often it was not.
async fn buy_as_guest(agent: Agent, count: Arc<Count>) -> usize {
    let mut unknown = 0;
    while !count.is_over.load(Ordering::SeqCst) {
        let created = answer_to(&agent, CREATE, &lamp_order(), &count).await;
        if created.status == 401 {
            unknown += 1;
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        assert_eq!(created.status, 201, "{}", created.json());
        let session = created.text("/id").unwrap();
        let mint = mint_request(GOOD_CARD, "lamps", &session, total_of(&created.json()));
        let minted = answer_to(&agent, MINT, &mint, &count).await;
        if minted.status == 401 {
            continue;
        }
        assert_eq!(minted.status, 201, "{}", minted.json());
        let paying = payment(&minted.text("/id").unwrap());
        let completed = answer_to(&agent, &complete_of(&session), &paying, &count).await;
        if completed.status != 401 {
            let status = completed.text("/status");
            assert_eq!(status.as_deref(), Some("completed"), "{}", completed.json());
            count.bought.fetch_add(1, Ordering::SeqCst);
        }
    }
    unknown
}

/// Bytes of memory that a process has.
fn memory_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reloads_of_two_replicas_lose_no_request_release_no_claim_and_leave_nothing_behind() {
    let reloads = std::env::var("COUNTERSIGN_RELOADS").map_or(RELOADS, |count| count.parse().unwrap());
    let mut storm = Storm::start().await;
    let count = Arc::new(Count::default());
    let mut buyers = JoinSet::new();
    for replica in 0..2 {
        for _ in 0..BUYERS {
            buyers.spawn(buy(storm.agent(replica, replica), Arc::clone(&count)));
        }
    }
    let guest = tokio::spawn(buy_as_guest(storm.guest(), Arc::clone(&count)));
    // Of each reload somebody buys before the next.
    let between = if reloads < WITH_A_ROTATION { 1 } else { 100 };
    for round in 0..reloads {
        let before = count.bought.load(Ordering::SeqCst);
        storm.reload(round).await;
        let until = Instant::now() + PATIENCE;
        while count.bought.load(Ordering::SeqCst) < before + between {
            assert!(Instant::now() < until && buyers.try_join_next().is_none(), "nobody buys any more");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        // Who connects now sees the certificate of now.
        let fresh = storm.agent(round % 2, round % 2);
        assert_eq!(answer_to(&fresh, CREATE, &lamp_order(), &count).await.status, 201);
    }
    let until = Instant::now() + 2 * PATIENCE;
    while reloads >= WITH_A_ROTATION && !storm.state.is_rotated {
        assert!(Instant::now() < until, "the key does not become current");
        tokio::time::sleep(Duration::from_secs(1)).await;
        storm.try_to_rotate().await;
    }
    count.is_over.store(true, Ordering::SeqCst);
    buyers.join_all().await;
    assert!(guest.await.unwrap() > 0, "it was removed, and refused");

    // The books: what was answered, what was charged, what was settled.
    let bought = count.bought.load(Ordering::SeqCst);
    let mut charged: Vec<String> =
        storm.world.lamps.charges().into_iter().map(|charge| charge.session).collect();
    let once = charged.len();
    charged.sort();
    charged.dedup();
    assert_eq!(charged.len(), once, "a session was charged twice");
    assert!(count.lost.load(Ordering::SeqCst) > 0, "no claim was in doubt when its merchant moved");
    let repeated = count.repeated.load(Ordering::SeqCst);
    if repeated == 0 {
        assert_eq!(once, bought);
        assert_eq!(storm.counted("countersign_claims_total{outcome=\"charged\"}").await, bought as f64);
        assert_eq!(storm.counted("countersign_claims_total{outcome=\"released\"}").await, 0.0);
    } else {
        // Whose repeat was refused, because it had been removed by then, may have bought.
        assert!(once >= bought, "{once} of {bought}");
        assert!(storm.store_failures().await > 0.0, "{repeated} were told 503, and the store was well");
    }
    for replica in &storm.replicas {
        let operator = Some(storm.world.operator.expose());
        let until = Instant::now() + PATIENCE;
        loop {
            let open = ask_admin(replica.admin, operator, "GET /claims?all=true", None).await;
            if open.body["claims"].as_array().is_some_and(Vec::is_empty) {
                break;
            }
            // What the store did not take in time the worker finds out.
            assert!(repeated > 0 && Instant::now() < until, "{:?}", open.body);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(
        storm.counted("countersign_config_reloads_total{outcome=\"config_invalid\"}").await,
        (2 * ((reloads + 6) / 8)) as f64
    );

    // Nothing of the configurations that were is left.
    let mut memory = Vec::new();
    for quiet in QUIET {
        for _ in 0..quiet {
            storm.state.burst += 1;
            storm.both_say(200, |text| text).await;
        }
        memory.push(storm.replicas.each_ref().map(|replica| memory_of(replica.id())));
    }
    for (before, after) in memory[0].iter().zip(memory[1]) {
        assert!(after < before + GROWTH, "{memory:?}");
    }
}
