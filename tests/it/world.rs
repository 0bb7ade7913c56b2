//! The world of a test: a gateway, two shops, two agents, all over TLS.
//!
//! A gateway on free ports with a store in a temporary directory, two shops, two agents. Everything
//! speaks TLS over loopback.

/// Worlds with another configuration.
mod amended;
/// Answers that a shop is told to give.
mod canned;
/// A way to a shop that can be shut.
mod door;
/// The gateway as a process of its own.
pub mod child;
/// A collector of traces.
pub mod collector;
/// What operators ask.
mod operating;
/// A relay before a shop.
mod relay;
/// What agents send.
mod requests;
/// What tests watch and roll.
mod watching;

pub use door::*;
pub use operating::*;
pub use relay::*;
pub use requests::*;
pub use watching::*;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use countersign::acp::version::Version;
use countersign::app::App;
use countersign::config::Config;
use countersign::crypto::digest::sha256;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::{Clock, SystemClock};
use countersign::domain::secret::SecretString;
use countersign::merchant::LookUp;
use countersign::quickstart::agent::{Agent, AgentSettings};
use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::Http;
use countersign::quickstart::shop::{Shop, ShopSettings};
use countersign::telemetry::otlp;
use parking_lot::Mutex;

use crate::redis_server::{self, Server};
pub use canned::*;

/// The gateway's own authority; the sockets are elsewhere.
pub const GATEWAY: &str = "gateway.test";
/// The authority of the first shop behind the gateway.
pub const SHOP_HOST: &str = "lamps.gateway.test";
/// The lines of `[store]` for a directory of the world.
pub const EMBEDDED: &str = "directory = \"store\"\nepoch_directory = \"epochs\"\nmin_free_bytes = \"16MiB\"";
/// A card that is accepted.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that is declined.
pub const DECLINED_CARD: &str = "4000000000000002";
/// A card that needs 3-D Secure.
pub const SECURE_CARD: &str = "4000000000003220";

/// What differs from the usual world.
#[derive(Default)]
pub struct Options {
    /// Lines for the file's tables before the agents.
    pub server: String,
    /// Lines for every agent.
    pub agent: String,
    /// Lines for every merchant; those of the world win by standing first, so name no key twice.
    pub merchant: String,
    /// Whether shops ignore idempotency keys, and are configured so.
    pub keyless_shops: bool,
    /// Whether shops speak HTTP/1.1 only.
    pub http1_shops: bool,
    /// Whether shops take note of a key only with its answer, though they are said to honour keys.
    pub late_keys: bool,
    /// Whether shops complete a session again when asked.
    pub careless_shops: bool,
    /// The clock; the system's by default.
    pub clock: Option<Arc<dyn Clock>>,
    /// The gateway's, where it has one of its own.
    pub gateway_clock: Option<Arc<dyn Clock>>,
    /// The lines of `[store]`. Without them records are in a directory, or, where
    /// `COUNTERSIGN_TEST_STORE` says `redis`, in a Redis of the world's own.
    pub store: Option<String>,
    /// How merchants' names are looked up.
    pub look_up: LookUp,
    /// The port of a collector on this machine that is told of every request.
    pub collector: Option<u16>,
}

/// Everything a test needs.
pub struct World {
    pub directory: tempfile::TempDir,
    pub certificates: Certificates,
    pub lamps: Shop,
    pub books: Shop,
    pub log: Sink,
    pub clock: Arc<dyn Clock>,
    /// The gateway's.
    pub gateway_clock: Arc<dyn Clock>,
    pub text: String,
    look_up: LookUp,
    collector: Option<u16>,
    /// What the first shop presents to see and redeem its tokens.
    pub redeemer: Arc<SecretString>,
    /// What the operator presents.
    pub operator: Arc<SecretString>,
    app: Option<App>,
    /// Further replicas of the gateway, on the same store.
    replicas: Vec<App>,
    address: Option<SocketAddr>,
    agents: Vec<(Arc<SecretString>, Arc<SigningKey>)>,
    _redis: Option<Server>,
}

/// What was logged.
#[derive(Clone, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

fn secret() -> Arc<SecretString> {
    Arc::new(SecretString::new(random::base62(32).unwrap()))
}

