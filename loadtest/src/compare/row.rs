//! The rows of the comparison: which work through which peer.

use super::peer::{Kind, Release};
use crate::checkout::STEPS;
use crate::gateway::{PLAIN, READING};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// POST of 1.5 KB, 3 KB back.
    Complete,
    /// GET, 3 KB back.
    Get,
    /// A whole checkout: created, read, a token minted, completed.
    Checkout,
}

impl Work {
    /// Requests in one of it.
    pub const fn requests(self) -> usize {
        match self {
            Self::Complete | Self::Get => 1,
            Self::Checkout => STEPS,
        }
    }
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
    /// The row of the same work through the earlier binary.
    pub before: Option<&'static str>,
}

const fn row(id: &'static str, title: &'static str, peer: Kind, work: Work) -> Row {
    let base = match work {
        Work::Complete | Work::Checkout => "hyper",
        Work::Get => "hyper-get",
    };
    Row { id, title, peer, work, merchant: None, base, before: None }
}

const TODAY: Kind = Kind::Embedded(Release::Today);
const BEFORE: Kind = Kind::Embedded(Release::Before);

/// Every row, those first that others are compared with.
pub const ROWS: [Row; 22] = [
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
        before: Some("before-off"),
        ..row("off", "Countersign, features off: GET, HMAC to the merchant", TODAY, Work::Get)
    },
    Row {
        merchant: Some(PLAIN),
        ..row("before-off", "Countersign before, features off: GET, HMAC to the merchant", BEFORE, Work::Get)
    },
    Row { before: Some("before-get"), ..row("get", "Countersign, GET relay", TODAY, Work::Get) },
    row("before-get", "Countersign before, GET relay", BEFORE, Work::Get),
    Row {
        before: Some("before-embedded"),
        ..row("embedded", "Countersign, complete, embedded", TODAY, Work::Complete)
    },
    row("before-embedded", "Countersign before, complete, embedded", BEFORE, Work::Complete),
    Row {
        merchant: Some(READING),
        ..row("embedded-read", "Countersign, complete with the total read, embedded", TODAY, Work::Complete)
    },
    Row {
        before: Some("before-redis-0"),
        ..row(
            "redis-0",
            "Countersign, complete, Redis, wait_replicas 0",
            Kind::Redis(Release::Today, 0),
            Work::Complete,
        )
    },
    row(
        "before-redis-0",
        "Countersign before, complete, Redis, wait_replicas 0",
        Kind::Redis(Release::Before, 0),
        Work::Complete,
    ),
    row(
        "redis-1",
        "Countersign, complete, Redis, wait_replicas 1",
        Kind::Redis(Release::Today, 1),
        Work::Complete,
    ),
    Row {
        before: Some("before-checkout"),
        ..row("checkout", "Countersign, a whole checkout (4 requests), embedded", TODAY, Work::Checkout)
    },
    row(
        "before-checkout",
        "Countersign before, a whole checkout (4 requests), embedded",
        BEFORE,
        Work::Checkout,
    ),
];

/// Those that are measured again with the proxy alone on a core.
pub const PINNED: [&str; 10] = [
    "hyper",
    "hyper-get",
    "nginx",
    "nginx-get",
    "lua-ed25519",
    "get",
    "embedded",
    "before-embedded",
    "redis-0",
    "before-redis-0",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_a_base() {
        let ids: std::collections::HashSet<&str> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        assert!(ROWS.iter().all(|row| ids.contains(row.base)));
        assert!(PINNED.iter().all(|id| ids.contains(id)));
    }

    #[test]
    fn a_row_and_the_one_of_the_earlier_binary_ask_for_the_same() {
        let find = |id: &str| ROWS.iter().find(|row| row.id == id).unwrap();
        let earlier = |kind| match kind {
            Kind::Embedded(Release::Today) => Kind::Embedded(Release::Before),
            Kind::Redis(Release::Today, replicas) => Kind::Redis(Release::Before, replicas),
            other => panic!("{other:?} is not the gateway of today"),
        };
        let mut compared = 0;
        for row in ROWS.iter().filter(|row| row.before.is_some()) {
            let before = find(row.before.unwrap());
            assert_eq!((before.peer, before.work), (earlier(row.peer), row.work), "{}", row.id);
            assert_eq!((before.merchant, before.base), (row.merchant, row.base), "{}", row.id);
            compared += 1;
        }
        assert_eq!(compared, ROWS.iter().filter(|row| row.peer.is_before()).count());
    }
}
