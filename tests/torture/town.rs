//! Everything that runs: a store, one or two gateways on it, six merchants.
//!
//! And what they need to know of each other.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::acp::version::Version;
use countersign::crypto::digest::sha256;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::{Clock, SystemClock};
use countersign::domain::secret::SecretString;
use countersign::quickstart::agent::{Agent, AgentSettings};
use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::Http;
use countersign::quickstart::shop::{Shop, ShopSettings};
use tokio::sync::Mutex;

use crate::flap::Flap;
use crate::gateway::Gateway;
use crate::merchants::{
    DEADLINE, DOUBLED, FLAPPING, KEYED, KEYLESS, LATE, Merchant, NARROW, STREAMS, honours_keys,
};
use crate::notebook::Notebook;
use crate::papers::Papers;
use crate::standby::Standby;
use crate::store::{Engine, RedisSettings, Store};

/// The gateways' own authority; the sockets are elsewhere.
pub const AUTHORITY: &str = "gateway.test";
/// Agents, and the connections of each to each gateway.
pub const AGENTS: [&str; 2] = ["alpha", "beta"];
const CONNECTIONS: usize = 4;
/// The operators' credential.
pub const OPERATOR: &str = "operator-credential-of-the-torture";
/// More than is ever sold.
const STOCK: u64 = 1_000_000_000;

/// The town. What it is torn down in is the order of its fields.
pub struct Town {
    /// Agents by gateway, several connections each.
    pub agents: Vec<Vec<Agent>>,
    pub merchants: Vec<Merchant>,
    /// One or two processes; the tormentor's.
    pub gateways: Mutex<Vec<Gateway>>,
    pub store: Mutex<Store>,
    /// The ways to the merchants that come and go.
    pub flaps: Vec<Flap>,
    /// What stands in for one of them meanwhile.
    pub standby: Standby,
    papers: Papers,
    /// What the merchant with certificates redeems with besides.
    papers_credential: Arc<SecretString>,
    _directory: tempfile::TempDir,
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
    let path = directory.join(name);
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    format!("file:{name}")
}

impl Town {
    /// Starts it and waits until it is ready.
    pub async fn open(engine: Engine, settings: RedisSettings, certificate: Duration) -> Self {
        let directory = tempfile::Builder::new().prefix("countersign-torture-").tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let certificates =
            Certificates::ensure(&directory.path().join("certs"), &[AUTHORITY], clock.now()).unwrap();
        let store = {
            let path = directory.path().to_owned();
            tokio::task::spawn_blocking(move || Store::start(engine, settings, &path)).await.unwrap()
        };
        let mut entries = String::new();
        let mut merchants = Vec::new();
        let papers = Papers::make(directory.path(), &certificates, certificate);
        let papers_credential = secret();
        let mut flaps = Vec::new();
        let mut standby = None;
        for id in [KEYED, KEYLESS, NARROW, LATE, FLAPPING, DOUBLED] {
            let redeemer = if id == NARROW { Arc::clone(&papers_credential) } else { secret() };
            let mut settings =
                ShopSettings::new(id, certificates.clone(), secret(), redeemer, Arc::clone(&clock));
            settings.idempotency = honours_keys(id);
            settings.late_keys = id == LATE;
            // A second complete that reaches it is a second charge.
            settings.careless = true;
            // A broken connection takes everything on it along, or one request.
            settings.http2 = id != KEYLESS;
            settings.http2_streams = (id == NARROW).then_some(STREAMS);
            settings.catalogue.items.values_mut().for_each(|item| item.stock = STOCK);
            let shop = Shop::start(settings.clone()).await.unwrap();
            // Where one stands in, what cannot be sent to the other is to find out each time.
            let breaker =
                if id == DOUBLED { "breaker = { requests = 10000, consecutive = 10000 }" } else { "" };
            let proof = match id {
                NARROW => format!("certificates = {:?}", papers.fingerprints),
                _ => "networks = [\"127.0.0.0/8\"]".to_owned(),
            };
            let own: http::Uri = shop.base_url().parse().unwrap();
            let port = own.port_u16().unwrap();
            let at = |there: std::net::SocketAddr| {
                shop.base_url().replace(&format!(":{port}"), &format!(":{}", there.port()))
            };
            let mut base_urls = vec![shop.base_url().to_owned()];
            if [FLAPPING, DOUBLED].contains(&id) {
                let flap = Flap::before(port);
                base_urls = vec![at(flap.address)];
                flaps.push(flap);
            }
            if id == DOUBLED {
                base_urls.push(at(standby.insert(Standby::of(port, &certificates)).address));
            }
            let urls = (&*base_urls, shop.base_url());
            entries.push_str(&about_merchant(
                directory.path(),
                &certificates,
                urls,
                &settings,
                [breaker, &proof],
            ));
            merchants.push(Merchant { id, shop });
        }
        let identities =
            AGENTS.map(|_| (secret(), Arc::new(SigningKey::generate(Algorithm::Ed25519).unwrap().0)));
        for (name, (credential, key)) in AGENTS.into_iter().zip(&identities) {
            entries.push_str(&about_agent(name, credential, key));
        }
        let rings = keys(directory.path());
        let mut gateways = Vec::new();
        for number in 0..store.gateways() {
            let mut gateway = Gateway::new(directory.path(), number);
            let head = about_gateway(&gateway, &certificates, &papers);
            gateway.configure(&[&head, &store.section(), &rings, &entries].map(String::as_str).concat());
            gateway.start();
            gateways.push(gateway);
        }
        for gateway in &mut gateways {
            gateway.ready().await.unwrap_or_else(|problem| panic!("{problem}"));
        }
        let agents = gateways.iter().map(|gateway| {
            let agent = |index: usize| {
                let (credential, key) = &identities[index % AGENTS.len()];
                Agent::new(AgentSettings {
                    address: gateway.public,
                    authority: AUTHORITY.to_owned(),
                    tls: certificates.client().unwrap(),
                    http: Http::Two,
                    credential: Arc::clone(credential),
                    key: Arc::clone(key),
                    key_id: "key-1".to_owned(),
                    version: Version::LATEST,
                    clock: Arc::clone(&clock),
                })
            };
            (0..AGENTS.len() * CONNECTIONS).map(agent).collect()
        });
        let town = Self {
            agents: agents.collect(),
            merchants,
            gateways: Mutex::new(gateways),
            store: Mutex::new(store),
            flaps,
            standby: standby.unwrap(),
            papers,
            papers_credential,
            _directory: directory,
        };
        town.meet(0);
        town
    }

