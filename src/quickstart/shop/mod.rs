//! A sample merchant: a small ACP shop that believes nobody but the gateway.
//!
//! A small ACP shop with stock, tax and shipping that believes nobody but the gateway, redeems the card
//! before it decides, and keeps a ledger. The tests use it as the far side of the gateway: what it
//! received can be asked for, and it misbehaves on request.
//!
//! `desk` takes calls in; `checkout` and `cart` do the business; `trust` verifies.

mod basket;
mod behaviour;
mod book;
mod cart;
mod catalogue;
mod checkout;
mod context;
mod desk;
mod gateway;
mod issuer;
mod listener;
mod reply;
mod request;
mod serve;
mod session;
mod trust;
mod view;

#[cfg(test)]
mod official;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::certificates::{CertificateError, Certificates};
use super::client::{Answer, ClientError};
use crate::crypto::digest::sha256;
use crate::domain::clock::Clock;
use crate::domain::secret::SecretString;

pub use behaviour::{Behaviour, CallKind, Canned, Change};
pub use book::{Charge, RecordedCall};
pub use catalogue::{Catalogue, Item, Shipping};
pub use context::Context;
pub use gateway::{NotRedeemed, Redeem};
pub use issuer::{DECLINED_CARD, GOOD_CARD, HESITANT_CARD, SECURE_CARD};
pub use trust::Distrust;
pub use view::HANDLER;

use book::Book;
use desk::Desk;
use gateway::GatewayLink;
use trust::Trust;

/// How a shop is set up.
#[derive(Clone)]
pub struct ShopSettings {
    /// Its id at the gateway: the audience of countersignatures and grants.
    pub merchant: String,
    /// The certificate it serves, and the authority it trusts.
    pub certificates: Certificates,
    /// The bearer credential the gateway presents.
    pub credential: Arc<SecretString>,
    /// The bearer credential it redeems with.
    pub redeemer_credential: Arc<SecretString>,
    /// What signatures are judged by.
    pub clock: Arc<dyn Clock>,
    /// What it sells.
    pub catalogue: Catalogue,
    /// Whether a countersignature is asked for; otherwise the bearer credential is enough.
    pub countersigned: bool,
    /// Whether `Idempotency-Key` is honoured.
    pub idempotency: bool,
    /// Whether a key is taken note of only when it is answered, as a first version of a shop does it: a
    /// repeat that comes before the answer is done again.
    pub late_keys: bool,
    /// Whether a completed session is completed, and charged, again when asked.
    pub careless: bool,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub http2: bool,
    /// How many requests an HTTP/2 connection takes at once; `None` leaves it to the library.
    pub http2_streams: Option<u32>,
}

impl ShopSettings {
    /// A shop as it should be.
    pub fn new(
        merchant: &str,
        certificates: Certificates,
        credential: Arc<SecretString>,
        redeemer_credential: Arc<SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            merchant: merchant.to_owned(),
            certificates,
            credential,
            redeemer_credential,
            clock,
            catalogue: Catalogue::default(),
            countersigned: true,
            idempotency: true,
            late_keys: false,
            careless: false,
            http2: true,
            http2_streams: None,
        }
    }
}

/// A shop that serves until it is dropped.
pub struct Shop {
    desk: Arc<Desk>,
    address: SocketAddr,
    certificates: Certificates,
    redeemer_credential: Arc<SecretString>,
    _closed: DropGuard,
}

/// A shop cannot open.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// No socket.
    #[error("the shop cannot listen: {0}")]
    NotListening(#[from] std::io::Error),
    /// Its certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
}

