//! Reads the sections about the gateway itself: sockets, limits. Each bound's reason stands
//! with its field; here are only the extremes beyond which a value is surely a slip.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::agents::rate;
use super::document::Section;
use super::keys::first_use;
use super::pem::listener_files;
use super::report::Problem;
use super::secrets::Sources;
use super::urls::{authority, network};
use super::values::{bytes, choice, count, credential_digest, duration, flag, id, path, socket_address};
use crate::crypto::certificate::names;
use crate::crypto::digest::Sha256;
use crate::domain::id::is_path_id;
use crate::registry::{Operator, Operators, Role};
use crate::server::tls::Door;
use crate::{acp, limit, merchant, server};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// 16 TiB: surely a slip beyond.
pub(super) const MOST_KEPT: u64 = 1 << 44;

/// What `[server]` says: the sockets' settings, but for the admin's, the shared authorities, and what the
/// listener shows of itself.
pub(super) struct Sockets {
    pub settings: server::Settings,
    pub hosts: Vec<String>,
    pub certificate: Option<CertificateDer<'static>>,
}

/// What `[admin.client]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminClient {
    /// PEM: the authorities that vouch for the listener's certificate; the system's where there are none.
    pub ca: Option<PathBuf>,
    /// PEM: the operator's certificate.
    pub certificate: Option<PathBuf>,
    /// PEM: its private key.
    pub key: Option<PathBuf>,
    /// Whose certificate the listener must show; the address's own where nothing is said.
    pub name: Option<ServerName<'static>>,
}

/// Reads `[server]`.
pub(super) fn sockets(section: &mut Section<'_>, sources: &Sources<'_>) -> Option<Sockets> {
    let default = server::Settings::default();
    let hosts = section.list("hosts", authority);
    if section.lacks("hosts") {
        section
            .wrong("hosts", "at least one is needed: the gateway's own name, such as [\"pay.example.com\"]");
    }
    let tls = section.required_table("tls", |section| listener_files(section, sources.base, Door::Public));
    let settings = server::Settings {
        listen: section.or("listen", default.listen, socket_address),
        admin_listen: default.admin_listen,
        admin_tls: None,
        health_listen: None,
        tls: tls.as_ref().map_or(default.tls, |tls| tls.files.clone()),
        connections: section.or("connections", default.connections, count(1, 1_000_000)),
        connections_per_address: section.or(
            "connections_per_address",
            default.connections_per_address,
            count(1, 1_000_000),
        ),
        connections_reserved: section.or(
            "connections_reserved",
            default.connections_reserved,
            count(0, 1_000_000),
        ),
        handshake_timeout: section.or(
            "handshake_timeout",
            default.handshake_timeout,
            duration(SECOND / 10, MINUTE),
        ),
        header_bytes: section.or("header_bytes", default.header_bytes, bytes(8 * KIB, MIB)),
        header_count: section.or("header_count", default.header_count, count(20, 1000)),
        header_timeout: section.or(
            "header_timeout",
            default.header_timeout,
            duration(SECOND / 10, 5 * MINUTE),
        ),
        body_bytes: section.or("body_bytes", default.body_bytes, bytes(16 * KIB, 64 * MIB)),
        body_timeout: section.or("body_timeout", default.body_timeout, duration(SECOND / 10, 5 * MINUTE)),
        answer_timeout: section.or(
            "answer_timeout",
            default.answer_timeout,
            duration(SECOND / 10, 5 * MINUTE),
        ),
        unread_bytes_per_connection: section.or(
            "unread_bytes_per_connection",
            default.unread_bytes_per_connection,
            bytes(64 * KIB, 1024 * MIB),
        ),
        unread_bytes: section.or("unread_bytes", default.unread_bytes, bytes(MIB, 1024 * 1024 * MIB)),
        streams: section.or("streams", default.streams, count(1, 10_000)),
        pending_resets: section.or("pending_resets", default.pending_resets, count(1, 10_000)),
        local_resets: section.or("local_resets", default.local_resets, count(1, 10_000)),
        idle_timeout: section.or("idle_timeout", default.idle_timeout, duration(SECOND, HOUR)),
        proxy: section.table("proxy", proxy),
        drain_timeout: section.or("drain_timeout", default.drain_timeout, duration(SECOND, HOUR)),
        drain_delay: section.or("drain_delay", default.drain_delay, duration(Duration::ZERO, MINUTE * 5)),
    };
    warn_of_port(section, hosts.as_deref().unwrap_or_default(), settings.listen);
    if settings.unread_bytes_per_connection > settings.unread_bytes {
        section.wrong("unread_bytes_per_connection", "must not be above `unread_bytes`");
    }
    if settings.connections_per_address > settings.connections {
        section.wrong("connections_per_address", "must not be above `connections`");
    }
    let certificate = tls.and_then(|tls| tls.certificate);
    warn_of_names(section, hosts.as_deref().unwrap_or_default(), certificate.as_ref());
    Some(Sockets { settings, hosts: hosts?, certificate })
}

