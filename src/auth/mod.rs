//! Who is asking: the bearer credential, the signature, and whether the signature was used before.

pub mod bearer;
pub mod client_certificate;
pub mod replay;
pub mod signature;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anybody has shown a credential that is known, on one connection. Noted by whoever looks
/// credentials up, asked where connections have to make room for others.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<AtomicBool>);

impl Standing {
    /// Somebody has.
    pub fn recognise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has.
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