impl Shop {
    /// Opens a shop on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// [`ShopError`].
    pub async fn start(settings: ShopSettings) -> Result<Self, ShopError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let protocols: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let tls = Arc::new(settings.certificates.server(protocols)?);
        let desk = Arc::new(Desk {
            trust: Trust {
                merchant: settings.merchant,
                credential: sha256(&[settings.credential.expose().as_bytes()]),
                authority: address.to_string(),
                countersigned: settings.countersigned,
                keys: Mutex::new(HashMap::new()),
            },
            clock: settings.clock,
            idempotency: settings.idempotency,
            late_keys: settings.late_keys,
            careless: settings.careless,
            book: Mutex::new(Book::new(settings.catalogue)),
            gateway: Mutex::new(None),
            arrivals: watch::Sender::new(()),
            releases: watch::Sender::new(()),
            base_url: format!("https://{address}"),
            connections: Mutex::default(),
        });
        let closed = CancellationToken::new();
        let door = listener::Door { tls, http2_streams: settings.http2_streams };
        tokio::spawn(listener::listen(listener, door, Arc::clone(&desk), closed.clone()));
        Ok(Self {
            desk,
            address,
            certificates: settings.certificates,
            redeemer_credential: settings.redeemer_credential,
            _closed: closed.drop_guard(),
        })
    }

    /// Says where the gateway is: whose keys to trust and where to redeem. `authority` is its name,
    /// which is dialled at `address`.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn connect(&self, address: SocketAddr, authority: &str) -> Result<(), CertificateError> {
        self.connect_with(address, authority, self.certificates.client()?);
        Ok(())
    }

    /// As [`Self::connect`], by TLS of its own, such as one with a client certificate.
    pub fn connect_with(&self, address: SocketAddr, authority: &str, tls: ClientConfig) {
        let credential = Arc::clone(&self.redeemer_credential);
        let link = GatewayLink::new(address, authority.to_owned(), tls, credential);
        *self.desk.gateway.lock() = Some(link);
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https` and its authority: the merchant's `base_url`.
    pub fn base_url(&self) -> &str {
        &self.desk.base_url
    }

    /// Behaves like this on every call of that kind from now on.
    pub fn behave(&self, kind: CallKind, behaviour: Behaviour) {
        self.desk.book.lock().orders.always(kind, behaviour);
    }

    /// Behaves like this on the next call of that kind that nothing else was said about.
    pub fn behave_once(&self, kind: CallKind, behaviour: Behaviour) {
        self.desk.book.lock().orders.once(kind, behaviour);
    }

    /// Behaves well again.
    pub fn behave_well(&self) {
        self.desk.book.lock().orders.forget();
    }

    /// Lets every call go on that is held now.
    pub fn release(&self) {
        self.desk.releases.send_replace(());
    }

    /// Approves a session that is pending; whether it became an order.
    pub async fn approve(&self, session: &str) -> bool {
        self.desk.decide(session, true).await
    }

    /// Turns down a session that is pending.
    pub async fn refuse(&self, session: &str) {
        self.desk.decide(session, false).await;
    }

    /// The ledger.
    pub fn charges(&self) -> Vec<Charge> {
        self.desk.book.lock().charges.clone()
    }

    /// Redeems that gave a card, in order.
    pub fn redeemed(&self) -> Vec<Redeem> {
        self.desk.book.lock().redeemed.clone()
    }

    /// Redeems that gave no card.
    pub fn not_redeemed(&self) -> Vec<NotRedeemed> {
        self.desk.book.lock().not_redeemed.clone()
    }

    /// Every call received, in order.
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.desk.book.lock().calls().cloned().collect()
    }

    /// Whether a connection ([`RecordedCall::connection`]) is still open.
    pub fn is_connected(&self, connection: u64) -> bool {
        self.desk.connections.lock().contains(&connection)
    }

    /// The calls of one kind, in order.
    pub fn calls_of(&self, kind: CallKind) -> Vec<RecordedCall> {
        self.desk.book.lock().calls().filter(|call| call.kind == kind).cloned().collect()
    }

    /// Waits until this many calls of a kind were received since the shop opened.
    pub async fn received(&self, kind: CallKind, count: usize) {
        let mut arrivals = self.desk.arrivals.subscribe();
        loop {
            let received = self.desk.book.lock().calls().filter(|call| call.kind == kind).count();
            if received >= count || arrivals.changed().await.is_err() {
                return;
            }
        }
    }

    /// Redeems as the shop would, whatever it is asked; `None` before [`Shop::connect`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redeem(&self, redeem: &Redeem) -> Option<Result<Answer, ClientError>> {
        let gateway = self.desk.gateway.lock().clone()?;
        Some(gateway.redeem(redeem).await)
    }

    /// Makes an item cost more or less, in sessions created or changed from now on.
    pub fn set_price(&self, item: &str, price: u64) {
        if let Some(item) = self.desk.book.lock().catalogue.items.get_mut(item) {
            item.price = price;
        }
    }
}
