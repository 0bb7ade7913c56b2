//! What tests see of shops, and numbers that look random.

use std::time::Duration;

use countersign::quickstart::shop::{CallKind, Charge, Shop};

/// Waits until a shop has received this many calls of a kind.
pub async fn received(shop: &Shop, kind: CallKind, count: usize) {
    let received = tokio::time::timeout(Duration::from_secs(60), shop.received(kind, count)).await;
    assert!(received.is_ok(), "the shop has not received {count} of {kind:?}");
}

/// What a shop took for a session.
pub fn charges_of(shop: &Shop, session: &str) -> Vec<Charge> {
    let charges = shop.charges().into_iter();
    charges.filter(|charge| charge.session == session).collect()
}

/// Numbers that look random and are the same every time (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}