fn digest(secret: &SecretString) -> String {
    let hex: String =
        sha256(&[secret.expose().as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt;
    let path = directory.join(name);
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    format!("file:{name}")
}

impl World {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let mut world = Self::closed(options).await;
        world.open().await;
        world
    }

    /// A world whose gateway is not running yet.
    pub async fn closed(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = options.clock.clone().unwrap_or_else(|| Arc::new(SystemClock));
        let certificates =
            Certificates::ensure(&directory.path().join("certs"), &[GATEWAY, SHOP_HOST], SystemClock.now())
                .unwrap();
        let shop = |name: &str| {
            let mut settings =
                ShopSettings::new(name, certificates.clone(), secret(), secret(), Arc::clone(&clock));
            settings.idempotency = !options.keyless_shops;
            settings.http2 = !options.http1_shops;
            settings.careless = options.careless_shops;
            settings.late_keys = options.late_keys;
            settings
        };
        let wanted = options.store.is_none()
            && std::env::var("COUNTERSIGN_TEST_STORE").is_ok_and(|engine| engine == "redis");
        let redis = wanted.then(|| Server::start(redis_server::Options::default()));
        let store = match (&options.store, &redis) {
            (Some(lines), _) => lines.clone(),
            (None, Some(server)) => own_redis(server, options.clock.is_none()),
            (None, None) => EMBEDDED.to_owned(),
        };
        let (lamp_settings, book_settings) = (shop("lamps"), shop("books"));
        let lamps = Shop::start(lamp_settings.clone()).await.unwrap();
        let books = Shop::start(book_settings.clone()).await.unwrap();
        let agents: Vec<_> = (0..2)
            .map(|_| (secret(), Arc::new(SigningKey::generate(Algorithm::Ed25519).unwrap().0)))
            .collect();
        let operator = secret();
        let text = configuration(
            directory.path(),
            &certificates,
            &options,
            &store,
            &operator,
            &agents,
            &[("lamps", &lamps, &lamp_settings), ("books", &books, &book_settings)],
        );
        Self {
            directory,
            certificates,
            lamps,
            books,
            log: Sink::default(),
            gateway_clock: options.gateway_clock.unwrap_or_else(|| Arc::clone(&clock)),
            clock,
            text,
            look_up: options.look_up,
            collector: options.collector,
            redeemer: lamp_settings.redeemer_credential,
            operator,
            app: None,
            replicas: Vec::new(),
            address: None,
            agents,
            _redis: redis,
        }
    }

    /// Starts the gateway (again).
    pub async fn open(&mut self) {
        let app = self.start_app(&self.gateway_clock).await;
        self.meet(app.public_address());
        self.app = Some(app);
    }

    /// Starts another replica of the gateway on the same store: where agents may call it.
    pub async fn open_replica(&mut self) -> SocketAddr {
        self.open_replica_by(&Arc::clone(&self.gateway_clock)).await
    }

    /// As [`Self::open_replica`], on a machine with a clock of its own.
    pub async fn open_replica_by(&mut self, clock: &Arc<dyn Clock>) -> SocketAddr {
        let app = self.start_app(clock).await;
        let address = app.public_address();
        self.replicas.push(app);
        address
    }

    async fn start_app(&self, clock: &Arc<dyn Clock>) -> App {
        let mut config =
            Config::parse(&self.text, self.directory.path()).map_err(|errors| errors.to_string()).unwrap();
        config.upstream.look_up = self.look_up.clone();
        if let Some(port) = self.collector {
            let endpoint = format!("http://127.0.0.1:{port}");
            let said = |name: &str| match name {
                "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
                "OTEL_BSP_SCHEDULE_DELAY" => Some("20".to_owned()),
                _ => None,
            };
            config.collector = otlp::Settings::read(&said).unwrap();
            config.traces_per_second = std::num::NonZeroU32::MAX;
        }
        App::start_logging_to(config, None, Arc::clone(clock), self.log.clone()).await.unwrap()
    }

    /// Tells the shops, and agents from now on, where the gateway is.
    pub fn meet(&mut self, address: SocketAddr) {
        self.lamps.connect(address, GATEWAY).unwrap();
        self.books.connect(address, GATEWAY).unwrap();
        self.address = Some(address);
    }

    /// Shuts the gateway down.
    pub async fn close(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.shutdown().await;
        }
        if let Some(app) = self.app.take() {
            app.shutdown().await;
        }
    }

    /// Starts the gateway again with a changed configuration; secrets are files beside it.
    pub async fn reopen(&mut self, secrets: &[(&str, &str)], change: impl FnOnce(String) -> String) {
        self.close().await;
        for (name, content) in secrets {
            write(self.directory.path(), name, content);
        }
        self.text = change(std::mem::take(&mut self.text));
        self.open().await;
    }

    pub fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    /// The first agent.
    pub fn alpha(&self) -> Agent {
        self.agent(0, |_| {})
    }

    /// The second agent.
    pub fn beta(&self) -> Agent {
        self.agent(1, |_| {})
    }

    /// An agent with other settings.
    pub fn agent(&self, index: usize, change: impl FnOnce(&mut AgentSettings)) -> Agent {
        let (credential, key) = &self.agents[index];
        let mut settings = AgentSettings {
            address: self.address.unwrap(),
            authority: GATEWAY.to_owned(),
            tls: self.certificates.client().unwrap(),
            http: Http::Two,
            credential: Arc::clone(credential),
            key: Arc::clone(key),
            key_id: "key-1".to_owned(),
            version: Version::LATEST,
            clock: Arc::clone(&self.clock),
        };
        change(&mut settings);
        Agent::new(settings)
    }

    /// The secrets of the world, for tests that look for them where they must not be.
    pub fn credentials(&self) -> Vec<String> {
        let agents = self.agents.iter().map(|(credential, _)| credential.expose().to_owned());
        agents.chain([self.operator.expose().to_owned()]).collect()
    }
}

