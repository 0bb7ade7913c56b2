//! Reads `[[merchants]]`. Who may redeem their tokens is read in [`super::redeemers`].

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::agents::rate;
use super::document::Section;
use super::keys::mac_key;
use super::parties::Parties;
use super::pem::{Whose, certificates, judge_terms, private_key};
use super::redeemers::redeemer;
use super::secrets::{SecretEncoding, is_credential};
use super::settings::warn_of_names;
use super::urls::{authority, base_url, base_urls};
use super::values::{allowance_id, choice, count, duration, flag, id, money_by_currency, version};
use crate::acp::version::Version;
use crate::domain::id::MerchantId;
use crate::domain::secret::SecretString;
use crate::merchant::{DestinationError, Merchants, SetupReason, TlsSetupError};
use crate::registry::{
    BreakerSettings, Deadlines, Merchant, MerchantEndpoint, MerchantIdempotency, OutwardSignature,
    PurchaseOrders, SHORTEST_SIGNATURE_LIFE,
};

/// A merchant's servers usually close idle connections after a minute; proxies in between sooner.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// A total older than this is fetched again before complete.
const TOTAL_MAX_AGE: Duration = Duration::from_secs(10 * 60);
/// After this without an order in the session, a merchant that lost a complete has lost it for good.
const DOUBT_GRACE: Duration = Duration::from_secs(15 * 60);
/// A purchase that waits for longer deserves a person's eyes.
const PENDING_MAX: Duration = Duration::from_secs(3600);
const CONCURRENCY: u32 = 256;
const REQUESTS_PER_SECOND: u32 = 500;
const REQUEST_BURST: u32 = 1000;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads one merchant.
pub(super) fn merchant(section: &mut Section<'_>, parties: &mut Parties<'_>) -> Option<Merchant> {
    let id = section.required("id", |value| {
        let id = id(MerchantId::parse)(value)?;
        parties.take_id("merchants", id.as_str(), value.line)?;
        Ok(id)
    });
    let endpoint = endpoint(section, parties);
    let hosts = section.list("hosts", |value| {
        let host = authority(value)?;
        parties.take_host(&host, value.line)?;
        Ok(host)
    });
    warn_of_names(section, hosts.as_deref().unwrap_or_default(), parties.certificate.as_ref());
    let retired = section.or("retired", false, flag);
    let credential = credential(section, parties);
    let mut credentials = HashMap::new();
    let redeemers = section.tables("redeemers", |entry| redeemer(entry, parties, &mut credentials));
    let allowance_ids = section.list("allowance_ids", allowance_id).unwrap_or_default();
    let versions = versions(section);
    let deadlines = section.table("deadlines", deadlines);
    let breaker = section.table("breaker", breaker);
    let idempotency = idempotency(section);
    let signature = outward_signature(section, parties);
    let purchase_orders = section
        .optional_table("purchase_orders", |entry| purchase_orders(entry, parties))
        .unwrap_or(PurchaseOrders::Refused);
    let free_orders = section.or("free_orders", false, flag);
    let total_max_age = section.or("total_max_age", TOTAL_MAX_AGE, duration(SECOND, DAY));
    let doubt_grace = section.or("doubt_grace", DOUBT_GRACE, duration(MINUTE, 7 * DAY));
    if doubt_grace < deadlines.total + SHORTEST_SIGNATURE_LIFE {
        section.wrong(
            "doubt_grace",
            "must not be below `deadlines.total` and 30s for our signature: an attempt could still be under way, \
             or be believed after it was given up",
        );
    }
    let pending_max = section.or("pending_max", PENDING_MAX, duration(MINUTE, 30 * DAY));
    let adoption = section.list("adopting_agents", |value| parties.agent(value)).unwrap_or_default();
    let redeem_every_claim = section.or("redeem_every_claim", false, flag);
    let query_on_get = section.or("query_on_get", false, flag);
    let is_test = section.or("test", false, flag);
    let concurrency = rate(section, "concurrency", CONCURRENCY);
    let requests_per_second = rate(section, "requests_per_second", REQUESTS_PER_SECOND);
    let request_burst = rate(section, "request_burst", REQUEST_BURST);
    let id = id?;
    let own_id = std::iter::once(id.as_str().to_owned());
    let known_as: BTreeSet<String> = own_id.chain(allowance_ids).collect();
    for name in &known_as {
        if let Some(line) = parties.note_allowance_id(name, section.line) {
            section.warn(
                "allowance_ids",
                format!("shares an id with the merchant on line {line}: a mint must then name the merchant otherwise"),
            );
        }
    }
    let merchant = Merchant {
        allowance_ids: known_as.into_iter().collect(),
        id,
        endpoint: endpoint?,
        hosts: hosts.unwrap_or_default(),
        retired,
        credential: credential?,
        redeemers,
        versions: versions.iter().map(|version| version.as_str().to_owned()).collect(),
        idempotency,
        signature: signature?,
        deadlines,
        breaker,
        total_max_age,
        doubt_grace,
        pending_max,
        purchase_orders,
        free_orders,
        adoption: adoption.into_iter().collect(),
        redeem_every_claim,
        query_on_get,
        is_test,
        concurrency,
        requests_per_second,
        request_burst,
    };
    try_out(section, &merchant, parties);
    Some(merchant)
}

