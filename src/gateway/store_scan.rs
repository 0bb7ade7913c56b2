//! The scan: goes through all tokens and all open claims, a page at a time.
//!
//! It counts them for the gauges, seals old cards under the current key, deletes those of tokens that
//! have expired, and destroys the keys of CVCs nobody needs any more. Paced, so that its cost a second
//! does not grow with what is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::parts::{Books, Desk, Identities};
use crate::crypto::aead::Sealed;
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::domain::session::ClaimStanding;
use crate::domain::token::{Instrument, Standing, TokenState};
use crate::ledger::{Done, SessionRecord};
use crate::records::codec::decode;
use crate::records::{Durability, Kind, Purpose, Record, RecordKey, StoreError, agreed, key_use};
use crate::token::{PaymentToken, Vault};

/// Records looked at in one step.
const PAGE: usize = 500;
/// Sessions read in one call.
const AT_ONCE: usize = 16;
/// Open claims looked at: far more than anybody can resolve by hand.
const MOST_CLAIMS: usize = 10_000;
/// No claim is looked at later than so long from now: one that says so was written by a clock that was
/// ahead, and is looked at anew.
const LATEST_CHECK: Duration = Duration::from_secs(2 * 3600);
/// A new scan does not start earlier than this after the last began.
const EVERY: Duration = Duration::from_secs(60);

/// One pass over the store.
pub(super) struct StoreScan {
    began: Timestamp,
    stage: Stage,
    after: Option<RecordKey>,
    standings: [u64; Standing::ALL.len()],
    /// Epoch keys whose hour was over when the pass began: they gain no new token meanwhile.
    over: Vec<KeyId>,
    in_use: HashSet<KeyId>,
    /// Live tokens whose security code went with the server that held its key.
    codes_lost: u64,
    in_doubt: Ages,
    pending: Ages,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Tokens,
    Claims,
    Done,
}

#[derive(Default)]
struct Ages {
    count: u64,
    oldest: Duration,
}

impl Ages {
    fn note(&mut self, age: Duration) {
        self.count += 1;
        self.oldest = self.oldest.max(age);
    }
}

/// Takes the scan's steps.
pub(super) struct StoreScanner {
    pub identities: Arc<Identities>,
    pub books: Arc<Books>,
    pub vault: Arc<Vault>,
    pub desk: Arc<Desk>,
}

impl StoreScanner {
    /// Takes one step of the pass, or begins a new one when it is time.
    ///
    /// # Errors
    /// [`StoreError`]; the same step is taken again next time.
    pub(super) async fn scan(&self, scan: &mut Option<StoreScan>, now: Timestamp) -> Result<(), StoreError> {
        let current = match scan.as_mut() {
            Some(current) if current.stage != Stage::Done || now.since(current.began) < EVERY => current,
            _ => {
                key_use::note(&**self.books.ledger.store(), &self.identities.rings, self.desk.clock.latest())
                    .await?;
                self.show_key_ages().await?;
                if let Some(at) = self.desk.clock.agreed() {
                    agreed::keep(&**self.books.ledger.store(), at).await?;
                }
                scan.insert(StoreScan::begin(now, self.vault.perishable_keys().over().await))
            }
        };
        match current.stage {
            Stage::Tokens => self.scan_tokens(current).await,
            Stage::Claims => self.scan_claims(current, now).await,
            Stage::Done => Ok(()),
        }
    }

    async fn show_key_ages(&self) -> Result<(), StoreError> {
        let (store, now) = (self.books.ledger.store(), self.desk.clock.now());
        for (ring, since) in key_use::ages(&**store, &self.identities.rings, now).await? {
            self.desk.observer.metrics().key_current_since(ring, since);
        }
        Ok(())
    }

    async fn scan_tokens(&self, scan: &mut StoreScan) -> Result<(), StoreError> {
        // What a token may be refused for is not yet a reason to destroy what belongs to it.
        let (latest, earliest) = (self.desk.clock.latest(), self.desk.clock.earliest());
        let page = self.books.ledger.store().scan(Kind::Token, scan.after.as_ref(), PAGE).await?;
        for token in self.tokens_of(&page).await? {
            let standing = token.standing(latest);
            for (count, known) in scan.standings.iter_mut().zip(Standing::ALL) {
                *count += u64::from(known == standing);
            }
            if token.is_live(earliest)
                && let Instrument::Sealed { perishable: Some(sealed), .. } = &token.instrument
            {
                scan.codes_lost += u64::from(self.vault.perishable_keys().is_lost(&sealed.key));
                scan.in_use.insert(sealed.key.clone());
            }
            if token.has_ended(earliest) {
                self.delete_card(token).await?;
            } else {
                self.reseal(token).await?;
            }
        }
        scan.after = page.last().map(|(key, _)| key.clone());
        if scan.after.is_none() {
            let unneeded = scan.over.iter().filter(|key| !scan.in_use.contains(*key)).cloned();
            self.vault.perishable_keys().destroy_unneeded(unneeded.collect()).await;
            for (count, standing) in scan.standings.into_iter().zip(Standing::ALL) {
                self.desk.observer.metrics().set_tokens(standing.as_str(), count);
            }
            self.desk.observer.metrics().set_codes_lost(scan.codes_lost);
            scan.stage = Stage::Claims;
        }
        Ok(())
    }

