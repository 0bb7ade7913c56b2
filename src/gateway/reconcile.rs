//! The background worker: reads the sessions of claims nobody is waiting for, sweeps what has
//! expired, and takes the survey's steps.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use crate::domain::clock::Timestamp;
use crate::domain::session::{Session, Settlement, observe};
use crate::merchant::{Context, Outbound, Passing, Proof, SessionReading, read_session};
use crate::records::codec::Loaded;
use crate::records::{Durability, Kind, Purpose, RecordKey, StoreError};

/// How often due claims are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Claims looked at a tick.
const CLAIMS_A_TICK: usize = 64;
/// Expired records deleted a tick.
const SWEPT_A_TICK: usize = 2_000;

impl Gateway {
    /// Works until shutdown begins.
    pub async fn work(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        let mut survey = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.drain.begun() => return,
            }
            let now = self.clock.now();
            // A store that cannot answer now is asked again at the next tick; health says so.
            let _ = self.check_due_claims(now).await;
            let _ = self.ledger.store().sweep(now, SWEPT_A_TICK).await;
            let _ = self.survey(&mut survey, now).await;
        }
    }

    async fn check_due_claims(self: &Arc<Self>, now: Timestamp) -> Result<(), StoreError> {
        let due = self.ledger.store().due(now, CLAIMS_A_TICK).await?;
        let checks = due.into_iter().filter(|(_, key)| key.kind == Kind::Session).map(|(_, key)| {
            let gateway = Arc::clone(self);
            tokio::spawn(async move { gateway.check_claim(key).await })
        });
        // All at once: a merchant that does not answer must not delay the others' claims.
        for check in checks.collect::<Vec<_>>() {
            let _ = check.await;
        }
        Ok(())
    }

    /// Reads the session of an open claim and applies what it proves.
    async fn check_claim(&self, key: RecordKey) -> Result<(), StoreError> {
        let record = self.ledger.store().read(std::slice::from_ref(&key)).await?.pop().flatten();
        let Some(session) = Loaded::<Session>::decode(key, record)?.value else { return Ok(()) };
        let Some(merchant) = self.registry.merchant(&session.merchant) else { return Ok(()) };
        let asked_at = self.clock.now();
        let exchange = self
            .merchants
            .send(merchant, self.own_read(&session, asked_at), super::complete::deadline(merchant))
            .await;
        let observation = match read_session(&exchange, &session.id) {
            SessionReading::Shown(shown) => Some(super::read::observation(&shown, asked_at)),
            SessionReading::Missing | SessionReading::Unreadable => None,
        };
        let mut address = self.ledger.address(session.kind, &session.merchant, &session.id);
        if let Some(token) = session.claim.as_ref().and_then(|claim| claim.token.as_ref()) {
            address = address.with_token(token);
        }
        let settled = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Synced, |view, present| {
                let Some(current) = view.session.as_mut() else { return Err(()) };
                if let Some(claim) = current.claim.as_mut() {
                    // The next look comes later; this also moves the record's due instant.
                    claim.checks = claim.checks.saturating_add(1);
                }
                Ok(observation.map_or(Settlement::Held, |seen| {
                    observe(current, view.token.as_mut(), &seen, merchant.doubt_grace, present)
                }))
            })
            .await?;
        let outcome = match settled {
            Ok(Settlement::Charged) => "charged",
            Ok(Settlement::Released) => "released",
            Ok(Settlement::ChargedLate) => "charged_late",
            Ok(Settlement::Held | Settlement::Stale) | Err(()) => return Ok(()),
        };
        self.observer.metrics().claim(outcome);
        Ok(())
    }

    /// A read on our own behalf: the owner named, nothing of any request of its.
    fn own_read(&self, session: &Session, now: Timestamp) -> Outbound {
        let version =
            self.registry.merchant(&session.merchant).and_then(|merchant| merchant.versions.last().cloned());
        Outbound {
            method: http::Method::GET,
            path: format!("/checkout_sessions/{}", session.id),
            query: None,
            headers: Passing {
                version: version.unwrap_or_default(),
                accept_language: None,
                content_type: None,
                accept: None,
                user_agent: None,
                request_id: super::admit::drawn_request_id(),
                traceparent: None,
                forwarded_for: std::net::Ipv4Addr::LOCALHOST.into(),
                host: self.registry.primary_host().to_owned(),
            },
            idempotency_key: None,
            body: bytes::Bytes::new(),
            context: Context {
                agent: session.owner.clone(),
                proof: Proof::Bearer,
                key: None,
                complete: None,
            },
            grant: None,
            now,
        }
    }
}
