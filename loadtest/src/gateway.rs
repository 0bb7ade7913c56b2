//! The gateway under test: the shipped binary, configured for the population.
//!
//! The shipped binary under a configuration made for the population, with limits out of the way of load
//! and everything else as it would be in service.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use countersign::crypto::digest::hexadecimal;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::quickstart::certificates::Certificates;

use crate::population::{Agent, Population, credential_digest};
use crate::process::{Process, free_address};

/// The authority of every proxy here; certificates are for it.
pub const AUTHORITY: &str = "localhost";

/// A merchant whose sessions' totals are read again before each complete.
pub const READING: &str = "reading";
/// A merchant that is spoken to without a digital signature: routing and forwarding only.
pub const PLAIN: &str = "plain";

/// The name of the file the gateway is configured by.
const CONFIGURATION: &str = "countersign.toml";
/// Limits that came after the first release that is compared with, which has nothing to be limited by
/// them.
const NEW_LIMITS: &str = "\
address_connections_per_second = 1000000
address_connection_burst = 1000000
";

/// Where the gateway keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// The embedded engine.
    Embedded,
    /// Redis at this port; so many replicas are waited for.
    Redis {
        /// Its port.
        port: u16,
        /// How many replicas must have an answer's writes.
        wait_replicas: u32,
    },
}

/// What differs from gateway to gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store.
    pub store: Store,
    /// Requests a second each agent may send; load never meets it unless it is meant to.
    pub agent_rate: u32,
    /// Requests each agent may have under way at each merchant, times four.
    pub concurrency: u32,
    /// More lines for the file, before its tables of agents.
    pub more: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { store: Store::Embedded, agent_rate: 1_000_000, concurrency: 100_000, more: String::new() }
    }
}

/// A running gateway.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Starts the binary and waits until it listens. Its files stand in `directory`. An earlier binary
    /// is told what it knows: where it refuses the whole configuration, the newest limits are left out.
    ///
    /// # Errors
    /// When neither configuration is accepted or the process does not start.
    pub fn start(
        binary: &Path,
        directory: &Path,
        certificates: &Certificates,
        everyone: &Population,
        merchant: SocketAddr,
        options: &Options,
    ) -> Result<Self> {
        let configured = configure(directory, certificates, everyone, merchant, options)?;
        if let Err(refused) = check(binary, &configured.file) {
            let text = fs::read_to_string(&configured.file)?;
            let fewer = text.replace(NEW_LIMITS, "");
            secret_file(directory, CONFIGURATION, &fewer)?;
            check(binary, &configured.file).map_err(|_| refused)?;
        }
        Self::serve(binary, directory, &configured)
    }

    /// Starts the binary with a configuration that was written before, and waits until it listens.
    ///
    /// # Errors
    /// When the process does not start.
    pub fn serve(binary: &Path, directory: &Path, configured: &Configured) -> Result<Self> {
        let Configured { file, address, admin } = configured;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(file);
        let mut process = Process::start("countersign", &mut command, directory)?;
        process.wait_for(*address)?;
        Ok(Self { process, address: *address, admin: *admin })
    }
}

/// What a gateway counts, as operators at `admin` are told.
pub struct Scrape(String);

impl Scrape {
    /// Asks.
    ///
    /// # Errors
    /// When operators are not answered.
    pub async fn of(admin: SocketAddr) -> Result<Self> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(admin).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(Self(answer))
    }

    /// The sum of a metric's samples, of those that have all of these labels.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        let samples = self.0.lines().filter_map(|line| line.strip_prefix(metric)?.rsplit_once(' '));
        let is_of_it = |names: &str| {
            (names.is_empty() || names.starts_with('{')) && labels.iter().all(|label| names.contains(label))
        };
        samples.filter(|(names, _)| is_of_it(names)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }
}

/// A configuration that was written.
pub struct Configured {
    /// The file.
    pub file: PathBuf,
    /// Where agents are to connect.
    pub address: SocketAddr,
    /// Where operators are to connect.
    pub admin: SocketAddr,
}

/// Writes a configuration and its secrets into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn configure(
    directory: &Path,
    certificates: &Certificates,
    everyone: &Population,
    merchant: SocketAddr,
    options: &Options,
) -> Result<Configured> {
    fs::create_dir_all(directory)?;
    let (address, admin) = (free_address()?, free_address()?);
    let mut text = about_gateway(directory, address, admin, certificates, options)?;
    for agent in everyone.agents.iter() {
        text.push_str(&about_agent(agent, options));
    }
    let names = everyone.merchants.iter().map(String::as_str);
    for name in names.chain([READING, PLAIN]) {
        text.push_str(&about_merchant(directory, name, merchant, options)?);
    }
    let file = secret_file(directory, CONFIGURATION, &text)?;
    Ok(Configured { file, address, admin })
}

