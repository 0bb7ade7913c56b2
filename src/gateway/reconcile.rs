//! The background worker: reads the sessions of claims nobody is waiting for.
//!
//! Sweeps what has expired, and takes the scan's steps. Of several replicas one does, by a lease in the
//! store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::admit::drawn_request_id;
use super::evidence::Evidence;
use super::parts::{Books, Desk, Identities};
use super::session_reads::{Doubtful, Pace, Turn};
use super::store_scan::StoreScanner;
use super::upstreams::Upstreams;
use crate::auth::signature::VerifiedBody;
use crate::crypto::random;
use crate::domain::clock::{Deadline, Timestamp};
use crate::domain::id::MerchantId;
use crate::domain::session::Session;
use crate::merchant::{Context, ForwardedHeaders, Outbound, ProofKind};
use crate::records::worker::WorkerLease;
use crate::records::{Kind, StoreError};
use crate::registry::Merchant;
use crate::telemetry::log::{Level, Value};
use crate::token::Vault;

/// How often due claims are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Claims looked at a tick.
const CLAIMS_A_TICK: usize = 64;
/// Reads under way at one merchant: all that one which does not answer can hold.
const READS_A_MERCHANT: usize = 32;
/// How often a replica that does no work looks which epoch keys are gone.
const LOOK_AT_KEYS_EVERY: Duration = Duration::from_secs(60);
/// Expired records asked to be deleted at once.
const SWEPT_AT_ONCE: usize = 2_000;
/// Of each tick, how long may go into deleting while there is more: a busy gateway leaves thousands of
/// signatures a second to be forgotten.
const SWEEPING: Duration = Duration::from_millis(250);

/// The background worker.
pub(super) struct Worker {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub upstreams: Arc<Upstreams>,
    pub evidence: Arc<Evidence>,
    pub scanner: StoreScanner,
    pub vault: Arc<Vault>,
    pub desk: Arc<Desk>,
}

/// Works until shutdown begins, while it is this replica's turn: each time with the worker of the
/// configuration that runs then, which `current` tells.
pub(super) async fn work(current: impl Fn() -> Arc<Worker> + Sync) {
    let (turn, ours) = watch::channel(false);
    // Apart, so that a merchant that does not answer delays no housekeeping.
    tokio::join!(
        hold_worker_lease(&current, turn),
        reconcile(&current, ours.clone()),
        do_housekeeping(&current, ours)
    );
}

/// Finds out whose turn it is. Also a replica that only waits forgets keys that another has destroyed.
async fn hold_worker_lease(current: &(impl Fn() -> Arc<Worker> + Sync), turn: watch::Sender<bool>) {
    let Ok(number) = random::bytes() else { return };
    // Not the worker itself, which ends with its configuration.
    let (books, desk) = current().lasting();
    let lease = WorkerLease::new(Arc::clone(books.ledger.store()), u64::from_be_bytes(number));
    let mut tick = tokio::time::interval(TICK);
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = desk.drain.begun() => return,
        }
        let worker = current();
        worker.tell_of_clocks();
        worker.vault.perishable_keys().prepare();
        let kept = books.kept.in_all(desk.clock.earliest()).await;
        desk.observer.metrics().set_kept_bytes(kept);
        let is_ours = lease.hold(desk.clock.steady()).await.unwrap_or(false);
        if turn.send_replace(is_ours) && !is_ours {
            worker.scanner.forget_counts();
        }
        if !is_ours && looked.elapsed() >= LOOK_AT_KEYS_EVERY {
            looked = Instant::now();
            worker.vault.perishable_keys().refresh();
        }
    }
}

async fn reconcile(current: &(impl Fn() -> Arc<Worker> + Sync), ours: watch::Receiver<bool>) {
    // Not the worker itself, which ends with its configuration.
    let (books, desk) = current().lasting();
    let mut tick = tokio::time::interval(TICK);
    let mut reads = JoinSet::new();
    let mut readers: HashMap<MerchantId, Arc<Semaphore>> = HashMap::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // Reads under way are given up with `reads`: their claims stay open and due.
            () = desk.drain.begun() => return,
        }
        while reads.try_join_next().is_some() {}
        if !*ours.borrow() {
            continue;
        }
        let worker = current();
        // A store that cannot answer now is asked again at the next tick; health says so.
        let due = books.ledger.store().due(desk.clock.steady(), CLAIMS_A_TICK).await.unwrap_or_default();
        for (_, key) in due.into_iter().filter(|(_, key)| key.kind == Kind::Session) {
            // First of all it is due again later, so that claims nobody can look at, of a merchant
            // that is gone or does not answer, never stand in front of the others.
            let Ok(Some(session)) = books.ledger.postpone(key).await else { continue };
            let Some(merchant) = worker.identities.registry.merchant(&session.merchant).map(Arc::clone)
            else {
                continue;
            };
            let reader = readers
                .entry(merchant.id.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(READS_A_MERCHANT)));
            let Ok(permit) = Arc::clone(reader).try_acquire_owned() else { continue };
            let worker = Arc::clone(&worker);
            reads.spawn(async move {
                let _permit = permit;
                worker.check_claim(&merchant, &session).await
            });
        }
    }
}

