//! One request to a merchant: waited for, and what came of it noted and counted.

use std::sync::Arc;

use super::Gateway;
use super::bracket::deadline;
use super::call::Call;
use crate::domain::clock::Deadline;
use crate::domain::id::SessionId;
use crate::merchant::{Exchange, Lost, Outbound, UpstreamFailure, told_code};
use crate::registry::Merchant;

impl Gateway {
    /// Sends a request and counts the wait as the merchant's.
    pub(super) async fn send(&self, call: &Call, merchant: &Arc<Merchant>, outbound: Outbound) -> Exchange {
        self.send_by(call, merchant, outbound, deadline(merchant)).await
    }

    /// As [`Gateway::send`], by a deadline that was set earlier.
    pub(super) async fn send_by(
        &self,
        call: &Call,
        merchant: &Arc<Merchant>,
        outbound: Outbound,
        deadline: Deadline,
    ) -> Exchange {
        let started = std::time::Instant::now();
        let exchange = self.ask_merchant(merchant, outbound, deadline).await;
        call.trail.waited(started.elapsed());
        let failure = UpstreamFailure::of(&exchange).map(UpstreamFailure::as_str);
        let answer = exchange.answer();
        let code = answer.filter(|answer| !answer.status.is_success()).and_then(told_code);
        call.trail.heard(answer.map(|answer| answer.status.as_u16()), code.as_deref(), failure);
        exchange
    }

    /// Sends a request, and counts why it came to nothing.
    pub(super) async fn ask_merchant(
        &self,
        merchant: &Merchant,
        outbound: Outbound,
        deadline: Deadline,
    ) -> Exchange {
        let resource = outbound.resource().and_then(SessionId::parse);
        let exchange = self.merchants.send(merchant, outbound, deadline).await;
        if let Some(failure) = UpstreamFailure::of(&exchange) {
            self.observer.metrics().upstream_failed(failure.as_str());
        }
        // Somebody must look, at the merchant or at what stands in front of it.
        if let (Exchange::Lost(Lost::Misplaced), Some(session)) = (&exchange, resource) {
            self.alarm("answer_of_another_session", &merchant.id, &session);
        }
        exchange
    }
}
