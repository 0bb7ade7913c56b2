//! What a token may be spent on (rfc.delegate_payment §2.5).

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::id::{AgentId, MerchantId, SessionId};
use super::money::Money;

/// The bounds of a token: one agent, one merchant, one checkout session, one currency, an amount
/// and an instant. ACP's only `reason` is `one_time`, so it is implied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Who may present the token.
    pub agent: AgentId,
    /// Where it may be spent.
    pub merchant: MerchantId,
    /// For which checkout session.
    pub session: SessionId,
    /// At most how much, in minor units, and in which currency.
    pub cap: Money,
    /// Invalid at and after this instant.
    pub expires_at: Timestamp,
}
