//! The rows of the comparison: which work through which peer.

use super::peer::Kind;
use crate::gateway::{PLAIN, READING};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// POST of 1.5 KB, 3 KB back.
    Complete,
    /// GET, 3 KB back.
    Get,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in results.
    pub id: &'static str,
    /// Its name in tables.
    pub title: &'static str,
    /// Through what.
    pub peer: Kind,
    /// What.
    pub work: Work,
    /// At which merchant; at each in turn by default.
    pub merchant: Option<&'static str>,
    /// The row whose ratio to it is told.
    pub base: &'static str,
}

const fn row(id: &'static str, title: &'static str, peer: Kind, work: Work) -> Row {
    let base = match work {
        Work::Complete => "hyper",
        Work::Get => "hyper-get",
    };
    Row { id, title, peer, work, merchant: None, base }
}

/// Every row, those first that others are compared with.
pub const ROWS: [Row; 16] = [
    row("hyper", "hyper pass-through", Kind::Hyper, Work::Complete),
    row("hyper-get", "hyper pass-through, GET", Kind::Hyper, Work::Get),
    row("nginx", "nginx", Kind::Nginx, Work::Complete),
    row("nginx-get", "nginx, GET", Kind::Nginx, Work::Get),
    row("haproxy", "HAProxy", Kind::Haproxy, Work::Complete),
    row("envoy", "Envoy", Kind::Envoy, Work::Complete),
    row("lua-hmac", "nginx + Lua + Redis: HMAC, claim", Kind::LuaHmac, Work::Complete),
    row(
        "lua-ed25519",
        "nginx + Lua + Redis: Ed25519 in and out, claim, settle",
        Kind::LuaEd25519,
        Work::Complete,
    ),
    row("haproxy-jwt", "HAProxy: jwt_verify (ES256), stick table", Kind::HaproxyJwt, Work::Complete),
    row("envoy-jwt", "Envoy: jwt_authn (ES256), local rate limit", Kind::EnvoyJwt, Work::Complete),
    Row {
        merchant: Some(PLAIN),
        ..row("off", "Countersign, features off: GET, HMAC to the merchant", Kind::Embedded, Work::Get)
    },
    row("get", "Countersign, GET relay", Kind::Embedded, Work::Get),
    row("embedded", "Countersign, complete, embedded", Kind::Embedded, Work::Complete),
    Row {
        merchant: Some(READING),
        ..row(
            "embedded-read",
            "Countersign, complete with the total read, embedded",
            Kind::Embedded,
            Work::Complete,
        )
    },
    row("redis-0", "Countersign, complete, Redis, wait_replicas 0", Kind::Redis(0), Work::Complete),
    row("redis-1", "Countersign, complete, Redis, wait_replicas 1", Kind::Redis(1), Work::Complete),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_base() {
        let ids: std::collections::HashSet<&str> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        assert!(ROWS.iter().all(|row| ids.contains(row.base)));
    }
}
