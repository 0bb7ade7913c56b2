//! One TOML file in, one [`Config`] out that is valid by construction; or every mistake at once.
//!
//! Each mistake has its line, its key and what was expected, and never a value that could be a secret.
//!
//! Every key is documented in `deploy/countersign.toml`. Secrets stand in the file only as references
//! (see `secrets`); credentials of others only as digests.

mod agents;
mod changes;
mod digests;
mod document;
mod fraud;
mod keys;
mod merchants;
pub mod overview;
mod parties;
mod pem;
mod providers;
mod redeemers;
mod report;
mod secrets;
mod settings;
mod split;
mod store;
mod urls;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use changes::{Changes, Entries};
pub use digests::Digests;
pub use report::{ConfigErrors, Mistake, Warning};

use crate::crypto::rings::KeyRings;
use crate::registry::{Agent, Operators, Registry};
use crate::telemetry::otlp;
use crate::{acp, fraud as fraud_rules, limit, merchant, server, storage};
use document::{Section, read_root};
use parties::Parties;
use report::{Problem, Report};
use secrets::{Sources, process_environment};
use settings::Sockets;
use split::{AGENTS, Split};

/// Larger than any configuration with a few thousand merchants.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Everything the gateway is told, valid by construction and never changed: a new configuration
/// replaces it whole.
pub struct Config {
    /// The sockets, their TLS and every bound on a connection; the admin listener too.
    pub server: server::Settings,
    /// How requests are read where ACP contradicts itself.
    pub protocol: acp::Settings,
    /// What is the same for every merchant's connections.
    pub upstream: merchant::Settings,
    /// Where records and epoch keys live.
    pub store: storage::Engine,
    /// The gateway's own keys.
    pub keys: Arc<KeyRings>,
    /// Limits that belong to no agent or merchant.
    pub limits: limit::Settings,
    /// What the fraud rules go by.
    pub fraud: fraud_rules::Settings,
    /// Agents and merchants.
    pub registry: Registry,
    /// Who may use the operator's API; without any there is none.
    pub operators: Operators,
    /// Where the gateway is reached, such as `https://pay.example.com`: the first of `server.hosts`.
    /// The issuer of grants.
    pub public_base_url: String,
    /// Whether a running gateway reads it again when its files have changed.
    pub watch: bool,
    /// Who collects traces, as the environment says.
    pub collector: Option<otlp::Settings>,
    /// Traces a second of requests that did not fail, at most.
    pub traces_per_second: NonZeroU32,
    /// What works but deserves a second look.
    pub warnings: Vec<Warning>,
    /// What tells it from another.
    pub digests: Digests,
}

impl Config {
    /// Reads a configuration file and the secrets it refers to.
    ///
    /// # Errors
    /// [`ConfigErrors`] holds every mistake.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(&read_text(path)?, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads a configuration's text. Relative paths start at `base_dir`.
    ///
    /// # Errors
    /// [`ConfigErrors`] holds every mistake.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigErrors> {
        let sources = Sources::new(base_dir, &process_environment);
        parse_knowing_keys(text, &sources).0
    }
}

fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let unreadable = |error: std::io::Error| {
        ConfigErrors::about_file(format!("the configuration file cannot be read: {}", error.kind()))
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(ConfigErrors::about_file("not a file, or larger than 64 MiB".to_owned()));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// The configuration, and the path of every key that was looked for.
fn parse_knowing_keys(text: &str, sources: &Sources<'_>) -> Parsed {
    parse_apart(text, sources).unwrap_or_else(|| parse_whole(text, sources))
}

type Parsed = (Result<Config, ConfigErrors>, BTreeSet<String>);

/// The same, agents one at a time, so that ten thousand of them need no more room than one. `None`
/// where the text cannot be cut, or a piece is wrong as TOML: of that only the whole tells.
fn parse_apart(text: &str, sources: &Sources<'_>) -> Option<Parsed> {
    let split = Split::of(text)?;
    let (document, errors) = DeTable::parse_recoverable(&split.rest);
    let document = document.get_ref();
    if !errors.is_empty() || document.contains_key(AGENTS) {
        return None;
    }
    let report = Report::about(text);
    let mut is_whole = true;
    let config = read_root(document, &report, |root| {
        read(root, document, sources, |root, parties, digests| {
            let agents = root.tables_apart(AGENTS, &split.agents, |section| agent(section, parties, digests));
            is_whole = agents.is_some();
            agents.unwrap_or_default()
        })
    });
    is_whole.then(|| finish(report, config))
}

fn parse_whole(text: &str, sources: &Sources<'_>) -> Parsed {
    let report = Report::about(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The error's `Display` would quote the line; its message holds fixed words only.
        let line = report.line_of(error.span().map_or(0, |span| span.start));
        report.mistake(line, String::new(), Problem::from(format!("not TOML: {}", error.message())));
    }
    // What follows a broken line would be reported as missing or unknown although it is neither.
    let config = if errors.is_empty() {
        let document = document.get_ref();
        read_root(document, &report, |root| {
            read(root, document, sources, |root, parties, digests| {
                if !root.has(AGENTS) {
                    root.wrong(AGENTS, "missing: without an agent nobody can call the gateway");
                }
                root.tables(AGENTS, |section| agent(section, parties, digests))
            })
        })
    } else {
        None
    };
    finish(report, config)
}

fn finish(report: Report, config: Option<Config>) -> Parsed {
    let (mistakes, warnings, known) = report.finish();
    let result = match config {
        Some(config) if mistakes.is_empty() => Ok(Config { warnings, ..config }),
        Some(_) | None if !mistakes.is_empty() => Err(ConfigErrors { mistakes, warnings }),
        Some(_) | None => {
            Err(ConfigErrors::about_file("cannot be used, for a reason that was not told".to_owned()))
        }
    };
    (result, known)
}

fn read<'a>(
    root: &mut Section<'a>,
    document: &'a DeTable<'a>,
    sources: &Sources<'_>,
    read_agents: impl FnOnce(&mut Section<'a>, &mut Parties<'_>, &mut Digests) -> Vec<Agent>,
) -> Option<Config> {
    // Before any secret is looked for: they run when one is.
    sources.programs.forget_entries();
    root.tables("programs", |section| sources.program(section));
    let mut digests = Digests::of(document, sources);
    let mut sockets = root.required_table("server", |section| settings::sockets(section, sources));
    let mut absent = server::Settings::default();
    let server = sockets.as_mut().map_or(&mut absent, |sockets| &mut sockets.settings);
    let store = root.required_table("store", |section| store::store(section, sources));
    let keys = root.required_table("keys", |section| keys::rings(section, sources));
    let limits = root.table("limits", settings::limits);
    let fraud = root.table("fraud", fraud::fraud);
    let protocol = root.table("protocol", settings::protocol);
    let upstream = root.table("upstream", settings::upstream);
    let watch = root.table("reload", settings::watch);
    let traces_per_second = root.table("traces", settings::traces);
    let collector = otlp::Settings::read(sources.environment).unwrap_or_else(|wrong| {
        for variable in wrong {
            root.wrong(&variable.name, format!("in the environment: {}", variable.message));
        }
        None
    });
    let client_certificates = server.tls.client_ca.is_some();
    let shared_hosts = sockets.as_ref().map_or(Vec::new(), |sockets| sockets.hosts.clone());
    let certificate = sockets.as_mut().and_then(|sockets| sockets.certificate.take());

    let mut parties = Parties::of(document, sources, &shared_hosts, client_certificates, certificate);
    let agents = read_agents(root, &mut parties, &mut digests);
    let merchants = root.tables("merchants", |section| {
        // Before its files are read: of one that is replaced in between the next reload knows.
        let digest = section.noted_by(&mut digests, sources);
        let merchant = merchants::merchant(section, &mut parties)?;
        digests.merchants.insert(merchant.id.clone(), digest);
        digests.retired.extend(merchant.retired.then(|| merchant.id.clone()));
        Some(merchant)
    });
    if !root.has("merchants") {
        root.wrong("merchants", "missing: without a merchant there is nothing to call");
    }

    let redeemers = merchants.iter().flat_map(|merchant| &merchant.redeemers);
    let others = agents
        .iter()
        .flat_map(|agent| &agent.credentials)
        .chain(redeemers.flat_map(|redeemer| &redeemer.credentials))
        .copied()
        .collect();
    let server = sockets.as_mut().map_or(&mut absent, |sockets| &mut sockets.settings);
    let operators = root.table("admin", |section| {
        settings::admin_tls(section, server, sources.base);
        let (operators, _) = settings::admin(section, server, &others, sources.base);
        settings::warn_of_newline(section, &operators, sources);
        operators
    });

    let server = sockets.as_mut().map_or(&mut absent, |sockets| &mut sockets.settings);
    root.table("health", |section| settings::health(section, server));

    let Sockets { settings: server, hosts, .. } = sockets?;
    let public_base_url = format!("https://{}", hosts.first()?);
    let registry = Registry::new(agents, merchants, hosts);
    Some(Config {
        server,
        protocol,
        upstream,
        store: store?,
        keys: Arc::new(keys?),
        limits,
        fraud,
        registry,
        operators,
        public_base_url,
        watch,
        collector,
        traces_per_second,
        warnings: Vec::new(),
        digests,
    })
}

/// Reads an agent's entry, and notes its digest.
fn agent(section: &mut Section<'_>, parties: &mut Parties<'_>, digests: &mut Digests) -> Option<Agent> {
    // Before its files are read, as a merchant's.
    let digest = section.noted_by(digests, parties.sources);
    let agent = agents::agent(section, parties)?;
    digests.agents.insert(agent.id.clone(), digest);
    Some(agent)
}
