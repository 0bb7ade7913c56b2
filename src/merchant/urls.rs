//! A merchant's base URLs, a pool each, and those that it had while claims are there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::client::MerchantClient;
use super::connect::Connector;
use super::forward::Destination;
use super::{Settings, SetupReason, tls};
use crate::crypto::digest::{Sha256, sha256};
use crate::domain::base_url::BaseUrl;
use crate::registry::{Merchant, MerchantEndpoint, base_url_text};

/// How long a former base URL's connections are kept that nobody uses: longer than claims there are left
/// unread.
const FORMER_KEPT: Duration = Duration::from_secs(600);
/// Former ones at once: more than a merchant moves while its claims are open.
const MOST_FORMER: usize = 16;

/// A merchant's base URLs.
pub(super) struct Urls {
    all: Vec<BaseUrl>,
    /// As many.
    pools: Vec<Arc<Pool>>,
    /// Those it had, as they are asked for.
    former: Mutex<Vec<Former>>,
    settings: Settings,
}

struct Former {
    pool: Arc<Pool>,
    used: Instant,
}

/// The way to one base URL.
pub(super) struct Pool {
    url: BaseUrl,
    pub destination: Destination,
    pub client: Arc<MerchantClient>,
    /// None of a former one.
    made_from: Option<Sha256>,
}

impl Urls {
    /// Makes a pool each; the connections `before` are kept where what they were made from is the same.
    ///
    /// # Errors
    /// What about the merchant's entry cannot be used.
    pub(super) fn new(
        merchant: &Merchant,
        settings: &Settings,
        before: Option<&Self>,
    ) -> Result<Self, SetupReason> {
        let known = before.map_or(&[][..], |before| &before.pools);
        let mut pools: Vec<Arc<Pool>> = Vec::new();
        for url in merchant.endpoint.base_urls() {
            let made_from = made_from(merchant, url, settings);
            let same = known.iter().find(|before| before.made_from == Some(made_from));
            let client = same.map(|same| Arc::clone(&same.client));
            pools.push(Arc::new(Pool::new(merchant, url, settings, client, Some(made_from))?));
        }
        let all = pools.iter().map(|pool| pool.url.clone()).collect();
        Ok(Self { all, pools, former: Mutex::default(), settings: settings.clone() })
    }

    /// All that are configured.
    pub(super) fn configured(&self) -> &[BaseUrl] {
        &self.all
    }

    /// The way to one that is configured.
    pub(super) fn pool(&self, url: &BaseUrl) -> Option<Arc<Pool>> {
        self.pools.iter().find(|pool| pool.url == *url).map(Arc::clone)
    }

    /// The same, also to one that was: with the credential and the certificates of now.
    pub(super) fn pool_of(&self, merchant: &Merchant, url: &BaseUrl) -> Option<Arc<Pool>> {
        if let Some(pool) = self.pool(url) {
            return Some(pool);
        }
        if let Some(known) = self.known_former(url) {
            return Some(known);
        }
        let uri: Uri = url.as_str().parse().ok()?;
        // With what the present ones are connected with: no file is read for it, but for another scheme.
        let like = self.pools.iter().find(|pool| Some(&pool.destination.scheme) == uri.scheme());
        let client = like.map(|like| {
            let connector = like.client.connector().clone();
            Arc::new(client(connector, &merchant.endpoint.at(uri.clone()), merchant, &self.settings))
        });
        let pool = Arc::new(Pool::new(merchant, &uri, &self.settings, client, None).ok()?);
        // Behind the lock again: whoever else made one meanwhile has connections on it.
        if let Some(known) = self.known_former(url) {
            return Some(known);
        }
        let former = &mut *self.former.lock();
        if former.len() >= MOST_FORMER
            && let Some(oldest) = former.iter().enumerate().min_by_key(|(_, former)| former.used)
        {
            let (oldest, _) = oldest;
            former.remove(oldest);
        }
        former.push(Former { pool: Arc::clone(&pool), used: Instant::now() });
        Some(pool)
    }

    fn known_former(&self, url: &BaseUrl) -> Option<Arc<Pool>> {
        let former = &mut *self.former.lock();
        former.retain(|former| former.used.elapsed() < FORMER_KEPT);
        let known = former.iter_mut().find(|former| former.pool.url == *url)?;
        known.used = Instant::now();
        Some(Arc::clone(&known.pool))
    }
}

impl Pool {
    fn new(
        merchant: &Merchant,
        base_url: &Uri,
        settings: &Settings,
        known: Option<Arc<MerchantClient>>,
        made_from: Option<Sha256>,
    ) -> Result<Self, SetupReason> {
        let destination = Destination::new(merchant, base_url)?;
        let url = base_url_text(base_url);
        let client = match known {
            Some(known) => known,
            None => {
                let endpoint = &merchant.endpoint.at(base_url.clone());
                let config = tls::client_config(endpoint)?;
                let (allow_private, within) = (endpoint.allow_private_addresses, merchant.deadlines.connect);
                let connector = Connector::new(config, allow_private, within, settings.look_up.clone());
                Arc::new(client(connector, endpoint, merchant, settings))
            }
        };
        Ok(Self { url, destination, client, made_from })
    }
}

fn client(
    connector: Connector,
    endpoint: &MerchantEndpoint,
    merchant: &Merchant,
    settings: &Settings,
) -> MerchantClient {
    MerchantClient::new(connector, endpoint, merchant.deadlines, merchant.idempotency, settings)
}

/// A digest of all that a merchant's connections to a base URL are made from.
fn made_from(merchant: &Merchant, url: &Uri, settings: &Settings) -> Sha256 {
    let endpoint = &merchant.endpoint.at(url.clone());
    let (certificate, key) =
        endpoint.client_certificate.as_ref().map_or((None, None), |(one, other)| (Some(one), Some(other)));
    // What cannot be read is told where it is to be used.
    let read = |path: Option<&PathBuf>| path.and_then(|path| std::fs::read(path).ok()).map(Zeroizing::new);
    let files = [endpoint.ca_file.as_ref(), certificate, key].map(read);
    let digests = files.map(|file| file.map(|bytes| sha256(&[&bytes])));
    let told =
        format!("{endpoint:?} {:?} {:?} {settings:?} {digests:?}", merchant.deadlines, merchant.idempotency);
    sha256(&[told.as_bytes()])
}
