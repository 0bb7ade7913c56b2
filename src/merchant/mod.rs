//! Towards merchants: requests countersigned, answers bounded, read and cleaned.
//!
//! One pooled client each, requests countersigned, answers bounded, read by the outcome table and cleaned
//! before an agent sees them.

mod address;
pub mod answer;
mod body;
mod client;
mod countersign;
mod connect;
mod reflected_credential;
mod envelope;
mod exchange;
mod failure;
mod forward;
mod frames;
mod gate;
pub mod grant;
mod handshake;
mod http2;
mod invalid;
mod response_headers;
mod names;
mod outbound;
mod outcome;
mod pool;
mod resolve;
mod scrub;
mod tls;
mod urls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use address::is_public;
pub use answer::{NotPassed, Passed, relay};
pub use countersign::{Countersigner, LABEL};
pub use exchange::{Answer, Exchange, Lost, NotSent, Stage};
pub use failure::UpstreamFailure;
pub use forward::DestinationError;
pub use handshake::TlsFailure;
pub use invalid::InvalidAnswer;
pub use outbound::{CompleteContext, Context, ForwardedHeaders, Outbound, ProofKind, resource};
pub use outcome::{
    CompleteReading, Outcome, SessionReading, fruitless, is_in_flight, is_not_the_merchants, names_decline,
    read_complete, read_session, session_view, told_code,
};
pub use resolve::LookUp;
pub use tls::TlsSetupError;

use bytes::Bytes;
use forward::Destination;
use http::Request;
use rustls::ClientConfig;
use urls::Urls;

use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Deadline;
use crate::domain::id::MerchantId;
use crate::registry::{Merchant, Registry};

/// What is the same for every merchant.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The largest answer, in bytes, as sent and decoded alike. Default 1 MiB: the largest session
    /// of the official examples is below 40 kB.
    pub max_answer_bytes: usize,
    /// Idle connections kept a merchant. Default 64: as many as one merchant's usual concurrency.
    pub pool_max_idle: usize,
    /// How old a connection may be before no other request goes over it. Default 5 minutes: so long at most
    /// a merchant whose name leads elsewhere is asked where it was.
    pub pool_max_age: Duration,
    /// HTTP/2: a ping is sent on a connection in use after this long without a frame, and the
    /// connection is given up when it is not answered in time. Default 20 s: below the usual total
    /// deadline, so that one dead connection does not fail request after request.
    pub http2_ping: Duration,
    /// How merchants' names are looked up. Default: as the system does.
    pub look_up: LookUp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_answer_bytes: 1 << 20,
            pool_max_idle: 64,
            pool_max_age: Duration::from_secs(5 * 60),
            http2_ping: Duration::from_secs(20),
            look_up: LookUp::default(),
        }
    }
}

/// The merchants of one configuration, each with connections of its own to each of its base URLs: one that
/// is slow or dead costs the others nothing.
pub struct Merchants {
    countersigner: Arc<Countersigner>,
    urls: HashMap<MerchantId, Urls>,
}

/// A merchant's entry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("merchant {merchant}: {reason}")]
pub struct SetupError {
    /// Which merchant.
    pub merchant: MerchantId,
    /// What about it.
    pub reason: SetupReason,
}

/// What about a merchant's entry cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupReason {
    /// Its URLs or credential.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

impl Merchants {
    /// Whether an entry can be used: what [`Self::new`] would refuse.
    ///
    /// # Errors
    /// What about it cannot.
    pub fn try_out(merchant: &Merchant) -> Result<(), SetupReason> {
        for url in merchant.endpoint.base_urls() {
            Destination::new(merchant, url)?;
        }
        tls::client_config(&merchant.endpoint)?;
        Ok(())
    }

    /// Makes a pool a base URL. Reads the certificate files their entries name; connects nowhere. The
    /// connections of those `before` are kept where what they were made from is the same, files' contents
    /// included.
    ///
    /// # Errors
    /// Every entry that cannot be used.
    pub fn new(
        registry: &Registry,
        countersigner: Arc<Countersigner>,
        settings: &Settings,
        before: Option<&Self>,
    ) -> Result<Self, Vec<SetupError>> {
        let mut urls = HashMap::new();
        let mut errors = Vec::new();
        for merchant in registry.merchants() {
            let known = before.and_then(|before| before.urls.get(&merchant.id));
            match Urls::new(merchant, settings, known) {
                Ok(all) => {
                    urls.insert(merchant.id.clone(), all);
                }
                Err(reason) => errors.push(SetupError { merchant: merchant.id.clone(), reason }),
            }
        }
        if errors.is_empty() { Ok(Self { countersigner, urls }) } else { Err(errors) }
    }

    /// A merchant's base URLs, the first first.
    pub fn urls_of(&self, merchant: &MerchantId) -> &[BaseUrl] {
        self.urls.get(merchant).map_or(&[], Urls::configured)
    }

    /// Whether a connection to a merchant can be made there, on which nothing is sent.
    pub async fn reach(&self, merchant: &MerchantId, url: &BaseUrl) -> bool {
        match self.urls.get(merchant).and_then(|urls| urls.pool(url)) {
            Some(pool) => pool.client.reach().await,
            None => false,
        }
    }

    /// Countersigns and sends one request: at most once, within `deadline` and the merchant's own,
    /// following no redirect. To its first base URL.
    pub async fn send(&self, merchant: &Merchant, outbound: Outbound, deadline: Deadline) -> Exchange {
        let Some(first) = self.urls_of(&merchant.id).first() else {
            return Exchange::NotSent(NotSent::NotBuilt);
        };
        self.send_if(merchant, first, outbound, deadline, &|| true).await
    }

    /// As [`Self::send`], to this base URL, which may be one that the merchant had; if it still `may_leave` once there is a connection for it: asked for each that it
    /// is tried on, just before it is handed over. Otherwise it is [`NotSent::Withheld`].
    pub async fn send_if(
        &self,
        merchant: &Merchant,
        url: &BaseUrl,
        outbound: Outbound,
        deadline: Deadline,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Exchange {
        let pool = self.urls.get(&merchant.id).and_then(|urls| urls.pool_of(merchant, url));
        let Some(pool) = pool else { return Exchange::NotSent(NotSent::NotBuilt) };
        let path = Arc::clone(&outbound.path);
        match pool.destination.write(&self.countersigner, outbound) {
            Ok(request) => {
                // A box of its own keeps it out of the future of whoever sends.
                let resource = outbound::resource(&path);
                let exchange = Box::pin(pool.client.exchange(request, resource, deadline, may_leave)).await;
                reflected_credential::without_credential(exchange, &merchant.credential)
            }
            Err(reason) => Exchange::NotSent(reason),
        }
    }
}

/// A request as it goes out, signed: for who looks at what becomes of one that is changed. The gateway sends
/// none but by [`Merchants::send`].
///
/// # Errors
/// [`NotSent::NotBuilt`].
pub fn written(
    merchant: &Merchant,
    countersigner: &Countersigner,
    outbound: Outbound,
) -> Result<Request<Bytes>, NotSent> {
    let destination =
        Destination::new(merchant, &merchant.endpoint.base_url).map_err(|_| NotSent::NotBuilt)?;
    destination.write(countersigner, outbound)
}

/// TLS as a merchant is met with.
///
/// # Errors
/// [`TlsSetupError`].
pub fn tls_towards(merchant: &Merchant) -> Result<ClientConfig, TlsSetupError> {
    tls::client_config(&merchant.endpoint)
}

#[cfg(test)]
mod tests;
