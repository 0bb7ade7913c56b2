//! Bodies that have arrived in part. Apart because bytes are bounded here, and not requests: whoever
//! has a credential may make us hold them for as long as a body may take, before the signature that
//! only the whole body can prove.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::network::AgentAtAddress;
use super::{LimitScope, Limited};
use crate::domain::id::AgentId;

/// For one agent's credential at one peer address as much is held as so many of the largest bodies.
/// What arrives in one piece that says so does not count, so that an agent at work is far below it.
const LARGEST_BODIES: usize = 32;

/// What is held of unfinished bodies.
#[derive(Default)]
pub(super) struct Unfinished(Mutex<HashMap<AgentAtAddress, usize>>);

/// What one unfinished body holds; given back when dropped.
pub struct Held {
    unfinished: Arc<Unfinished>,
    holder: AgentAtAddress,
    bytes: usize,
    /// Of all bodies of the holder, in bytes.
    most: usize,
}

impl Unfinished {
    /// A body of which nothing is held yet; the largest allowed has `largest` bytes.
    pub(super) fn body(self: &Arc<Self>, agent: &AgentId, address: IpAddr, largest: usize) -> Held {
        let most = largest.saturating_mul(LARGEST_BODIES);
        Held { unfinished: Arc::clone(self), holder: AgentAtAddress::new(agent, address), bytes: 0, most }
    }
}

impl Held {
    /// Holds so many bytes more.
    ///
    /// # Errors
    /// Too much is held for this agent's credential at this address.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Limited> {
        if bytes == 0 {
            return Ok(());
        }
        let mut held = self.unfinished.0.lock();
        let all = held.get(&self.holder).copied().unwrap_or(0).saturating_add(bytes);
        if all > self.most {
            return Err(Limited { scope: LimitScope::UnfinishedBodies, retry_after_seconds: 1, quota: None });
        }
        held.insert(self.holder.clone(), all);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.unfinished.0.lock();
        match held.get_mut(&self.holder) {
            Some(all) if *all > self.bytes => *all -= self.bytes,
            _ => {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = 10;
    const MOST: usize = LARGEST * LARGEST_BODIES;

    #[test]
    fn a_credential_at_an_address_has_a_share_and_takes_it_from_nobody() {
        let unfinished = Arc::new(Unfinished::default());
        let body = |agent: &str, address: &str| {
            unfinished.body(&AgentId::parse(agent).unwrap(), address.parse().unwrap(), LARGEST)
        };
        let mut first = body("alpha", "192.0.2.1");
        assert_eq!(first.hold(MOST - 1), Ok(()));
        let mut second = body("alpha", "192.0.2.1");
        assert_eq!(second.hold(1), Ok(()));
        assert_eq!(second.hold(1).unwrap_err().scope, LimitScope::UnfinishedBodies);
        assert_eq!(body("alpha", "192.0.2.2").hold(MOST), Ok(()));
        assert_eq!(body("beta", "192.0.2.1").hold(MOST), Ok(()));
        drop(first);
        assert_eq!(second.hold(MOST - 1), Ok(()));
        drop(second);
        assert!(unfinished.0.lock().is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn a_body_that_is_refused_gives_back_what_it_held() {
        let unfinished = Arc::new(Unfinished::default());
        let agent = AgentId::parse("alpha").unwrap();
        let mut body = unfinished.body(&agent, "2001:db8::1".parse().unwrap(), LARGEST);
        assert_eq!((body.hold(MOST).is_ok(), body.hold(1).is_err()), (true, true));
        // The same host under another of its addresses.
        let mut other = unfinished.body(&agent, "2001:db8::2".parse().unwrap(), LARGEST);
        assert!(other.hold(1).is_err());
        drop(body);
        assert!(other.hold(MOST).is_ok());
    }
}
