//! Each way in which a request to a merchant can come to nothing, provoked through a socket.
//!
//! Told in the request's line and counted once, by the same word.

use std::net::SocketAddr;

use countersign::merchant::LookUp;
use countersign::quickstart::shop::{Behaviour, CallKind, Change};
use parking_lot::Mutex;
use rustls::version::{TLS12, TLS13};

use serde_json::json;

use super::servers::{Authority, Crowded, Flaw};
use super::*;

/// A merchant, and what comes of creating a session there.
struct Case {
    url: String,
    lines: &'static str,
    status: u16,
    /// `None` where it depends on who was first.
    decision: Option<&'static str>,
    cause: &'static str,
}

const PRIVATE: &str = "allow_private_addresses = true\nallow_tls12 = false";

fn case(url: impl Into<String>, status: u16, decision: &'static str, cause: &'static str) -> Case {
    Case { url: url.into(), lines: PRIVATE, status, decision: Some(decision), cause }
}

/// Nothing was sent.
fn unreachable(url: impl Into<String>, cause: &'static str) -> Case {
    let status = if cause.ends_with("_timeout") { 504 } else { 502 };
    case(url, status, "merchant_unreachable", cause)
}

/// Nobody knows what became of it.
fn lost(url: impl Into<String>, cause: &'static str) -> Case {
    case(url, 502, "merchant_answer_lost", cause)
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}

pub fn https(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}

/// A world with a merchant for each case, `m0` and on.
async fn world_of(cases: &[Case], authority: &Authority, options: Options) -> World {
    let mut world = World::closed(options).await;
    std::fs::write(world.directory.path().join("theirs.pem"), authority.pem()).unwrap();
    for (number, Case { url, lines, .. }) in cases.iter().enumerate() {
        world.text.push_str(&format!(
            r#"
[[merchants]]
id = "m{number}"
base_url = "{url}"
credential = "file:lamps.credential"
versions = ["2026-04-17"]
idempotency = "keys"
ca_file = "theirs.pem"
{lines}
[merchants.deadlines]
connect = "500ms"
first_byte = "500ms"
total = "1s"
"#
        ));
    }
    world.open().await;
    world
}