/// Asks the binary what it thinks of a configuration.
///
/// # Errors
/// What it says, when it refuses.
pub fn check(binary: &Path, config: &Path) -> Result<()> {
    let output = Command::new(binary).arg("check").arg("--config").arg(config).output();
    let output = output.with_context(|| binary.display().to_string())?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("the gateway refuses its configuration: {}", String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

/// The gateway's binary: as named, or the one beside this, which is built where it is missing.
///
/// # Errors
/// When it cannot be built.
pub fn binary(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("countersign");
    if !beside.is_file() {
        build(&beside)?;
    }
    Ok(beside)
}

/// This program built for service, as the gateway that it then finds beside itself; `None` when this
/// is it.
///
/// # Errors
/// When they cannot be built.
pub fn for_service() -> Result<Option<PathBuf>> {
    let this = std::env::current_exe()?;
    if profile(&this) == SERVICE {
        return Ok(None);
    }
    let targets = this.parent().and_then(Path::parent).context("a build directory")?;
    let [gateway, program] = ["countersign", "loadtest"].map(|name| targets.join(SERVICE).join(name));
    build(&gateway)?;
    build(&program)?;
    Ok(Some(program))
}

/// The profile of what is put into service.
const SERVICE: &str = "release";

/// The profile a binary was built in, as cargo names the directory.
fn profile(binary: &Path) -> &str {
    let directory = binary.parent().and_then(Path::file_name).and_then(std::ffi::OsStr::to_str);
    directory.filter(|name| *name != "debug").unwrap_or("dev")
}

/// Builds a binary of this workspace where it is to be.
fn build(binary: &Path) -> Result<()> {
    let package = binary.file_name().context("a binary")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--profile", profile(binary), "--package"]).arg(package);
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("cargo")?;
    if !built.success() || !binary.is_file() {
        bail!("{} could not be built", binary.display());
    }
    Ok(())
}

fn about_gateway(
    directory: &Path,
    address: SocketAddr,
    admin: SocketAddr,
    certificates: &Certificates,
    options: &Options,
) -> Result<String> {
    let (_, signing) = SigningKey::generate(Algorithm::Ed25519)?;
    secret_file(directory, "signing.pem", &signing)?;
    let mut text = format!(
        r#"# Written by the load generator.
[server]
listen = "{address}"
hosts = ["{AUTHORITY}"]
connections = 20000
connections_per_address = 20000
tls = {{ certificate_file = "{certificate}", key_file = "{key}" }}

[admin]
listen = "{admin}"

[limits]
address_requests_per_second = 1000000
address_request_burst = 1000000
{NEW_LIMITS}
# Load comes from few agents with few cards, at a rate no shopper has.
[fraud]
card_testing = {{ review_above = "never", deny_above = "never" }}

{more}
[store]
{store}

[keys]
signing = [{{ id = "signing-1", secret = "file:signing.pem" }}]
"#,
        certificate = certificates.certificate_file.display(),
        key = certificates.key_file.display(),
        more = options.more,
        store = about_store(&options.store),
    );
    for ring in ["sealing", "fingerprint", "card_fingerprint", "derivation"] {
        secret_file(directory, &format!("{ring}.key"), &hexadecimal(&random::bytes::<32>()?))?;
        let id = ring.replace('_', "-");
        writeln!(text, "{ring} = [{{ id = \"{id}-1\", secret = \"file:{ring}.key\" }}]")?;
    }
    Ok(text)
}

fn about_store(store: &Store) -> String {
    match store {
        Store::Embedded => {
            "directory = \"store\"\nepoch_directory = \"epochs\"\nmin_free_bytes = \"16MiB\"".to_owned()
        }
        Store::Redis { port, wait_replicas } => format!(
            "engine = \"redis\"\nnodes = [\"redis://127.0.0.1:{port}\"]\nwait_replicas = {wait_replicas}\naccept_loss = true\nepoch_directory = \"epochs\"",
        ),
    }
}

fn about_agent(agent: &Agent, options: &Options) -> String {
    let jwk = agent.key.public().to_jwk();
    let member = |name: &str| jwk.get(name).map(|value| format!("{name} = {value}"));
    let jwk: Vec<String> = ["kty", "crv", "x", "y"].into_iter().filter_map(member).collect();
    format!(
        r#"
[[agents]]
id = "{id}"
credentials = ["{digest}"]
live_tokens = 10000000
requests_per_second = {rate}
request_burst = {rate}
keys = [{{ jwk = {{ {jwk} }} }}]
signature = {{ profiles = ["rfc9421", "acp-bound", "acp"] }}
"#,
        id = agent.id,
        digest = credential_digest(&agent.credential),
        rate = options.agent_rate,
        jwk = jwk.join(", "),
    )
}

fn about_merchant(directory: &Path, name: &str, merchant: SocketAddr, options: &Options) -> Result<String> {
    secret_file(directory, "merchant.credential", "the-merchant-does-not-look-at-it")?;
    secret_file(directory, "merchant.key", &hexadecimal(&random::bytes::<32>()?))?;
    let more = match name {
        READING => "total_max_age = \"1s\"",
        PLAIN => {
            "signature = \"acp\"\nsignature_key = \"file:merchant.key\"\nsignature_key_encoding = \"hex\""
        }
        _ => "",
    };
    Ok(format!(
        r#"
[[merchants]]
id = "{name}"
base_url = "http://{merchant}/{name}"
allow_private_addresses = true
credential = "file:merchant.credential"
versions = ["2026-01-30", "2026-04-17"]
idempotency = "keys"
concurrency = {concurrency}
requests_per_second = 1000000
request_burst = 1000000
redeemers = [{{ name = "{name}", credentials = ["{digest}"], networks = ["127.0.0.0/8"] }}]
{more}
"#,
        concurrency = options.concurrency,
        digest = credential_digest(&format!("redeemer-of-{name}")),
    ))
}

/// Writes a file that its owner alone can read.
///
/// # Errors
/// When it cannot be written.
pub fn secret_file(directory: &Path, name: &str, content: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    Ok(path)
}
