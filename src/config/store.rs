//! Reads `[store]`: which engine keeps the records, and where. Each bound's reason stands with its
//! field; here are only the extremes beyond which a value is surely a slip.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::document::{Section, Value};
use super::pem;
use super::report::Problem;
use super::secrets::{Sources, is_open_to_all, warn_of_blanks};
use super::values::{bytes, choice, count, duration, flag, path, text};
use crate::domain::secret::SecretBytes;
use crate::storage::{Engine, EpochPlace, NodeAddress, RedisSettings, Settings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Keys that mean something to one engine only.
const OF_EMBEDDED: [&str; 5] = ["directory", "min_free_bytes", "gather_window", "queue_bound", "cache_bytes"];
const OF_REDIS: [&str; 14] = [
    "nodes",
    "ca_file",
    "username",
    "password",
    "wait_replicas",
    "wait_timeout",
    "call_timeout",
    "failover_caution",
    "accept_loss",
    "server_clock",
    "epoch_nodes",
    "epoch_ca_file",
    "epoch_username",
    "epoch_password",
];

/// What tells how servers are reached.
struct Keys {
    nodes: &'static str,
    ca_file: &'static str,
    username: &'static str,
    password: &'static str,
    /// What else goes to them in clear with the password, where it does.
    beside: &'static str,
}

const OF_STORE: Keys = Keys {
    nodes: "nodes",
    ca_file: "ca_file",
    username: "username",
    password: "password",
    beside: ", as every record does",
};
const OF_EPOCHS: Keys = Keys {
    nodes: "epoch_nodes",
    ca_file: "epoch_ca_file",
    username: "epoch_username",
    password: "epoch_password",
    beside: "",
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Redis,
}

/// Reads `[store]`.
pub(super) fn store(section: &mut Section<'_>, sources: &Sources<'_>) -> Option<Engine> {
    let engines = [("embedded", Kind::Embedded), ("redis", Kind::Redis)];
    let kind = section.or("engine", Kind::Embedded, choice(&engines));
    // A mistake of its own where it stands with "embedded".
    let servers = reached(section, sources, &OF_EPOCHS);
    let in_servers = kind == Kind::Redis && section.has("epoch_nodes");
    let epoch_directory = if in_servers {
        section.optional("epoch_directory", path(sources.base))
    } else {
        section.required("epoch_directory", path(sources.base))
    };
    let embedded = embedded(section, sources.base, kind, epoch_directory.as_deref());
    let shared = shared(section, sources, kind);
    let epochs = match kind {
        Kind::Embedded => None,
        Kind::Redis => epoch_place(section, servers, epoch_directory, shared.as_ref()),
    };
    let (foreign, engine) = match kind {
        Kind::Embedded => (&OF_REDIS[..], "redis"),
        Kind::Redis => (&OF_EMBEDDED[..], "embedded"),
    };
    for key in foreign.iter().filter(|key| section.has(key)) {
        section.wrong(key, format!("has a meaning with engine = \"{engine}\" only"));
    }
    match kind {
        Kind::Embedded => embedded.map(Engine::Embedded),
        Kind::Redis => Some(Engine::Redis { settings: shared?, epochs: epochs? }),
    }
}

fn embedded(
    section: &mut Section<'_>,
    base: &Path,
    kind: Kind,
    epoch_directory: Option<&Path>,
) -> Option<Settings> {
    let default = Settings::default();
    let directory = match kind {
        Kind::Embedded => section.required("directory", path(base)),
        Kind::Redis => section.optional("directory", path(base)),
    };
    let settings = Settings {
        min_free_bytes: section.or("min_free_bytes", default.min_free_bytes, bytes(16 * MIB, 1024 * GIB)),
        gather_window: section.or("gather_window", default.gather_window, duration(Duration::ZERO, SECOND)),
        queue_bound: section.or("queue_bound", default.queue_bound, count(1, 1_000_000)),
        cache_bytes: section.or("cache_bytes", default.cache_bytes, bytes(MIB, 256 * GIB)),
        directory: directory?,
        epoch_directory: epoch_directory?.to_owned(),
    };
    let [store, epochs] = [&settings.directory, &settings.epoch_directory].map(|path| resolved(path));
    if epochs.starts_with(&store) {
        section.wrong(
            "epoch_directory",
            "must be outside `directory`: a copy of the store must not carry its epoch keys",
        );
    } else if store.starts_with(&epochs) {
        section.wrong("directory", "must be outside `epoch_directory`");
    }
    for (key, directory) in
        [("directory", &settings.directory), ("epoch_directory", &settings.epoch_directory)]
    {
        if is_open_to_all(directory) {
            section.warn(key, "everybody on this machine can look into this directory: chmod o-rwx it");
        }
    }
    Some(settings)
}

/// Where the epoch keys of replicas live: one directory of all of them, or servers.
fn epoch_place(
    section: &Section<'_>,
    servers: RedisSettings,
    directory: Option<PathBuf>,
    store: Option<&RedisSettings>,
) -> Option<EpochPlace> {
    if !section.has("epoch_nodes") {
        for key in ["epoch_ca_file", "epoch_username", "epoch_password"].iter().filter(|key| section.has(key))
        {
            section.wrong(key, "has no effect without `epoch_nodes`");
        }
        return directory.map(EpochPlace::Directory);
    }
    if directory.is_some() {
        section.wrong(
            "epoch_nodes",
            "cannot stand beside `epoch_directory`: hourly keys live in one of the two",
        );
    }
    if section.lacks("epoch_nodes") {
        section.wrong("epoch_nodes", "at least one is needed, such as [\"redis://10.0.0.9:6379\"]");
    }
    let of_store = |node: &&NodeAddress| store.is_some_and(|store| store.nodes.contains(node));
    if let Some(node) = servers.nodes.iter().find(of_store) {
        let message =
            format!("{node} is one of `nodes`: a store is kept and copied, and these keys must not be");
        section.wrong("epoch_nodes", message);
    }
    let repeated =
        |(at, node): &(usize, &NodeAddress)| servers.nodes.iter().take(*at).any(|other| other == *node);
    if let Some((_, node)) = servers.nodes.iter().enumerate().find(repeated) {
        section.wrong("epoch_nodes", format!("{node} is listed twice"));
    }
    (!servers.nodes.is_empty()).then(|| EpochPlace::Servers(Box::new(servers)))
}

/// How servers are reached.
fn reached(section: &mut Section<'_>, sources: &Sources<'_>, keys: &Keys) -> RedisSettings {
    let nodes = section.list(keys.nodes, node).unwrap_or_default();
    let tls = nodes.iter().any(|(tls, _)| *tls);
    if nodes.iter().any(|(other, _)| *other != tls) {
        section.wrong(keys.nodes, "some with \"rediss://\" and some with \"redis://\": all or none");
    }
    let ca = section.optional(keys.ca_file, pem::authorities(sources.base));
    if !nodes.is_empty() && ca.is_some() && !tls {
        section.wrong(keys.ca_file, "has no effect: the nodes are not \"rediss://\"");
    }
    let password = sources.optional(section, keys.password);
    if let Some(password) = &password {
        warn_of_blanks(section, keys.password, password);
        if !tls && nodes.iter().any(|(_, node)| !is_this_machine(&node.host)) {
            let beside = keys.beside;
            let message =
                format!("goes in clear to another host with every connection{beside}: use \"rediss://\"");
            section.warn(keys.password, message);
        }
    }
    RedisSettings {
        tls,
        ca,
        username: section.optional(keys.username, text),
        password: password.map(|password| Arc::new(SecretBytes::new(password.expose().as_bytes().to_vec()))),
        nodes: nodes.into_iter().map(|(_, node)| node).collect(),
        ..RedisSettings::default()
    }
}

fn shared(section: &mut Section<'_>, sources: &Sources<'_>, kind: Kind) -> Option<RedisSettings> {
    let default = RedisSettings::default();
    let reached = reached(section, sources, &OF_STORE);
    if kind == Kind::Redis && section.lacks("nodes") {
        section.wrong("nodes", "at least one is needed, such as [\"redis://10.0.0.5:6379\"]");
    }
    let settings = RedisSettings {
        wait_replicas: section.or("wait_replicas", default.wait_replicas, count(0, 16)),
        wait_timeout: section.or("wait_timeout", default.wait_timeout, duration(SECOND / 100, MINUTE)),
        call_timeout: section.or("call_timeout", default.call_timeout, duration(SECOND / 20, MINUTE)),
        failover_caution: section.or(
            "failover_caution",
            default.failover_caution,
            duration(Duration::ZERO, DAY),
        ),
        accept_loss: section.or("accept_loss", default.accept_loss, flag),
        follow_server_clock: section.or("server_clock", default.follow_server_clock, flag),
        ..reached
    };
    if settings.wait_replicas > 0 && settings.call_timeout < settings.wait_timeout.saturating_mul(2) {
        section
            .wrong("wait_timeout", "must be at most half of `call_timeout`: a commit waits for its turn too");
    }
    if kind == Kind::Redis && settings.wait_replicas == 0 {
        section.warn(
            "wait_replicas",
            "0: what the primary acknowledged in its last moments before a failover may be lost",
        );
    }
    (!settings.nodes.is_empty()).then_some(settings)
}

/// `redis://host:port`, or `rediss://` for TLS. No credential may stand in it.
fn node(value: &Value<'_>) -> Result<(bool, NodeAddress), Problem> {
    const EXPECTED: &str =
        "expected \"redis://HOST:PORT\", or \"rediss://HOST:PORT\" for TLS, and nothing else in it";
    let text = value.text()?;
    let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(EXPECTED.into()),
    };
    if rest.contains('@') {
        return Err("a credential stands in `username` and `password`, never here".into());
    }
    let uri: http::uri::Authority = rest.parse().map_err(|_| EXPECTED)?;
    let host = uri.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((tls, NodeAddress { host, port: uri.port_u16().unwrap_or(6379) }))
}

/// Whether a node is reached without a network.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Where a path leads: symbolic links followed as far as the path exists, `..` taken away.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            Component::Normal(_) | Component::Prefix(_) | Component::RootDir => out.push(component),
        }
        if let Ok(real) = out.canonicalize() {
            out = real;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_through_links_and_dots() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolved(&link.join("absent/../inner")), real.join("inner"));
    }
}
