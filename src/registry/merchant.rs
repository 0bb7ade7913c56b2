//! What is configured about a merchant.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::agent::AgentKey;
use crate::crypto::digest::Sha256;
use crate::crypto::mac::MacKey;
use crate::domain::base_url::BaseUrl;
use crate::domain::id::{AgentId, MerchantId};
use crate::domain::money::Money;
use crate::domain::secret::SecretString;

/// How long after `created` our signature expires: the window agents have too.
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);
/// The least that clocks which are a little apart, and a merchant that reads late, can do with.
pub const SHORTEST_SIGNATURE_LIFE: Duration = Duration::from_secs(30);

/// A merchant, as configured.
pub struct Merchant {
    /// Its name, as in `/m/{merchant}/`.
    pub id: MerchantId,
    /// What `allowance.merchant_id` may call it: its own id and, for instance, its account id at
    /// its provider.
    pub allowance_ids: Vec<String>,
    /// Where its requests go.
    pub endpoint: MerchantEndpoint,
    /// Authorities (lower-case, no default port) that reach it without a path prefix.
    pub hosts: Vec<String>,
    /// Whether it takes no new purchases: what was begun there is ended, and nothing else begins.
    pub retired: bool,
    /// Our bearer credential there.
    pub credential: SecretString,
    /// Who may redeem its tokens.
    pub redeemers: Vec<Redeemer>,
    /// The ACP versions it accepts, as their date names.
    pub versions: BTreeSet<String>,
    /// Whether it honours `Idempotency-Key`.
    pub idempotency: MerchantIdempotency,
    /// How requests to it are signed.
    pub signature: OutwardSignature,
    /// How long it is waited for.
    pub deadlines: Deadlines,
    /// When nothing new is begun there.
    pub breaker: BreakerSettings,
    /// A total older than this is fetched again before complete. Default 10 minutes.
    pub total_max_age: Duration,
    /// At a merchant without idempotency: how long after the last attempt an in-doubt claim stays
    /// held although the session shows no order.
    pub doubt_grace: Duration,
    /// An alarm is raised when a claim is pending for longer.
    pub pending_max: Duration,
    /// Completes without a token: purchase orders.
    pub purchase_orders: PurchaseOrders,
    /// Whether a session whose total is zero completes with nothing to pay with.
    pub free_orders: bool,
    /// Agents that may adopt sessions the gateway has not seen created.
    pub adoption: SessionAdoption,
    /// Whether the card of an exposed token goes out again on the next claim.
    pub redeem_every_claim: bool,
    /// Whether a query string is passed on GET.
    pub query_on_get: bool,
    /// Whether it is a test shop, where nothing that is ordered is meant.
    pub is_test: bool,
    /// Requests under way at once; an agent gets at most a quarter.
    pub concurrency: NonZeroU32,
    /// Requests a second, sustained.
    pub requests_per_second: NonZeroU32,
    /// Requests in one burst.
    pub request_burst: NonZeroU32,
}

impl Merchant {
    /// How long a signature for it lives: over by the total deadline before the grace of a claim is, so
    /// that a complete which is read later than that is not believed.
    pub fn signature_life(&self) -> Duration {
        let before_release = self.doubt_grace.saturating_sub(self.deadlines.total);
        before_release.clamp(SHORTEST_SIGNATURE_LIFE, SIGNATURE_LIFE)
    }
}

/// Where a merchant is and how it is connected to.
#[derive(Clone, Debug)]
pub struct MerchantEndpoint {
    /// `http` or `https`, authority and path prefix without a trailing slash: where connections go.
    pub base_url: http::Uri,
    /// Others that lead to the same merchant, in the order in which they are tried where nothing of a
    /// request was sent.
    pub further: Vec<http::Uri>,
    /// The URL the merchant knows itself by; what we sign as `@target-uri`. By default the one that a
    /// request goes to.
    pub public_base_url: Option<http::Uri>,
    /// PEM file of certificate authorities trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether its address may be private, loopback or link-local.
    pub allow_private_addresses: bool,
    /// TLS 1.2 is accepted where the merchant has no 1.3.
    pub allow_tls12: bool,
    /// An idle connection is closed after this long: below the merchant's own limit, so that we
    /// never send on a connection it is closing.
    pub pool_idle: Duration,
}

