//! One complete on its way: what its steps share, from what was asked to the claim it runs under.

use std::sync::Arc;

use super::call::Call;
use super::suspended::Movement;
use crate::crypto::aead::Sealed;
use crate::domain::base_url::BaseUrl;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ClaimId, SessionId, TokenId};
use crate::domain::money::Money;
use crate::domain::session::{BeginClaim, HandlerMark, Session};
use crate::idempotency::{NotKept, Operation};
use crate::ledger::{RecordSet, Snapshot};
use crate::limit::Permit;
use crate::registry::{Merchant, MerchantIdempotency, PurchaseOrders};
use crate::token::PaymentToken;

/// One complete on its way: everything its steps share. In a box, because it goes from step to step.
pub(super) struct Completion {
    pub call: Call,
    pub merchant: Arc<Merchant>,
    pub session: SessionId,
    pub token: Option<TokenId>,
    /// Nothing is given to pay with, where the merchant takes free orders.
    pub pays_nothing: bool,
    /// The payment handler it names.
    pub handler: Option<HandlerMark>,
    pub operation: Operation,
    pub record_set: RecordSet,
    /// The claim: its id is the key the merchant receives.
    pub claim: ClaimId,
}

impl Completion {
    /// What it moves, with this token.
    pub(super) fn card_movement<'a>(&'a self, token: Option<&'a PaymentToken>) -> Movement<'a> {
        let card = token.map(|token| &token.card_fingerprint);
        Movement { card, ..self.call.movement(&self.merchant.id) }
    }

    /// Its request, sealed, where it may be sent again.
    pub(super) fn kept_request(&self) -> Result<Option<Sealed>, NotKept> {
        let may_be_sent_again = match self.merchant.idempotency {
            MerchantIdempotency::Keys => true,
            MerchantIdempotency::None => false,
        };
        may_be_sent_again.then(|| self.operation.seal_request(&self.call.stored_request())).transpose()
    }

    /// What is asked of the session and token, by a complete that is sent to `place`.
    pub(super) fn begin_claim(
        &self,
        session: &Session,
        until: Timestamp,
        place: Option<BaseUrl>,
    ) -> BeginClaim {
        BeginClaim {
            claim: self.claim.clone(),
            agent: self.call.agent.id.clone(),
            total_max_age: self.merchant.total_max_age,
            purchase_order_limit: purchase_order_limit(&self.merchant, &self.call, session),
            pays_nothing: self.pays_nothing,
            handler: self.handler,
            until,
            place,
        }
    }
}

/// A complete for which no claim is open, with leave to send it.
pub(super) struct Ready {
    pub completion: Box<Completion>,
    /// Session, token and key as they were read last.
    pub snapshot: Box<Snapshot>,
    pub place: Permit,
}

fn purchase_order_limit(merchant: &Merchant, call: &Call, session: &Session) -> Option<Money> {
    let PurchaseOrders::Allowed { agents, limits } = &merchant.purchase_orders else { return None };
    let total = session.total?.total;
    limits
        .iter()
        .find(|limit| agents.contains(&call.agent.id) && total.in_currency(limit.currency).is_some())
        .copied()
}