async fn do_housekeeping(current: &(impl Fn() -> Arc<Worker> + Sync), ours: watch::Receiver<bool>) {
    let desk = Arc::clone(&current().desk);
    let mut tick = tokio::time::interval(TICK);
    let mut scan = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = desk.drain.begun() => return,
        }
        if !*ours.borrow() {
            scan = None;
            continue;
        }
        let worker = current();
        worker.sweep(desk.clock.earliest()).await;
        let _ = worker.scanner.scan(&mut scan, desk.clock.steady()).await;
    }
}

impl Worker {
    /// What is the same whatever configuration runs.
    fn lasting(&self) -> (Arc<Books>, Arc<Desk>) {
        (Arc::clone(&self.books), Arc::clone(&self.desk))
    }

    /// Tells of every clock that was set.
    fn tell_of_clocks(&self) {
        for moved in self.desk.clock.moved() {
            let members = [
                ("whose", Value::Text(moved.whose.as_str())),
                ("direction", Value::Text(if moved.by < 0 { "back" } else { "forward" })),
                ("by", Value::Duration(Duration::from_millis(moved.by.unsigned_abs()))),
            ];
            self.desk.observer.log().event(Level::Error, "clock_set", &members);
        }
    }

    /// Deletes what has expired, for as long as a tick has for it.
    async fn sweep(&self, now: Timestamp) {
        let end = Deadline::after(SWEEPING);
        // What is left, or could not be deleted now, is there at the next tick.
        while let Ok(SWEPT_AT_ONCE) = self.books.ledger.store().sweep(now, SWEPT_AT_ONCE).await
            && !end.has_passed()
            && !self.desk.drain.is_draining()
        {}
    }

    /// Reads the session of an open claim and applies what it proves; unless an agent's repeat is at it,
    /// or was a moment ago, which applies it as well.
    async fn check_claim(&self, merchant: &Arc<Merchant>, session: &Session) -> Result<(), StoreError> {
        let Some(claim) = &session.claim else { return Ok(()) };
        let mut record_set = self.books.ledger.record_set(session.kind, &session.merchant, &session.id);
        let doubtful = Doubtful::of(session, &claim.id, merchant, self.books.ledger.moment());
        let reads = &self.upstreams.reads;
        let turn = reads.turn(record_set.session_key(), Some(&doubtful), self.desk.clock.steady());
        let Turn::Ours(reader) = turn else { return Ok(()) };
        let outbound = self.own_read(session, self.desk.clock.now());
        let read = Arc::new(self.upstreams.read_alone(merchant, &doubtful.way, outbound, &session.id).await);
        let Some(observation) = read.observation() else {
            reader.done(&read, Pace::Kept);
            return self.evidence.of_nothing(&claim.id, &read.exchange, &merchant.id, &session.id).await;
        };
        if let Some(token) = claim.token.as_ref() {
            record_set = record_set.with_token(token);
        }
        let settled = self.evidence.of_check(&record_set, &observation, merchant, &session.id).await;
        reader.done(&read, if matches!(settled, Ok(true)) { Pace::Ended } else { Pace::Kept });
        settled.map(|_| ())
    }

    /// A read on our own behalf: the owner named, nothing of any request of its.
    fn own_read(&self, session: &Session, now: Timestamp) -> Outbound {
        let version = self
            .identities
            .registry
            .merchant(&session.merchant)
            .and_then(|merchant| merchant.versions.last().cloned());
        Outbound {
            method: http::Method::GET,
            path: format!("/checkout_sessions/{}", session.id).into(),
            query: None,
            headers: ForwardedHeaders {
                version: version.unwrap_or_default().into(),
                accept_language: None,
                content_type: None,
                accept: None,
                user_agent: None,
                request_id: drawn_request_id(),
                traceparent: None,
                forwarded_for: std::net::Ipv4Addr::LOCALHOST.into(),
                host: self.identities.registry.primary_host().into(),
            },
            idempotency_key: None,
            body: VerifiedBody::none(),
            context: Context {
                agent: session.owner.clone(),
                proof: ProofKind::Bearer,
                key: None,
                complete: None,
            },
            grant: None,
            now,
        }
    }
}
