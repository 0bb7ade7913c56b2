//! Each merchant: its name, its TLS, what it publishes, and whether it knows us. Nothing is created there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::uri::Scheme;
use http::{Method, Uri};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::clocks;
use super::finding::{Finding, Subject};
use crate::acp::version::Version;
use crate::conformance::caller::{Caller, Countersigned};
use crate::conformance::report::Unmet;
use crate::crypto::certificate::{Term, term};
use crate::domain::clock::{Clock, SystemClock, Timestamp};
use crate::merchant::{self, TlsFailure, is_public};
use crate::quickstart::client::Answer;
use crate::registry::Merchant;

/// Merchants looked at at once.
const AT_ONCE: usize = 16;
/// A certificate with less left is warned of, as one of our own is.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// A session that nobody has created.
const NOBODYS: &str = "/checkout_sessions/cs_countersign_doctor";

/// Looks at every merchant.
pub(super) async fn all(merchants: Vec<Arc<Merchant>>, by: &Countersigned) -> Vec<Finding> {
    let looked = merchants.into_iter().map(|merchant| look(merchant, by));
    let found: Vec<Vec<Finding>> = futures_util::stream::iter(looked).buffered(AT_ONCE).collect().await;
    found.into_iter().flatten().collect()
}

async fn look(merchant: Arc<Merchant>, by: &Countersigned) -> Vec<Finding> {
    let subject = Subject(format!("merchant {}", merchant.id.as_str()));
    let mut findings = Vec::new();
    let mut is_there = Vec::new();
    for url in merchant.endpoint.base_urls() {
        // Only where there are several it is said which.
        let of_it = match merchant.endpoint.further.is_empty() {
            true => Subject(subject.0.clone()),
            false => Subject(format!("{} at {url}", subject.0)),
        };
        is_there.push(reach(&merchant, url, &of_it, &mut findings).await);
    }
    // What follows is asked of the first.
    if is_there.first() != Some(&true) {
        return findings;
    }
    let Some(version) =
        Version::NEWEST_FIRST.into_iter().find(|one| merchant.versions.contains(one.as_str()))
    else {
        findings.push(subject.faulty("versions", "its entry lists none that is known"));
        return findings;
    };
    let caller = match merchant::tls_towards(&merchant) {
        Ok(towards) => Caller::new(Arc::clone(&merchant), version, by, towards),
        Err(error) => {
            findings.push(subject.faulty("tls", error.to_string()));
            return findings;
        }
    };
    let Some(caller) = caller else { return findings };
    findings.push(discovery(&subject, &caller).await);
    findings.extend(credential(&subject, &caller).await);
    findings
}