pub fn counted(world: &World, cause: &str) -> u64 {
    let name = format!("countersign_upstream_failures_total{{reason=\"{cause}\"}} ");
    let text = world.app().metrics_text();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

pub fn assert_documented(cause: &str) {
    let row = format!("| `{cause}` |");
    assert!(
        include_str!("../../../deploy/operating.md").contains(&row),
        "no row {row} in deploy/operating.md"
    );
}

/// Creates a session at each merchant.
async fn assert_told(cases: &[Case], authority: &Authority) {
    let world = world_of(cases, authority, Options::default()).await;
    assert_told_in(&world, cases).await;
}

async fn assert_told_in(world: &World, cases: &[Case]) {
    let alpha = world.alpha();
    for (number, Case { url, status, decision, cause, .. }) in cases.iter().enumerate() {
        let before = counted(world, cause);
        let path = format!("/m/m{number}/checkout_sessions");
        let answer = alpha.post(path, &lamp_order()).send().await.unwrap();
        assert_eq!(answer.status, *status, "{url} {cause}: {}", answer.json());
        let line = line_of(world, &answer).await;
        assert_eq!(line["cause"], *cause, "{url}: {line}");
        assert!(decision.is_none_or(|decision| line["decision"] == decision), "{url}: {line}");
        assert_eq!(counted(world, cause), before + 1, "{url} {cause}");
        assert_documented(cause);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_cannot_be_connected_to_is_told_by_why() {
    let crowded = Crowded::new().await;
    let mute = servers::mute().await;
    let forbidden =
        Case { lines: "", ..unreachable(format!("https://0x7f000001:{}", mute.port()), "address_forbidden") };
    let cases = [
        unreachable("https://nowhere.invalid", "unresolved"),
        unreachable("https://255.255.255.255", "unreachable"),
        unreachable(http(servers::nobody().await), "connection_refused"),
        unreachable(http(crowded.address), "connect_timeout"),
        // An address that is no place to connect to without the name of a network card.
        unreachable("https://[fe80::1]", "connection_failed"),
        forbidden,
    ];
    assert_told(&cases, &Authority::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_is_told_by_what_is_wrong() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let flawed = async |flaw, cause| unreachable(https(ours.flawed(flaw).await), cause);
    let internal_error = servers::saying(b"\x15\x03\x03\x00\x02\x02\x50").await;
    let wants_old = https(ours.wanting(&TLS12, "http/1.1").await);
    let cases = [
        flawed(Flaw::Expired, "tls_certificate_expired").await,
        flawed(Flaw::NotYetValid, "tls_certificate_not_yet_valid").await,
        flawed(Flaw::Name, "tls_wrong_name").await,
        flawed(Flaw::Purpose, "tls_certificate_invalid").await,
        unreachable(https(theirs.flawed(Flaw::None).await), "tls_unknown_issuer"),
        unreachable(https(ours.old().await), "tls_incompatible"),
        unreachable(https(internal_error), "tls_alert"),
        unreachable(https(servers::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").await), "tls_not_spoken"),
        unreachable(https(servers::saying(b"").await), "tls_ended"),
        // The end of a greeting that has not begun.
        unreachable(https(servers::saying(b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00").await), "tls_failed"),
        unreachable(https(servers::mute().await), "tls_timeout"),
        Case {
            lines: "allow_private_addresses = true\nallow_tls12 = true",
            ..unreachable(wants_old, "tls_client_certificate")
        },
        // Behind the handshake: the request has left by then, or has not.
        Case {
            decision: None,
            ..lost(https(ours.wanting(&TLS13, "http/1.1").await), "tls_client_certificate")
        },
        Case { decision: None, ..lost(https(ours.wanting(&TLS13, "h2").await), "tls_client_certificate") },
    ];
    assert_told(&cases, &ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_whole_is_told_by_what_is_missing() {
    let ours = Authority::new();
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}\r\n");
    let reset = |reason, half| ours.resetting(reason, half);
    let cases = [
        lost(http(servers::answering("").await), "reset"),
        lost(https(reset(h2::Reason::INTERNAL_ERROR, false).await), "reset"),
        lost(http(servers::answering("220 mail.example ESMTP\r\n").await), "malformed"),
        lost(http(servers::answering(head("content-length: 99\r\n") + "{").await), "truncated"),
        lost(https(reset(h2::Reason::INTERNAL_ERROR, true).await), "truncated"),
        lost(http(servers::answering(head("content-length: 99999999\r\n")).await), "too_large"),
        lost(
            http(servers::answering(head("content-length: 2\r\ncontent-encoding: br\r\n") + "{}").await),
            "undecodable",
        ),
        case(http(servers::mute().await), 504, "merchant_timeout", "head_timeout"),
        case(
            http(servers::answering_and_silent(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{").await),
            504,
            "merchant_timeout",
            "body_timeout",
        ),
        unreachable(https(reset(h2::Reason::REFUSED_STREAM, false).await), "stream_refused"),
        unreachable(https(ours.leaving().await), "unwritten"),
    ];
    assert_told(&cases, &ours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_used_is_told_by_why() {
    let answer = async |status: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        http(servers::answering(text).await)
    };
    let cases = [
        case(answer("200 OK", "<html>").await, 502, "merchant_answer_not_json", "unreadable"),
        case(answer("200 OK", "[]").await, 502, "merchant_answer_invalid", "unreadable"),
        case(answer("404 Not Found", "<html>").await, 502, "merchant_answer_invalid", "unreadable"),
        case(answer("401 Unauthorized", "{}").await, 502, "merchant_refused_gateway", "credential_refused"),
        case(answer("302 Found", "").await, 502, "merchant_status_unusable", "status_unusable"),
    ];
    assert_told(&cases, &Authority::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_still_looked_up_is_told_as_that() {
    let (_answer, silent) = std::sync::mpsc::channel::<()>();
    let silent = Mutex::new(silent);
    let look_up = LookUp::new(move |_, _| {
        let _ = silent.lock().recv();
        Ok(Vec::new())
    });
    let cases = [unreachable("https://shop.example", "dns_timeout")];
    let world = world_of(&cases, &Authority::new(), Options { look_up, ..Options::default() }).await;
    assert_told_in(&world, &cases).await;
}

/// An amount that JSON can show and a structured field cannot (RFC 8941 section 3.3.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_written_is_told_as_that() {
    let world = World::start().await;
    let alpha = world.alpha();
    let total = 1_000_000_000_000_000;
    let mut shown = shown_session("cs_dear");
    shown["totals"] = json!([{"type": "total", "display_text": "Total", "amount": total}]);
    world.lamps.behave_once(CallKind::Create, Behaviour::Instead(canned(201, shown.to_string())));
    let (session, shown) = create(&alpha, "lamps").await;
    assert_eq!((session.as_str(), shown), ("cs_dear", total));
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.status, 502, "{}", answer.json());
    assert_eq!(line_of(&world, &answer).await["cause"], "not_built");
    assert_eq!(counted(&world, "not_built"), 1);
    assert_documented("not_built");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_session_is_told_as_misplaced() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    world.lamps.behave_once(CallKind::Read, Behaviour::Changed(Change::OtherSession));
    let answer = alpha.get(format!("/m/lamps/checkout_sessions/{session}")).send().await.unwrap();
    assert_eq!(answer.status, 502, "{}", answer.json());
    assert_eq!(line_of(&world, &answer).await["cause"], "misplaced");
    assert_eq!(counted(&world, "misplaced"), 1);
    assert_documented("misplaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_merchant_refuses_is_no_failure_and_has_its_status() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = create(&alpha, "lamps").await;
    world
        .lamps
        .behave_once(CallKind::Read, Behaviour::Instead(countersign::quickstart::shop::Canned::status(422)));
    let answer = alpha.get(format!("/m/lamps/checkout_sessions/{session}")).send().await.unwrap();
    let line = line_of(&world, &answer).await;
    assert_eq!((line["merchant_status"].as_u64(), line.get("cause")), (Some(422), None), "{line}");
    let metrics = world.app().metrics_text();
    let counted =
        |line: &str| line.starts_with("countersign_upstream_failures_total{") && !line.ends_with(" 0");
    assert!(!metrics.lines().any(counted), "{metrics}");
}
