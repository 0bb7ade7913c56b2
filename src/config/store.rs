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
use crate::storage::{Engine, NodeAddress, RedisSettings, Settings};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Keys that mean something to one engine only.
const OF_EMBEDDED: [&str; 5] = ["directory", "min_free_bytes", "gather_window", "queue_bound", "cache_bytes"];
const OF_REDIS: [&str; 10] = [
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
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Redis,
}

/// Reads `[store]`.
pub(super) fn store(section: &mut Section<'_>, sources: &Sources<'_>) -> Option<Engine> {
    let engines = [("embedded", Kind::Embedded), ("redis", Kind::Redis)];
    let kind = section.or("engine", Kind::Embedded, choice(&engines));
    let epoch_directory = section.required("epoch_directory", path(sources.base));
    let embedded = embedded(section, sources.base, kind, epoch_directory.as_deref());
    let shared = shared(section, sources, kind);
    let (foreign, engine) = match kind {
        Kind::Embedded => (&OF_REDIS[..], "redis"),
        Kind::Redis => (&OF_EMBEDDED[..], "embedded"),
    };
    for key in foreign.iter().filter(|key| section.has(key)) {
        section.wrong(key, format!("has a meaning with engine = \"{engine}\" only"));
    }
    match kind {
        Kind::Embedded => embedded.map(Engine::Embedded),
        Kind::Redis => Some(Engine::Redis { settings: shared?, epoch_directory: epoch_directory? }),
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

fn shared(section: &mut Section<'_>, sources: &Sources<'_>, kind: Kind) -> Option<RedisSettings> {
    let default = RedisSettings::default();
    let nodes = section.list("nodes", node);
    if kind == Kind::Redis && section.lacks("nodes") {
        section.wrong("nodes", "at least one is needed, such as [\"redis://10.0.0.5:6379\"]");
    }
    let nodes = nodes.unwrap_or_default();
    let tls = nodes.iter().any(|(tls, _)| *tls);
    if nodes.iter().any(|(other, _)| *other != tls) {
        section.wrong("nodes", "some with \"rediss://\" and some with \"redis://\": all or none");
    }
    let ca = section.optional("ca_file", pem::authorities(sources.base));
    if kind == Kind::Redis && ca.is_some() && !tls {
        section.wrong("ca_file", "has no effect: the nodes are not \"rediss://\"");
    }
    let password = sources.optional(section, "password");
    if let Some(password) = &password {
        warn_of_blanks(section, "password", password);
        if !tls && nodes.iter().any(|(_, node)| !is_this_machine(&node.host)) {
            section.warn(
                "password",
                "goes in clear to another host with every connection, as every record does: use \"rediss://\"",
            );
        }
    }
    let settings = RedisSettings {
        tls,
        ca,
        username: section.optional("username", text),
        password: password.map(|password| Arc::new(SecretBytes::new(password.expose().as_bytes().to_vec()))),
        wait_replicas: section.or("wait_replicas", default.wait_replicas, count(0, 16)),
        wait_timeout: section.or("wait_timeout", default.wait_timeout, duration(SECOND / 100, MINUTE)),
        call_timeout: section.or("call_timeout", default.call_timeout, duration(SECOND / 20, MINUTE)),
        failover_caution: section.or(
            "failover_caution",
            default.failover_caution,
            duration(Duration::ZERO, DAY),
        ),
        accept_loss: section.or("accept_loss", default.accept_loss, flag),
        known_tag_key: default.known_tag_key,
        follow_server_clock: section.or("server_clock", default.follow_server_clock, flag),
        nodes: nodes.into_iter().map(|(_, node)| node).collect(),
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