/// A host of this machine is called where it listens: without that port in `hosts` every request is
/// for somebody else. Elsewhere whoever stands in front may forward from port 443.
fn warn_of_port(section: &Section<'_>, hosts: &[String], listen: SocketAddr) {
    let port = listen.port();
    let near = |host: &String| {
        let (name, _) = host.rsplit_once(':').filter(|_| !host.ends_with(']')).unwrap_or((host, ""));
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    };
    let called = hosts.iter().any(|host| host.ends_with(&format!(":{port}")));
    if port != 0 && port != 443 && !called && (listen.ip().is_loopback() || hosts.iter().all(near)) {
        section.warn(
            "hosts",
            format!(
                "none has the port listened on, {port}: a request that names it is answered 421 \
                 (add \"HOST:{port}\", unless all come through something on port 443)"
            ),
        );
    }
}

/// Warns of hosts of a section that the listener's certificate does not name.
pub(super) fn warn_of_names(
    section: &Section<'_>,
    hosts: &[String],
    certificate: Option<&CertificateDer<'_>>,
) {
    let Some(certificate) = certificate else { return };
    let unnamed = hosts.iter().filter(|host| names(certificate, host) == Some(false)).count();
    if unnamed > 0 {
        let message = format!(
            "{unnamed} of {} are not named by the certificate of `server.tls`: whoever verifies it does not \
             connect there",
            hosts.len()
        );
        section.warn("hosts", message);
    }
}

/// Where the operator's commands look for a credential.
const OPERATOR_CREDENTIAL: &str = "COUNTERSIGN_OPERATOR_CREDENTIAL";

/// A digest made with `echo` is that of the credential and a line end, which nobody can present. Only where
/// the credential is at hand can that be told before somebody is refused.
pub(super) fn warn_of_newline(section: &Section<'_>, operators: &Operators, sources: &Sources<'_>) {
    let at_hand = (sources.environment)(OPERATOR_CREDENTIAL).map(Zeroizing::new);
    let Some(credential) = at_hand.as_ref().map(|text| text.trim_end_matches(['\r', '\n'])) else { return };
    if operators.by_credential(credential).is_none() && operators.with_line_end(credential).is_some() {
        section.warn(
            "operators",
            "a digest here is that of the credential in COUNTERSIGN_OPERATOR_CREDENTIAL and a line end: hash it \
             with `printf %s`, not with `echo`",
        );
    }
}

fn proxy(section: &mut Section<'_>) -> server::ProxySettings {
    let reader = network("this network is too wide: anybody in it could pretend to be any client");
    let networks = section.list("networks", reader).unwrap_or_default();
    let required = section.or("required", false, flag);
    if required && section.lacks("networks") {
        section.wrong("required", "has no effect without `networks`");
    }
    server::ProxySettings { networks, required }
}

/// Reads `[admin.tls]` into the server's settings.
pub(super) fn admin_tls(section: &mut Section<'_>, settings: &mut server::Settings, base: &Path) {
    let tls = section.optional_table("tls", |section| listener_files(section, base, Door::Admin));
    settings.admin_tls = tls.flatten().map(|tls| tls.files);
}

/// Reads `[admin.client]`: how operators' commands reach an admin listener with TLS. Its files are on
/// their machines, which may be others, and so are not looked for.
fn admin_client(section: &mut Section<'_>, base: &Path) -> AdminClient {
    let client = AdminClient {
        ca: section.optional("ca_file", path(base)),
        certificate: section.optional("certificate_file", path(base)),
        key: section.optional("key_file", path(base)),
        name: section.optional("name", |value| {
            ServerName::try_from(value.text()?.to_owned()).map_err(|_| {
                "expected a name or an IP address, as the certificate has it, without a port".into()
            })
        }),
    };
    for (key, other) in [("certificate_file", "key_file"), ("key_file", "certificate_file")] {
        if section.has(key) && !section.has(other) {
            section.wrong(other, format!("missing: `{key}` is nothing without it"));
        }
    }
    client
}

/// Reads `[admin]` but for its TLS into the server's settings. `others` are the credentials of agents and
/// redeemers.
pub(super) fn admin(
    section: &mut Section<'_>,
    settings: &mut server::Settings,
    others: &HashSet<Sha256>,
    base: &Path,
) -> (Operators, AdminClient) {
    let mut names = HashMap::new();
    let mut used = HashMap::new();
    let operators = section.tables("operators", |section| operator(section, &mut names, &mut used, others));
    settings.admin_listen = section.or("listen", settings.admin_listen, socket_address);
    let client = section.table("client", |section| admin_client(section, base));
    if section.has("client") && !section.has("tls") {
        section.wrong("client", "has no effect without `admin.tls`");
    }
    if !settings.admin_listen.ip().is_loopback() && !section.has("tls") {
        section.warn(
            "listen",
            "not loopback: metrics and the operator's API are plain HTTP without `admin.tls`",
        );
    }
    if settings.admin_listen == settings.listen && settings.listen.port() != 0 {
        section.wrong("listen", "is the same as `server.listen`");
    }
    (Operators::new(operators), client)
}

