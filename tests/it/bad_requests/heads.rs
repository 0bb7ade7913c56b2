//! Methods, paths and authorities.

use super::bench::{Base, Bench, Row, refused, row, unreadable};
use crate::world::{GATEWAY, SHOP_HOST};

const MISSING: fn() -> super::bench::Expected = || refused(404, "not_found");

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_exactly_a_route_is_404() {
    let mut rows: Vec<Row> = [
        ("a trailing slash", "/m/lamps/checkout_sessions/"),
        ("a doubled slash", "/m//lamps/checkout_sessions"),
        ("a leading doubled slash", "//m/lamps/checkout_sessions"),
        ("a path parameter", "/m/lamps/checkout_sessions;v=1"),
        ("an escaped letter", "/m/lamps/checkout%5Fsessions"),
        ("an escaped slash", "/m/lamps%2Fcheckout_sessions"),
        ("escaped dots", "/m/lamps/%2e%2e/books/checkout_sessions"),
        ("dots", "/m/lamps/../books/checkout_sessions"),
        ("a dot", "/m/./lamps/checkout_sessions"),
        ("dots for an id", "/m/lamps/checkout_sessions/.."),
        ("dots for a merchant", "/m/../checkout_sessions"),
        ("a backslash", "/m/lamps\\checkout_sessions"),
        ("another case", "/M/lamps/checkout_sessions"),
        ("another case of the merchant", "/m/lamps/Checkout_Sessions"),
        ("an escaped NUL", "/m/lamps/checkout_sessions/x%00"),
        ("one segment more", "/m/lamps/checkout_sessions/a/complete/b"),
        ("the merchant's own prefix", "/lamps/checkout_sessions"),
        ("no path", "/"),
        ("an operator's path", "/metrics"),
    ]
    .into_iter()
    .map(|(name, path)| row(name, Base::Create, move |raw, _| raw.target(path), MISSING()))
    .collect();
    rows.extend([
        row(
            "an id of 129 characters",
            Base::Create,
            |raw, _| raw.target(session(&"x".repeat(129))),
            MISSING(),
        ),
        row("an id with a colon", Base::Create, |raw, _| raw.target(session("a:b")), MISSING()),
        row("an id that is not ASCII", Base::Create, |raw, _| raw.target(session("é")), MISSING()),
        row(
            "a space in the path",
            Base::Create,
            |raw, _| raw.target("/m/lamps/checkout sessions"),
            unreadable(400),
        ),
        row("a NUL in the path", Base::Create, |raw, _| raw.target("/m/lamps\0/"), unreadable(400)),
        row(
            "a path of 40 KiB",
            Base::Create,
            |raw, _| raw.target(session(&"x".repeat(40 << 10))),
            unreadable(431),
        ),
        row("an asterisk", Base::Create, |raw, _| raw.method("OPTIONS").target("*"), MISSING()),
        row(
            "a merchant nobody knows",
            Base::Create,
            |raw, _| raw.target("/m/lamp/checkout_sessions"),
            refused(404, "merchant_not_found"),
        ),
        row(
            "a merchant in another case",
            Base::Create,
            |raw, _| raw.target("/m/LAMPS/checkout_sessions"),
            refused(404, "merchant_not_found"),
        ),
        row(
            "a prefix on a merchant's own host",
            Base::Create,
            |raw, _| raw.set("host", SHOP_HOST),
            MISSING(),
        ),
        row(
            "a query on a mutation",
            Base::Create,
            |raw, _| raw.target("/m/lamps/checkout_sessions?x=1"),
            refused(400, "query_not_allowed"),
        ),
        row(
            "an empty query",
            Base::Create,
            |raw, _| raw.target("/m/lamps/checkout_sessions?"),
            refused(400, "query_not_allowed"),
        ),
        row(
            "a query on a read",
            Base::Read,
            |raw, b| raw.target(format!("{}?expand=1", session(&b.session))),
            refused(400, "query_not_allowed"),
        ),
    ]);
    Bench::start("").await.run(rows).await;
}

