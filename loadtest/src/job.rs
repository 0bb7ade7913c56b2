//! What connections are given to do.

use crate::checkout::Checkout;
use crate::connection::Wire;
use crate::merchant::Call;
use crate::outcome::Charge;

/// Something to be done, and judged.
pub enum Job {
    /// One request, made before.
    Send(Prepared),
    /// A whole checkout, each step signed when it is sent.
    Checkout(Checkout),
}

/// A request and the answer it must get.
pub struct Prepared {
    /// The request.
    pub wire: Wire,
    /// The statuses that are right.
    pub right: &'static [u16],
    /// What must stand in the body.
    pub contains: String,
    /// What the merchant must be asked for.
    pub reaches: Option<Call>,
    /// What the merchant must find in its ledger, if this charges somebody.
    pub charge: Option<Charge>,
}

impl Prepared {
    /// The same once more.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            wire: self.wire.clone(),
            right: self.right,
            contains: self.contains.clone(),
            reaches: self.reaches,
            charge: self.charge.clone(),
        }
    }
}