    /// The tokens of these records as they stand: which are claimed their sessions say.
    async fn tokens_of(&self, page: &[(RecordKey, Record)]) -> Result<Vec<PaymentToken>, StoreError> {
        let ledger = &self.books.ledger;
        let mut tokens: Vec<PaymentToken> = Vec::new();
        for (_, record) in page {
            match decode(&record.bytes) {
                Ok(token) => tokens.push(token),
                Err(_) => self.desk.unreadable_record("token"),
            }
        }
        // What has ended is not claimed, and is most of what there is.
        let mut open: HashMap<RecordKey, Vec<&mut PaymentToken>> = HashMap::new();
        for token in tokens.iter_mut().filter(|token| token.state == TokenState::Active) {
            open.entry(ledger.record_set_of(token).session_key().clone()).or_default().push(token);
        }
        let sessions: Vec<RecordKey> = open.keys().cloned().collect();
        // A few at a time: the embedded store reads many again where any of them was written meanwhile.
        for some in sessions.chunks(AT_ONCE) {
            for (key, record) in some.iter().zip(ledger.store().read(some).await?) {
                let Some(record) = record else { continue };
                let Ok(SessionRecord { session, .. }) = decode(&record.bytes) else {
                    self.desk.unreadable_record("session");
                    continue;
                };
                open.remove(key).into_iter().flatten().for_each(|token| session.mark_claimed(token));
            }
        }
        Ok(tokens)
    }

    /// Exactly the sessions with an open claim are due some time.
    async fn scan_claims(&self, scan: &mut StoreScan, now: Timestamp) -> Result<(), StoreError> {
        let moment = self.books.ledger.moment();
        let store = self.books.ledger.store();
        let some_time = Timestamp::from_unix_millis(i64::MAX);
        let due = store.due(some_time, MOST_CLAIMS).await?;
        let sessions: Vec<(Timestamp, RecordKey)> =
            due.into_iter().filter(|(_, key)| key.kind == Kind::Session).collect();
        for (_, key) in sessions.iter().filter(|(at, _)| *at > moment.steady.plus(LATEST_CHECK)) {
            self.books.ledger.postpone(key.clone()).await?;
        }
        let keys: Vec<RecordKey> = sessions.into_iter().map(|(_, key)| key).collect();
        for page in keys.chunks(PAGE) {
            for record in store.read(page).await?.into_iter().flatten() {
                let Ok(SessionRecord { session, .. }) = decode(&record.bytes) else {
                    self.desk.unreadable_record("session");
                    continue;
                };
                let Some(claim) = &session.claim else { continue };
                let age = now.since(claim.opened_at);
                match claim.standing(moment) {
                    ClaimStanding::Pending => {
                        scan.pending.note(age);
                        let merchant = self.identities.registry.merchant(&session.merchant);
                        if merchant.is_some_and(|merchant| age > merchant.pending_max) {
                            self.desk.alarm("pending_too_long", &session.merchant, &session.id);
                        }
                    }
                    ClaimStanding::InDoubt => scan.in_doubt.note(age),
                    ClaimStanding::UnderWay => {}
                }
            }
        }
        for (kind, ages) in [("in_doubt", &scan.in_doubt), ("pending", &scan.pending)] {
            self.desk.observer.metrics().set_unresolved(kind, ages.count, ages.oldest);
        }
        scan.stage = Stage::Done;
        Ok(())
    }

    /// Another replica counts from now on: what was counted here is out of date.
    pub(super) fn forget_counts(&self) {
        let metrics = self.desk.observer.metrics();
        Standing::ALL.into_iter().for_each(|standing| metrics.set_tokens(standing.as_str(), 0));
        metrics.set_codes_lost(0);
        ["in_doubt", "pending"].into_iter().for_each(|kind| metrics.set_unresolved(kind, 0, Duration::ZERO));
    }

    /// Deletes the card of a token that has expired, which no transition tells; and of one that ended
    /// under a release that kept it.
    async fn delete_card(&self, mut token: PaymentToken) -> Result<(), StoreError> {
        let sealed = token.instrument.clone();
        let earliest = self.desk.clock.earliest();
        // A claim may have begun by a clock that is behind.
        let has_ended = move |current: &PaymentToken| current.has_ended(earliest);
        if token.delete_card() { self.exchange(&token, &sealed, has_ended).await } else { Ok(()) }
    }

    /// Seals a token's card under the current key, so that an old key can leave the ring.
    async fn reseal(&self, mut token: PaymentToken) -> Result<(), StoreError> {
        let Ok(Some(instrument)) = self.vault.reseal(&token) else { return Ok(()) };
        let sealed = std::mem::replace(&mut token.instrument, instrument);
        self.exchange(&token, &sealed, |_| true).await
    }

    /// Writes a token's instrument in place of the one that was read, if it still may be.
    async fn exchange(
        &self,
        token: &PaymentToken,
        read: &Instrument<Sealed>,
        may_be: impl Fn(&PaymentToken) -> bool + Send,
    ) -> Result<(), StoreError> {
        let record_set = self.books.ledger.record_set_of(token);
        let exchanged = self
            .books
            .ledger
            .transact(&record_set, Purpose::Finish, Durability::Applied, |view, _| {
                let current = view
                    .token
                    .as_mut()
                    .filter(|current| current.instrument == *read && may_be(current))
                    .ok_or(())?;
                current.instrument = token.instrument.clone();
                Ok(())
            })
            .await?;
        // It changed meanwhile: the next pass sees it again.
        let _: Result<Done<()>, ()> = exchanged;
        Ok(())
    }
}

impl StoreScan {
    fn begin(now: Timestamp, over: Vec<KeyId>) -> Self {
        Self {
            began: now,
            stage: Stage::Tokens,
            after: None,
            standings: [0; Standing::ALL.len()],
            over,
            in_use: HashSet::new(),
            codes_lost: 0,
            in_doubt: Ages::default(),
            pending: Ages::default(),
        }
    }
}