/// Refuses what a start would refuse.
fn try_out(section: &Section<'_>, merchant: &Merchant, parties: &mut Parties<'_>) {
    let Err(reason) = Merchants::try_out(merchant) else { return };
    let key = match reason {
        SetupReason::Destination(DestinationError::BaseUrl) => "base_url",
        SetupReason::Destination(DestinationError::PublicBaseUrl) => "public_base_url",
        SetupReason::Destination(DestinationError::Credential) => "credential",
        SetupReason::Tls(TlsSetupError::Authorities) => "ca_file",
        SetupReason::Tls(TlsSetupError::ClientCertificate) => "client_certificate_file",
        SetupReason::Tls(TlsSetupError::SystemAuthorities) => {
            // All merchants miss the same ones.
            if !std::mem::replace(&mut parties.authorities_missed, true) {
                section.wrong(
                    "base_url",
                    "this machine has no certificate authorities to verify a merchant by: install them \
                     (ca-certificates), or name the merchant's in `ca_file`",
                );
            }
            return;
        }
        SetupReason::Tls(TlsSetupError::Protocol) => "allow_tls12",
    };
    section.wrong(key, reason.to_string());
}

fn endpoint(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<MerchantEndpoint> {
    let base = parties.sources.base;
    let allow_private_addresses = section.or("allow_private_addresses", false, flag);
    let base_urls = section.required("base_url", |value| base_urls(value, allow_private_addresses));
    let public_base_url = section.optional("public_base_url", base_url);
    if base_urls.iter().flatten().any(|url| url.scheme_str() == Some("http")) {
        section.warn("base_url", "plain http: the merchant's credential travels in clear");
    }
    let allow_tls12 = section.or("allow_tls12", false, flag);
    if allow_tls12 {
        section.warn("allow_tls12", "ACP asks for TLS 1.3");
    }
    let ca_file = section.optional("ca_file", certificates(base));
    if let Some(path) = &ca_file {
        judge_terms(section, "ca_file", path, Whose::Authorities);
    }
    let certificate = client_certificate(section, parties);
    let pool_idle = section.or("pool_idle", POOL_IDLE, duration(SECOND, 10 * MINUTE));
    let mut base_urls = base_urls?.into_iter();
    Some(MerchantEndpoint {
        base_url: base_urls.next()?,
        further: base_urls.collect(),
        public_base_url,
        ca_file,
        client_certificate: certificate,
        allow_private_addresses,
        allow_tls12,
        pool_idle,
    })
}

fn client_certificate(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.optional("client_certificate_file", certificates(parties.sources.base));
    let key = private_key(section, "client_key_file", parties.sources.base);
    match (section.has("client_certificate_file"), section.has("client_key_file")) {
        (true, false) => section.wrong("client_key_file", "missing: `client_certificate_file` needs its key"),
        (false, true) => {
            section.wrong("client_certificate_file", "missing: `client_key_file` needs its certificate")
        }
        (true, true) | (false, false) => {}
    }
    if let Some(path) = &certificate {
        judge_terms(section, "client_certificate_file", path, Whose::Client);
    }
    Some((certificate?, key?))
}

fn credential(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<SecretString> {
    let credential = parties.sources.required(section, "credential")?;
    if !is_credential(&credential) {
        section.wrong("credential", "the secret holds characters that a bearer credential cannot have");
    }
    Some(credential)
}

fn versions(section: &mut Section<'_>) -> BTreeSet<Version> {
    let versions = section.list("versions", version);
    if section.lacks("versions") {
        section
            .wrong("versions", "at least one is needed: what the merchant accepts, such as [\"2026-04-17\"]");
    }
    versions.unwrap_or_default().into_iter().collect()
}

/// No version that a merchant accepts says that it charges a key once: without being told, a complete is
/// not sent twice.
fn idempotency(section: &mut Section<'_>) -> MerchantIdempotency {
    const CHOICES: [(&str, MerchantIdempotency); 2] =
        [("keys", MerchantIdempotency::Keys), ("none", MerchantIdempotency::None)];
    section.or("idempotency", MerchantIdempotency::None, choice(&CHOICES))
}

fn outward_signature(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<OutwardSignature> {
    let acp = section.or("signature", false, choice(&[("countersign", false), ("acp", true)]));
    let key = parties.sources.optional(section, "signature_key");
    let encoding =
        section.or("signature_key_encoding", SecretEncoding::Text, choice(&SecretEncoding::CHOICES));
    let given = section.has("signature_key");
    if !acp && (given || section.has("signature_key_encoding")) {
        section.wrong("signature_key", "has no effect unless `signature = \"acp\"`");
    }
    if !acp {
        return Some(OutwardSignature::Countersign);
    }
    section.warn("signature", "\"acp\" signatures bind neither target nor amount: prefer \"countersign\"");
    if !given {
        section
            .wrong("signature_key", "missing: `signature = \"acp\"` needs the key shared with the merchant");
    }
    mac_key(section, "signature_key", &key?, encoding).map(OutwardSignature::Acp)
}

fn deadlines(section: &mut Section<'_>) -> Deadlines {
    let total = section.or("total", Duration::from_secs(30), duration(SECOND, HOUR));
    let connect = section.or("connect", Duration::from_secs(2), duration(MILLISECOND, MINUTE));
    let first_byte = section.or("first_byte", Duration::from_secs(10), duration(MILLISECOND, HOUR));
    for (key, part) in [("connect", connect), ("first_byte", first_byte)] {
        if part > total {
            section.wrong(key, "must not be above `total`");
        }
    }
    Deadlines { connect, first_byte, total }
}

fn breaker(section: &mut Section<'_>) -> BreakerSettings {
    let default = BreakerSettings::default();
    let mut number = |key, default, least, most| section.or(key, default, count(least, most));
    BreakerSettings {
        // Below these one agent, or one bad minute, would stop all others.
        requests: number("requests", default.requests, 20, 10_000),
        agents: number("agents", default.agents, 3, 1_000),
        consecutive: number("consecutive", default.consecutive, 5, 10_000),
        failing_percent: number("failing_percent", default.failing_percent, 51, 100),
        window: section.or("window", default.window, duration(SECOND, HOUR)),
    }
}

fn purchase_orders(section: &mut Section<'_>, parties: &Parties<'_>) -> PurchaseOrders {
    let agents = section.list("agents", |value| parties.agent(value)).unwrap_or_default();
    if section.lacks("agents") {
        section.wrong("agents", "at least one agent is needed");
    }
    let limits = money_by_currency(section, "limits");
    if section.lacks("limits") {
        section.wrong(
            "limits",
            "at least one amount is needed, such as [{ amount = 50000, currency = \"usd\" }]",
        );
    }
    PurchaseOrders::Allowed { agents: agents.into_iter().collect(), limits }
}