    /// Tells the merchants to redeem at this gateway from now on.
    pub fn meet(&self, gateway: usize) {
        let address = self.agents[gateway][0].settings().address;
        for merchant in &self.merchants {
            if merchant.id == NARROW {
                merchant.shop.connect_with(address, AUTHORITY, self.papers.in_use());
            } else {
                merchant.shop.connect(address, AUTHORITY).unwrap();
            }
        }
    }

    /// Looks whether a client certificate is believed after its end.
    pub async fn watch_papers(&self, notebook: &Notebook) {
        self.papers.watch(self, &self.papers_credential, notebook).await;
    }
}

fn about_gateway(gateway: &Gateway, certificates: &Certificates, papers: &Papers) -> String {
    format!(
        r#"
[server]
listen = "{listen}"
hosts = ["{AUTHORITY}"]
tls = {{ certificate_file = "{certificate}", key_file = "{key}", client_ca_file = "{clients}" }}
[admin]
listen = "{admin}"
[[admin.operators]]
name = "torture"
credentials = ["{operator}"]
[limits]
address_requests_per_second = 1000000
address_request_burst = 1000000
address_connections_per_second = 1000000
address_connection_burst = 1000000
# So many cards are declined here on purpose.
[fraud]
declines = {{ shadow = true }}
card_testing = {{ shadow = true }}
"#,
        listen = gateway.public,
        admin = gateway.admin,
        operator = digest(&SecretString::new(OPERATOR.to_owned())),
        certificate = certificates.certificate_file.display(),
        key = certificates.key_file.display(),
        clients = papers.authority_file.display(),
    )
}

fn keys(directory: &Path) -> String {
    let (_, signing) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let signing = write(directory, "signing.pem", &signing);
    let mut text = format!("[[keys.signing]]\nid = \"signing-1\"\nsecret = \"{signing}\"\n");
    for ring in ["sealing", "fingerprint", "card_fingerprint", "derivation"] {
        let bytes: [u8; 32] = random::bytes().unwrap();
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = write(directory, &format!("{ring}.key"), &key);
        text.push_str(&format!("[[keys.{ring}]]\nid = \"{ring}-1\"\nsecret = \"{secret}\"\n"));
    }
    text
}

fn about_agent(name: &str, credential: &SecretString, key: &SigningKey) -> String {
    format!(
        r#"
[[agents]]
id = "{name}"
credentials = ["{credential}"]
requests_per_second = 1000000
request_burst = 1000000
live_tokens = 1000000
live_tokens_per_session = 1000
[[agents.keys]]
id = "key-1"
jwk = {{ kty = "OKP", crv = "Ed25519", x = {x} }}
"#,
        credential = digest(credential),
        x = key.public().to_jwk()["x"],
    )
}

/// The grace period is the shortest there is.
fn about_merchant(
    directory: &Path,
    certificates: &Certificates,
    (base_urls, public): (&[String], &str),
    settings: &ShopSettings,
    [breaker, proof]: [&str; 2],
) -> String {
    let id = &settings.merchant;
    format!(
        r#"
[[merchants]]
id = "{id}"
base_url = {base_urls:?}
public_base_url = "{public}"
credential = "{credential}"
versions = ["2026-04-17"]
idempotency = "{idempotency}"
ca_file = "{ca}"
allow_private_addresses = true
concurrency = 4000
requests_per_second = 1000000
request_burst = 1000000
doubt_grace = "1m"
{breaker}
deadlines = {{ connect = "1s", first_byte = "{deadline}ms", total = "{deadline}ms" }}
[[merchants.redeemers]]
name = "{id}-itself"
credentials = ["{redeemer}"]
{proof}
"#,
        credential = write(directory, &format!("{id}.credential"), settings.credential.expose()),
        idempotency = if settings.idempotency { "keys" } else { "none" },
        ca = certificates.authority_file.display(),
        deadline = DEADLINE.as_millis(),
        redeemer = digest(&settings.redeemer_credential),
    )
}