/// The lines of `[store]` for a Redis of the world's own; where a test rolls the clock, the server's is
/// not asked.
fn own_redis(server: &Server, real_clock: bool) -> String {
    format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         server_clock = {real_clock}",
        server.url()
    )
}

fn configuration(
    directory: &Path,
    certificates: &Certificates,
    options: &Options,
    store: &str,
    operator: &SecretString,
    agents: &[(Arc<SecretString>, Arc<SigningKey>)],
    shops: &[(&str, &Shop, &ShopSettings)],
) -> String {
    let key = || {
        let bytes: [u8; 32] = random::bytes().unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let (_, signing) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let mut text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
hosts = ["{GATEWAY}"]
{server}
[server.tls]
certificate_file = "{certificate}"
key_file = "{key_file}"
[admin]
listen = "127.0.0.1:0"
[[admin.operators]]
name = "on-call"
credentials = ["{operator}"]
[store]
{store}
[limits]
address_requests_per_second = 1000000
address_request_burst = 1000000
address_connections_per_second = 1000000
address_connection_burst = 1000000
failed_authentications_per_minute = 1000000
failed_authentication_burst = 1000000
failed_signatures_per_minute = 1000000
failed_signature_burst = 1000000
[[keys.signing]]
id = "signing-1"
secret = "{signing}"
"#,
        server = options.server,
        operator = digest(operator),
        certificate = certificates.certificate_file.display(),
        key_file = certificates.key_file.display(),
        signing = write(directory, "signing.pem", &signing),
    );
    for ring in ["sealing", "fingerprint", "card_fingerprint", "derivation"] {
        let secret = write(directory, &format!("{ring}.key"), &key());
        text.push_str(&format!("[[keys.{ring}]]\nid = \"{ring}-1\"\nsecret = \"{secret}\"\n"));
    }
    for (name, (credential, signing)) in ["alpha", "beta"].into_iter().zip(agents) {
        let jwk = signing.public().to_jwk();
        text.push_str(&format!(
            r#"
[[agents]]
id = "{name}"
credentials = ["{credential}"]
requests_per_second = 1000000
request_burst = 1000000
{more}
[[agents.keys]]
id = "key-1"
jwk = {{ kty = "OKP", crv = "Ed25519", x = {x} }}
"#,
            credential = digest(credential),
            more = options.agent,
            x = jwk["x"],
        ));
    }
    for (name, shop, settings) in shops {
        let credential = write(directory, &format!("{name}.credential"), settings.credential.expose());
        let hosts = if *name == "lamps" { format!("hosts = [\"{SHOP_HOST}\"]") } else { String::new() };
        let idempotency = if options.keyless_shops { "none" } else { "keys" };
        text.push_str(&format!(
            r#"
[[merchants]]
id = "{name}"
allowance_ids = ["acct_{name}"]
{hosts}
base_url = "{base_url}"
credential = "{credential}"
versions = ["2025-09-29", "2025-12-12", "2026-01-16", "2026-01-30", "2026-04-17"]
idempotency = "{idempotency}"
ca_file = "{ca}"
allow_private_addresses = true
concurrency = 4000
requests_per_second = 1000000
request_burst = 1000000
{more}
[[merchants.redeemers]]
name = "{name}-itself"
credentials = ["{redeemer}"]
networks = ["127.0.0.0/8"]
"#,
            base_url = shop.base_url(),
            ca = certificates.authority_file.display(),
            more = options.merchant,
            redeemer = digest(&settings.redeemer_credential),
        ));
    }
    text
}
