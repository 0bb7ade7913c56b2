//! What came of a job.

use crate::merchant::Call;

/// What a job did.
pub struct Done {
    /// The last answer's status.
    pub status: u16,
    /// What was charged.
    pub charge: Option<Charge>,
    /// What the merchant was asked.
    pub reached: Vec<Call>,
}

/// A charge in the agents' books.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The session.
    pub session: String,
    /// A digest of the body.
    pub body: u64,
}
