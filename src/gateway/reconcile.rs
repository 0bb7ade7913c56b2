//! The background worker: reads the sessions of claims nobody is waiting for, sweeps what has
//! expired, seals old cards under the current key, and measures what is unresolved.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use crate::domain::clock::Timestamp;
use crate::domain::session::{Session, Settlement, observe};
use crate::domain::token::{Instrument, Standing};
use crate::merchant::{Context, Outbound, Passing, Proof, SessionReading, read_session};
use crate::records::codec::{Loaded, decode};
use crate::records::key_use;
use crate::records::{Durability, Kind, Purpose, RecordKey, RecordStore, StoreError};
use crate::token::PaymentToken;

/// How often due claims are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Claims looked at a tick.
const CLAIMS_A_TICK: usize = 64;
/// Expired records deleted a tick.
const SWEPT_A_TICK: usize = 2_000;
/// How often everything is counted and old seals renewed.
const SURVEY_EVERY: Duration = Duration::from_secs(60);
/// Records read at once by a survey.
const SURVEY_PAGE: usize = 500;

impl Gateway {
    /// Works until shutdown begins.
    pub async fn work(self: Arc<Self>) {
        let mut tick = tokio::time::interval(TICK);
        let mut surveyed = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.drain.begun() => return,
            }
            let now = self.clock.now();
            // A store that cannot answer now is asked again at the next tick; health says so.
            let _ = self.check_due_claims(now).await;
            let _ = self.ledger.store().sweep(now, SWEPT_A_TICK).await;
            if surveyed.is_none_or(|last: Timestamp| now.since(last) >= SURVEY_EVERY) {
                let _ = key_use::note(&**self.ledger.store(), &self.rings, now).await;
                let _ = self.survey(now).await;
                surveyed = Some(now);
            }
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

    /// Counts tokens by state and claims without an outcome, and renews old seals.
    async fn survey(&self, now: Timestamp) -> Result<(), StoreError> {
        let store = Arc::clone(self.ledger.store());
        let perishable = self.vault.perishable_keys();
        // Named before the tokens are read: a key whose hour is over gains no new token meanwhile.
        let over = perishable.over();
        let mut in_use = HashSet::new();
        let mut standings = [0u64; Standing::ALL.len()];
        let mut after = None;
        while let Some(page) = next_page(&*store, Kind::Token, &mut after).await? {
            for (_, record) in page {
                let token: PaymentToken = decode(&record.bytes)?;
                let standing = token.standing(now);
                if token.is_live(now)
                    && let Instrument::Sealed { perishable: Some(sealed), .. } = &token.instrument
                {
                    in_use.insert(sealed.key.clone());
                }
                for (count, known) in standings.iter_mut().zip(Standing::ALL) {
                    *count += u64::from(known == standing);
                }
                self.reseal(&token).await?;
            }
        }
        perishable.destroy_unused(now, &|key| !over.contains(key) || in_use.contains(key));
        for (count, standing) in standings.into_iter().zip(Standing::ALL) {
            self.observer.metrics().set_tokens(standing.as_str(), count);
        }
        self.survey_claims(&*store, now).await
    }

    async fn survey_claims(&self, store: &dyn RecordStore, now: Timestamp) -> Result<(), StoreError> {
        let present = self.ledger.present();
        let (mut in_doubt, mut pending) = (Vec::new(), Vec::new());
        let mut after = None;
        while let Some(page) = next_page(store, Kind::Session, &mut after).await? {
            for (_, record) in page {
                let session: Session = decode(&record.bytes)?;
                let Some(claim) = &session.claim else { continue };
                let age = now.since(claim.opened_at);
                if claim.pending {
                    pending.push(age);
                    let longest =
                        self.registry.merchant(&session.merchant).map(|merchant| merchant.pending_max);
                    if longest.is_some_and(|longest| age > longest) {
                        self.alarm("pending_too_long", &session.merchant, &session.id);
                    }
                } else if claim.contested || claim.is_unresolved(present) {
                    in_doubt.push(age);
                }
            }
        }
        for (kind, ages) in [("in_doubt", in_doubt), ("pending", pending)] {
            let oldest = ages.iter().max().copied().unwrap_or_default();
            let count = u64::try_from(ages.len()).unwrap_or(u64::MAX);
            self.observer.metrics().set_unresolved(kind, count, oldest);
        }
        Ok(())
    }

    /// Seals a live token's card under the current key, so that an old key can leave the ring.
    async fn reseal(&self, token: &PaymentToken) -> Result<(), StoreError> {
        let Ok(Some(instrument)) = self.vault.reseal(token) else { return Ok(()) };
        let allowance = &token.allowance;
        let address = self
            .ledger
            .address(crate::domain::session::SessionKind::Checkout, &allowance.merchant, &allowance.session)
            .with_token(&token.id);
        let resealed = self
            .ledger
            .transact(&address, Purpose::Finish, Durability::Applied, |view, _| {
                let current = view.token.as_mut().filter(|current| current.instrument == token.instrument);
                let current = current.ok_or(())?;
                current.instrument = instrument.clone();
                Ok(())
            })
            .await?;
        // It changed meanwhile: the next survey sees it again.
        let _: Result<(), ()> = resealed;
        Ok(())
    }
}

/// The next page of a scan; `None` when there is no more.
async fn next_page(
    store: &dyn RecordStore,
    kind: Kind,
    after: &mut Option<RecordKey>,
) -> Result<Option<Vec<(RecordKey, crate::records::Record)>>, StoreError> {
    let page = store.scan(kind, after.as_ref(), SURVEY_PAGE).await?;
    *after = page.last().map(|(key, _)| key.clone());
    Ok(Some(page).filter(|page| !page.is_empty()))
}
