//! Withdraws the live tokens of what an operator has stopped.

use std::sync::Arc;

use futures_util::future::join_all;

use super::events::Events;
use super::parts::{Books, Desk};
use crate::domain::session::{Moment, Revoked, revoke};
use crate::ledger::Records;
use crate::records::codec::decode;
use crate::records::suspensions::Subject;
use crate::records::{Durability, Kind, Purpose, StoreError};
use crate::token::PaymentToken;

/// Tokens looked at in one go.
const PAGE: usize = 500;
/// Withdrawn at once.
const AT_ONCE: usize = 16;

/// What became of live tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    /// Withdrawn.
    pub now: u64,
    /// Held by a claim: withdrawn when that ends, if it does not charge.
    pub at_end_of_claim: u64,
    /// Their cards are at the merchant: their claims decide.
    pub in_use: u64,
}

/// Withdraws tokens by whom they belong to.
pub(crate) struct Withdrawals {
    pub(super) books: Arc<Books>,
    pub(super) events: Arc<Events>,
    pub(super) desk: Arc<Desk>,
}

impl Withdrawals {
    /// Withdraws every live token of a subject, a page of the store after the other. Of what a key or a
    /// credential has minted no token tells: there is none.
    ///
    /// # Errors
    /// [`StoreError`]; some may have been withdrawn.
    pub(crate) async fn withdraw_all_of(&self, subject: &Subject) -> Result<Withdrawn, StoreError> {
        let mut withdrawn = Withdrawn::default();
        let mut after = None;
        loop {
            let page = self.books.ledger.store().scan(Kind::Token, after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(withdrawn) };
            after = Some(last.clone());
            let now = self.desk.clock.earliest();
            let mut live: Vec<PaymentToken> = Vec::new();
            for (_, record) in &page {
                match decode::<PaymentToken>(&record.bytes) {
                    Ok(token) if token.is_live(now) && is_of(subject, &token) => live.push(token),
                    Ok(_) => {}
                    Err(_) => self.desk.unreadable_record("token"),
                }
            }
            for batch in live.chunks(AT_ONCE) {
                let mut ending = Vec::with_capacity(AT_ONCE);
                for token in batch {
                    ending.push(self.withdraw_token(token));
                }
                for ended in join_all(ending).await {
                    match ended? {
                        Some(Revoked::Now) => withdrawn.now += 1,
                        Some(Revoked::Requested) => withdrawn.at_end_of_claim += 1,
                        Some(Revoked::Already) => {}
                        None => withdrawn.in_use += 1,
                    }
                }
            }
        }
    }

    /// `None`: its card is in use, or it was spent meanwhile.
    async fn withdraw_token(&self, token: &PaymentToken) -> Result<Option<Revoked>, StoreError> {
        let record_set = self.books.ledger.record_set_of(token);
        let decide = |records: &mut Records, moment: Moment| {
            let (Some(session), Some(token)) = (records.session.as_mut(), records.token.as_mut()) else {
                return Ok(Revoked::Already);
            };
            revoke(session, token, moment)
        };
        let done =
            self.books.ledger.transact(&record_set, Purpose::Finish, Durability::Synced, decide).await?;
        let Ok(done) = done else { return Ok(None) };
        if done.decided == Revoked::Now {
            self.desk.observer.metrics().token_event("revoked");
        }
        self.events.token_ended(done.ended);
        Ok(Some(done.decided))
    }
}

fn is_of(subject: &Subject, token: &PaymentToken) -> bool {
    match subject {
        Subject::Agent { id } => token.allowance.agent == *id,
        Subject::Merchant { id } => token.allowance.merchant == *id,
        Subject::Card { fingerprint, .. } => token.card_fingerprint == *fingerprint,
        Subject::All => true,
        Subject::Key { .. } | Subject::Credential { .. } => false,
    }
}