/// Reads `[health]` into the server's settings.
pub(super) fn health(section: &mut Section<'_>, settings: &mut server::Settings) {
    settings.health_listen = section.optional("listen", socket_address);
    for (other, address) in [("server.listen", settings.listen), ("admin.listen", settings.admin_listen)] {
        if settings.health_listen == Some(address) && address.port() != 0 {
            section.wrong("listen", format!("is the same as `{other}`"));
        }
    }
}

/// How roles are written.
const ROLES: [(&str, Role); 4] =
    [("read", Role::Read), ("resolve", Role::Resolve), ("suspend", Role::Suspend), ("all", Role::All)];

fn operator(
    section: &mut Section<'_>,
    names: &mut HashMap<String, usize>,
    used: &mut HashMap<Sha256, usize>,
    others: &HashSet<Sha256>,
) -> Option<Operator> {
    let taken = |line| Problem::from(format!("is already used on line {line}"));
    let name = section.required("name", |value| {
        let name = id(|text| is_path_id(text).then(|| text.to_owned()))(value)?;
        first_use(names, name.clone(), value.line).map_err(taken)?;
        Ok(name)
    });
    let credentials = section.list("credentials", |value| {
        let digest = credential_digest(value)?;
        if others.contains(&digest) {
            return Err("this is the credential of an agent or a redeemer: operators need their own".into());
        }
        first_use(used, digest, value.line).map_err(taken)?;
        Ok(digest)
    });
    if section.lacks("credentials") {
        section.wrong("credentials", "at least one is needed, such as [\"sha256:…\"]");
    }
    let roles = section.list("roles", choice(&ROLES));
    if section.has("roles") && section.lacks("roles") {
        section.wrong("roles", "at least one is needed, such as [\"read\"]");
    }
    let roles = roles.unwrap_or_else(|| vec![Role::All]);
    Some(Operator { name: name?, credentials: credentials?, roles })
}

/// Reads `[limits]`.
pub(super) fn limits(section: &mut Section<'_>) -> limit::Settings {
    let default = limit::Settings::default();
    let mut number = |key, default: NonZeroU32| rate(section, key, default.get());
    limit::Settings {
        address_requests_per_second: number(
            "address_requests_per_second",
            default.address_requests_per_second,
        ),
        address_request_burst: number("address_request_burst", default.address_request_burst),
        address_connections_per_second: number(
            "address_connections_per_second",
            default.address_connections_per_second,
        ),
        address_connection_burst: number("address_connection_burst", default.address_connection_burst),
        failed_authentications_per_minute: number(
            "failed_authentications_per_minute",
            default.failed_authentications_per_minute,
        ),
        failed_authentication_burst: number(
            "failed_authentication_burst",
            default.failed_authentication_burst,
        ),
        failed_signatures_per_minute: number(
            "failed_signatures_per_minute",
            default.failed_signatures_per_minute,
        ),
        failed_signature_burst: number("failed_signature_burst", default.failed_signature_burst),
        tracked_addresses: number("tracked_addresses", default.tracked_addresses),
        kept_bytes: section.or("kept_bytes", default.kept_bytes, bytes(64 * KIB, MOST_KEPT)),
    }
}

/// Reads `[protocol]`.
pub(super) fn protocol(section: &mut Section<'_>) -> acp::Settings {
    let default = acp::Settings::default();
    acp::Settings { require_virtual: section.or("require_virtual", default.require_virtual, flag) }
}

/// Reads `[reload]`: whether changed files are read again by themselves.
pub(super) fn watch(section: &mut Section<'_>) -> bool {
    section.or("watch", true, flag)
}

/// Reads `[traces]`: how many a second of requests that did not fail.
pub(super) fn traces(section: &mut Section<'_>) -> NonZeroU32 {
    rate(section, "per_second", 10)
}

/// Reads `[upstream]`: what is the same for every merchant.
pub(super) fn upstream(section: &mut Section<'_>) -> merchant::Settings {
    let default = merchant::Settings::default();
    merchant::Settings {
        max_answer_bytes: section.or("max_answer_bytes", default.max_answer_bytes, bytes(16 * KIB, 64 * MIB)),
        pool_max_idle: section.or("pool_max_idle", default.pool_max_idle, count(0, 10_000)),
        pool_max_age: section.or("pool_max_age", default.pool_max_age, duration(SECOND, 24 * HOUR)),
        http2_ping: section.or("http2_ping", default.http2_ping, duration(SECOND, HOUR)),
        look_up: default.look_up,
    }
}
