//! Who is asking: the bearer credential, the signature, and whether the signature was used before.

pub mod bearer;
pub mod client_certificate;
pub mod replay;
pub mod signature;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::crypto::digest::Sha256;

/// Whether anybody has shown a credential that is known, on one connection, and which. Noted by whoever
/// looks credentials up, asked where connections have to make room for others.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<AtomicU64>);

const NOBODY: u64 = 0;
/// No mark of a credential, which are odd.
const CERTIFICATE: u64 = 2;

/// Of a credential's digest as much as tells it from others.
fn mark(digest: &Sha256) -> u64 {
    digest.iter().take(8).fold(0, |mark, byte| (mark << 8) | u64::from(*byte)) | 1
}

impl Standing {
    /// Somebody has, of that digest.
    pub fn recognise(&self, credential: &Sha256) {
        if self.0.load(Ordering::Relaxed) != CERTIFICATE {
            self.0.store(mark(credential), Ordering::Relaxed);
        }
    }

    /// Somebody has shown a certificate, which is judged by itself.
    pub fn recognise_certificate(&self) {
        self.0.store(CERTIFICATE, Ordering::Relaxed);
    }

    /// Whether somebody has.
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != NOBODY
    }

    /// From now on nobody has whose credential is none of these any more.
    pub fn forget_unless(&self, known: &Known) {
        let shown = self.0.load(Ordering::Relaxed);
        if ![NOBODY, CERTIFICATE].contains(&shown) && !known.0.contains(&shown) {
            // Who has shown another meanwhile is known by that.
            let _ = self.0.compare_exchange(shown, NOBODY, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The credentials that are known.
pub struct Known(HashSet<u64>);

impl Known {
    /// Of these digests.
    pub fn of<'a>(credentials: impl Iterator<Item = &'a Sha256>) -> Self {
        Self(credentials.map(mark).collect())
    }
}
