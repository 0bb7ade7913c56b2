//! Serving one call, from its head to the business it is about.
//!
//! Takes it in, believes it or not, misbehaves if told to, honours idempotency keys, and hands it to the
//! business it is about.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use tokio::sync::watch;

use super::behaviour::{Behaviour, CallKind};
use super::book::{Begun, RecordedCall};
use super::desk::{Call, Came, Desk};
use super::reply::{Delivery, Reply};
use super::request;
use super::trust::Distrust;
use crate::acp::canonical::exact_form;
use crate::acp::header::{API_VERSION, IDEMPOTENCY_KEY, REQUEST_ID};
use crate::acp::version::Version;
use crate::crypto::digest::sha256;

/// What becomes of a call.
pub(super) enum Served {
    Answer(Reply, Delivery),
    /// The connection breaks.
    Broken,
}

impl Desk {
    /// Serves one call.
    pub(super) async fn serve(self: Arc<Self>, head: Parts, body: Bytes) -> Served {
        // Subscribed before anybody can know of the call: a release that follows is not missed.
        let mut released = self.releases.subscribe();
        let gateway = self.gateway.lock().clone();
        let (kind, id) = request::route(&head.method, head.uri.path());
        let id = id.map(str::to_owned);
        let trusted = self.trust.verify(&head, &body, gateway.as_ref(), self.clock.now()).await;
        let behaviour = self.record(kind, &head, &body, trusted.as_ref().err().copied());
        let context = match trusted {
            Ok(context) => context,
            Err(distrust) => return whole(Reply::error(401, "unauthorized", &distrust.to_string())),
        };
        match &behaviour {
            Behaviour::ResetBefore => return Served::Broken,
            Behaviour::Instead(canned) => return whole(Reply::from(canned)),
            _ => {}
        }
        let version = head.headers.get(API_VERSION).and_then(|text| Version::parse(text.to_str().ok()?));
        let Some(version) = version else {
            return whole(Reply::unknown_version());
        };
        let json = serde_json::from_slice(&body).unwrap_or_default();
        let call = Call { kind, head, json, version, context, behaviour };
        let reply = self.bracket(&call, id.as_deref(), &body, &mut released).await;
        match &call.behaviour {
            Behaviour::ResetAfter => Served::Broken,
            Behaviour::HoldAfter => {
                held(&mut released).await;
                whole(reply)
            }
            Behaviour::After(canned) => whole(Reply::from(canned)),
            Behaviour::Changed(change) => {
                let (reply, delivery) = reply.changed(change);
                Served::Answer(reply, delivery)
            }
            _ => whole(echoed(reply, &call)),
        }
    }

    fn record(&self, kind: CallKind, head: &Parts, body: &Bytes, distrust: Option<Distrust>) -> Behaviour {
        let key = head.headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok());
        let call = RecordedCall {
            kind,
            method: head.method.clone(),
            path: head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            idempotency_key: key.map(str::to_owned),
            headers: head.headers.clone(),
            body: body.clone(),
            distrust,
            connection: head.extensions.get().map_or(0, |Came(connection)| *connection),
        };
        let mut book = self.book.lock();
        book.record(call);
        let behaviour = if distrust.is_none() { book.orders.take(kind) } else { Behaviour::Good };
        drop(book);
        self.arrivals.send_replace(());
        behaviour
    }

    /// The idempotency key's bracket around the work: one answer for a key and body, whatever comes.
    async fn bracket(
        self: &Arc<Self>,
        call: &Call,
        id: Option<&str>,
        body: &[u8],
        released: &mut watch::Receiver<()>,
    ) -> Reply {
        let key = call.key().filter(|_| self.idempotency && call.head.method != http::Method::GET);
        let Some(key) = key else { return self.work(call, id, released).await };
        let key = format!("{} {} {key}", call.head.method, call.head.uri.path());
        let digest = fingerprint(body);
        let begun = self.book.lock().begin(&key, digest, self.late_keys);
        match begun {
            Begun::Fresh => {
                let reply = self.work(call, id, released).await;
                self.book.lock().finish(&key, digest, &reply);
                reply
            }
            Begun::Replay(reply) => reply.with_header("idempotent-replayed", "true"),
            Begun::UnderWay => {
                let reply =
                    Reply::error(409, "idempotency_in_flight", "The same request is being processed.");
                reply.with_header("retry-after", "1")
            }
            Begun::Conflict => {
                Reply::error(422, "idempotency_conflict", "This key was used for another body.")
            }
        }
    }

    async fn work(
        self: &Arc<Self>,
        call: &Call,
        id: Option<&str>,
        released: &mut watch::Receiver<()>,
    ) -> Reply {
        match &call.behaviour {
            Behaviour::Delay(time) => tokio::time::sleep(*time).await,
            Behaviour::HoldBefore => held(released).await,
            _ => {}
        }
        let id = id.unwrap_or_default();
        match call.kind {
            CallKind::Create => self.create(call),
            CallKind::Read => self.read(id, call),
            CallKind::Update => self.update(id, call),
            CallKind::Complete => self.complete(id, call).await,
            CallKind::Cancel => self.cancel(id, call),
            CallKind::CartCreate => self.create_cart(call),
            CallKind::CartRead => self.read_cart(id, call),
            CallKind::CartUpdate => self.update_cart(id, call),
            CallKind::CartCancel => self.cancel_cart(id, call),
            CallKind::Other => Reply::not_found(),
        }
    }
}

const fn whole(reply: Reply) -> Served {
    Served::Answer(reply, Delivery::Whole)
}

/// Waits until held calls may go on; for ever when the shop closes first.
async fn held(released: &mut watch::Receiver<()>) {
    if released.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What ACP wants repeated in answers.
fn echoed(mut reply: Reply, call: &Call) -> Reply {
    for name in [REQUEST_ID, IDEMPOTENCY_KEY] {
        if let Some(value) = call.head.headers.get(&name).and_then(|value| value.to_str().ok()) {
            reply = reply.with_header(name.as_str(), value);
        }
    }
    reply
}

/// Equal for bodies that mean the same (rfc.agentic_checkout §6.2).
fn fingerprint(body: &[u8]) -> [u8; 32] {
    let mut exact = Vec::new();
    match exact_form(body, &mut exact) {
        Ok(()) => sha256(&[&exact]),
        Err(_) => sha256(&[body]),
    }
}