impl MerchantEndpoint {
    /// Its base URLs, the first first.
    pub fn base_urls(&self) -> impl Iterator<Item = &http::Uri> {
        std::iter::once(&self.base_url).chain(&self.further)
    }

    /// The same as text, as records and metrics have them.
    pub fn base_url_texts(&self) -> impl Iterator<Item = BaseUrl> {
        self.base_urls().map(base_url_text)
    }

    /// The same, where it is at this base URL alone.
    #[must_use]
    pub fn at(&self, url: http::Uri) -> Self {
        Self { base_url: url, further: Vec::new(), ..self.clone() }
    }
}

/// A base URL as text.
pub fn base_url_text(url: &http::Uri) -> BaseUrl {
    // One without a path is written with one.
    BaseUrl::new(url.to_string().trim_end_matches('/'))
}

/// Whether a merchant honours `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MerchantIdempotency {
    /// The same key is charged once: a request may be re-sent with it.
    Keys,
    /// It does not: a complete is never sent twice while the first is in doubt.
    None,
}

/// How requests to a merchant are signed.
#[derive(Clone)]
pub enum OutwardSignature {
    /// RFC 9421, label `countersign`.
    Countersign,
    /// ACP's own header, for a merchant that knows no other: HMAC-SHA256 over
    /// `Timestamp . JCS(body)`, base64url, under a key shared with it.
    Acp(MacKey),
}

/// How long a merchant is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// For a TCP and TLS connection.
    pub connect: Duration,
    /// For the head of the answer, after the request was sent.
    pub first_byte: Duration,
    /// For everything.
    pub total: Duration,
}

/// When a merchant counts as one that cannot be asked for anything new. What of it is one agent's alone
/// never suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// What comes of requests is counted for so long, from a first failure on. Default 30 s: of a
    /// merchant with a request a second enough to judge by.
    pub window: Duration,
    /// Of fewer requests nothing is judged. Default 20.
    pub requests: u32,
    /// Nor of those of fewer agents, or of all that may use the merchant where they are fewer. Default 3.
    pub agents: u32,
    /// So many in a row that reach nobody, or are not answered in time. Default 10: more than a
    /// restart behind a balancer costs.
    pub consecutive: u32,
    /// Or of a hundred, so many that fail. Default 70: two halves, one agent's that all fail and the others'
    /// of which less than two in five do, are not enough.
    pub failing_percent: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        let window = Duration::from_secs(30);
        Self { window, requests: 20, agents: 3, consecutive: 10, failing_percent: 70 }
    }
}

/// Who may redeem a merchant's tokens: the merchant itself or its payment provider.
pub struct Redeemer {
    /// For logs: who this is.
    pub name: String,
    /// SHA-256 digests of bearer credentials. Every redeemer has one, whatever its proof.
    pub credentials: Vec<Sha256>,
    /// What proves it beyond the bearer.
    pub proof: RedeemerProof,
}

/// What proves a redeemer beyond its bearer credential. A bearer alone, from anywhere, cannot be
/// configured.
pub enum RedeemerProof {
    /// It signs (`rfc9421`) with one of these keys.
    Keys(Vec<AgentKey>),
    /// It calls from one of these networks.
    Networks(Vec<IpNet>),
    /// Its TLS client certificate has one of these SHA-256 fingerprints.
    Certificates(Vec<Sha256>),
}

/// Whether a complete with a purchase order and no token may pass.
#[derive(Clone, Debug)]
pub enum PurchaseOrders {
    /// Refused: no allowance exists for it.
    Refused,
    /// Allowed for these agents up to these amounts, one a currency.
    Allowed {
        /// Which agents.
        agents: BTreeSet<AgentId>,
        /// At most how much, in minor units.
        limits: Vec<Money>,
    },
}

/// Which agents may adopt a session that was not created through the gateway.
pub type SessionAdoption = BTreeSet<AgentId>;