/// Looks its name up and shakes hands; whether that worked.
async fn reach(merchant: &Merchant, url: &Uri, subject: &Subject, findings: &mut Vec<Finding>) -> bool {
    let addresses = match addresses(merchant, url).await {
        Ok(addresses) => addresses,
        Err(why) => {
            findings.push(subject.faulty("dns", why));
            return false;
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    findings.push(subject.good("dns", shown.join(", ")));
    let met = tls(merchant, url, &addresses).await;
    let is_there = met.is_ok();
    findings.push(met.map_or_else(|why| subject.faulty("tls", why), |met| met.judged(subject)));
    is_there
}

/// A URL's host, an IPv6 address without its brackets, and port.
fn place(url: &Uri) -> (&str, u16) {
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let default_port = if url.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    (host, url.port_u16().unwrap_or(default_port))
}

async fn addresses(merchant: &Merchant, url: &Uri) -> Result<Vec<SocketAddr>, String> {
    let endpoint = &merchant.endpoint;
    let (host, port) = place(url);
    let within = merchant.deadlines.connect;
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => match tokio::time::timeout(within, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(format!("{host} does not resolve: {error}")),
            Err(_) => return Err(format!("{host} does not resolve within {within:?}")),
        },
    };
    let allowed = |address: &SocketAddr| endpoint.allow_private_addresses || is_public(address.ip());
    let usable: Vec<SocketAddr> = found.iter().copied().filter(allowed).collect();
    if usable.is_empty() {
        return Err(format!(
            "{host} has no address that may be used: private ones need allow_private_addresses"
        ));
    }
    Ok(usable)
}

/// A connection that was made.
enum Met {
    /// By plain http.
    Plain,
    /// By TLS: its version, and until when the chain that was shown is good.
    Secure { version: String, until: Option<Timestamp> },
}

impl Met {
    fn judged(self, subject: &Subject) -> Finding {
        let Self::Secure { version, until } = self else {
            return subject.doubtful("tls", "none: its credential travels in clear");
        };
        let Some(until) = until else { return subject.good("tls", version) };
        let left = until.since(SystemClock.now());
        let told = format!("{version}, its certificates are good until {}", until.to_rfc3339());
        if left < SOON { subject.doubtful("tls", told) } else { subject.good("tls", told) }
    }
}

async fn tls(merchant: &Merchant, url: &Uri, addresses: &[SocketAddr]) -> Result<Met, String> {
    let within = merchant.deadlines.connect;
    match tokio::time::timeout(within, shake(merchant, url, addresses)).await {
        Ok(met) => met,
        Err(_) => Err(format!("no connection within {within:?}")),
    }
}

async fn shake(merchant: &Merchant, url: &Uri, addresses: &[SocketAddr]) -> Result<Met, String> {
    let stream = TcpStream::connect(addresses).await.map_err(|error| error.to_string())?;
    if url.scheme() == Some(&Scheme::HTTP) {
        return Ok(Met::Plain);
    }
    let config = merchant::tls_towards(merchant).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(place(url).0.to_owned()).map_err(|error| error.to_string())?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let shaken =
        shaken.map_err(|error| format!("{}: {error}", TlsFailure::of(&error).as_str().replace('_', " ")))?;
    let (_, session) = shaken.get_ref();
    let version = session.protocol_version().map_or_else(String::new, |version| format!("{version:?}"));
    let shown = session.peer_certificates().unwrap_or_default();
    let until = shown.iter().filter_map(term).map(|Term { ends, .. }| ends).min();
    Ok(Met::Secure { version: version.replace('_', "."), until })
}

/// What it publishes of itself (rfc.discovery §4), beside what its entry says.
async fn discovery(subject: &Subject, caller: &Caller) -> Finding {
    let check = "discovery";
    let answer = match caller.ask_at_root("/.well-known/acp.json").await {
        Ok(answer) => answer,
        Err(Unmet::Otherwise(why) | Unmet::Skipped(why)) => return subject.doubtful(check, why),
    };
    let document = answer.json();
    let listed = document.pointer("/protocol/supported_versions").and_then(|listed| listed.as_array());
    let (true, Some(listed)) = (answer.status.is_success(), listed) else {
        return subject.good(check, format!("none is published ({})", answer.status.as_u16()));
    };
    let listed: Vec<&str> = listed.iter().filter_map(|version| version.as_str()).collect();
    let ours = &caller.merchant.versions;
    let missing: Vec<&str> =
        ours.iter().map(String::as_str).filter(|version| !listed.contains(version)).collect();
    let told = format!("publishes {}", listed.join(", "));
    match missing.len() {
        0 => subject.good(check, told),
        all if all == ours.len() => subject.faulty(check, format!("{told}: none of what its entry lists")),
        _ => subject.doubtful(check, format!("{told}; its entry lists {} too", missing.join(", "))),
    }
}

/// Whether it knows our credential and reads our signature: a session that nobody has created is not found.
async fn credential(subject: &Subject, caller: &Caller) -> Vec<Finding> {
    let began = Instant::now();
    let asked = async { caller.send(caller.request(Method::GET, NOBODYS, Bytes::new(), None)?).await };
    let answer = match asked.await {
        Ok(answer) => answer,
        Err(Unmet::Otherwise(why) | Unmet::Skipped(why)) => return vec![subject.faulty("credential", why)],
    };
    let took = began.elapsed();
    let mut findings = vec![judged_read(subject, &answer)];
    let date = answer.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
    findings.push(match date {
        // In whole seconds, and told at some time while it was waited for.
        Some(date) => {
            let took = took + Duration::from_secs(1);
            clocks::compared(subject, Timestamp::of_system(date), SystemClock.now(), took)
        }
        None => subject.good("clock", "not told: its answers have no Date"),
    });
    findings
}

fn judged_read(subject: &Subject, answer: &Answer) -> Finding {
    let status = answer.status.as_u16();
    let code = answer.code().map_or_else(String::new, |code| format!(" {code}"));
    match status {
        404 | 410 => {
            subject.good("credential", format!("accepted: {status} to a session that nobody created"))
        }
        401 | 403 => {
            subject.faulty("credential", format!("refused: {status}{code}; so is our signature perhaps"))
        }
        400 => subject.faulty("credential", format!("the read of a session was refused: 400{code}")),
        _ => subject.doubtful("credential", format!("{status}{code} to a session that nobody created")),
    }
}