fn session(id: &str) -> String {
    format!("/m/lamps/checkout_sessions/{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_the_routes_is_405_or_no_method() {
    let not_allowed = || refused(405, "method_not_allowed");
    let mut rows: Vec<Row> = ["GET", "PUT", "DELETE", "PATCH", "TRACE", "post", "POSTER"]
        .into_iter()
        .map(|method| {
            row(format!("the method {method}"), Base::Create, move |raw, _| raw.method(method), not_allowed())
        })
        .collect();
    rows.extend([
        row("a mint with GET", Base::Mint, |raw, _| raw.method("GET"), not_allowed()),
        row("DELETE on a session", Base::Read, |raw, _| raw.method("DELETE"), not_allowed()),
        row("a method with a NUL", Base::Create, |raw, _| raw.method("PO\0ST"), unreadable(400)),
        row("no method", Base::Create, |raw, _| raw.method(""), unreadable(400)),
        row(
            "HTTP/0.9",
            Base::Create,
            |mut raw, _| {
                raw.version = b"HTTP/0.9".to_vec();
                raw
            },
            unreadable(400),
        ),
        row(
            "HTTP/3.0",
            Base::Create,
            |mut raw, _| {
                raw.version = b"HTTP/3.0".to_vec();
                raw
            },
            unreadable(400),
        ),
    ]);
    Bench::start("").await.run(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_authority_and_it_is_ours() {
    let invalid = || refused(400, "invalid_host");
    let misdirected = || refused(421, "unknown_host");
    let absolute = |authority: &str| format!("https://{authority}/m/lamps/checkout_sessions");
    let mut rows: Vec<Row> = [
        ("no host", None),
        ("an empty host", Some("")),
        ("user information", Some("agent@gateway.test")),
        ("a list of hosts", Some("gateway.test, lamps.gateway.test")),
        ("a host with a path", Some("gateway.test/m")),
        ("a host with an escape", Some("gateway%2etest")),
        ("port zero", Some("gateway.test:0")),
        ("a port that is none", Some("gateway.test:https")),
        ("a port with a sign", Some("gateway.test:+443")),
        ("a port too large", Some("gateway.test:65979")),
        ("a host in brackets", Some("[gateway.test]")),
        ("a host that is not ASCII", Some("gäteway.test")),
    ]
    .into_iter()
    .map(|(name, host)| {
        let spoil = move |raw: crate::wire::Raw, _: &Bench| match host {
            Some(host) => raw.set("host", host),
            None => raw.without("host"),
        };
        row(name, Base::Create, spoil, invalid())
    })
    .collect();
    rows.extend([
        row("the same host twice", Base::Create, |raw, _| raw.twice("host"), invalid()),
        row("two hosts of ours", Base::Create, |raw, _| raw.add("host", SHOP_HOST), invalid()),
        row(
            "an absolute form for another of our hosts",
            Base::Create,
            move |raw, _| raw.target(absolute(SHOP_HOST)),
            invalid(),
        ),
        row(
            "an absolute form for a stranger",
            Base::Create,
            move |raw, _| raw.target(absolute("evil.test")),
            invalid(),
        ),
        row(
            "an absolute form with another port",
            Base::Create,
            move |raw, _| raw.target(absolute("gateway.test:8443")),
            invalid(),
        ),
        row(
            "an absolute form with user information",
            Base::Create,
            move |raw, _| raw.target(absolute("a@gateway.test")),
            invalid(),
        ),
        row("a host nobody knows", Base::Create, |raw, _| raw.set("host", "evil.test"), misdirected()),
        row(
            "our host at another port",
            Base::Create,
            |raw, _| raw.set("host", "gateway.test:8443"),
            misdirected(),
        ),
        row(
            "our host with a full stop",
            Base::Create,
            |raw, _| raw.set("host", "gateway.test."),
            misdirected(),
        ),
        row("an address", Base::Create, |raw, _| raw.set("host", "127.0.0.1"), misdirected()),
        row("a subdomain", Base::Create, |raw, _| raw.set("host", "x.gateway.test"), misdirected()),
    ]);
    let bench = Bench::start("").await;
    assert_eq!(bench.alpha.settings().authority, GATEWAY);
    bench.run(rows).await;
}
