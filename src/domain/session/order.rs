//! Which order a session was charged for, so that a second one is noticed.

use serde::{Deserialize, Serialize};

use super::Session;

/// Orders remembered of a session: more tell nobody anything.
pub const MAX_ORDERS: usize = 4;

/// Tells a merchant's orders apart: the beginning of a digest of its id for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderMark(pub [u8; 8]);

impl Session {
    /// Takes note of the order an answer shows; true when it is another one than was shown before.
    pub fn note_order(&mut self, shown: Option<OrderMark>) -> bool {
        let Some(mark) = shown.filter(|mark| !self.orders.contains(mark)) else { return false };
        if self.orders.len() == MAX_ORDERS {
            return false;
        }
        self.orders.push(mark);
        self.orders.len() > 1
    }

    /// Whether [`Self::note_order`] would change anything.
    pub fn knows_order(&self, shown: Option<OrderMark>) -> bool {
        shown.is_none_or(|mark| self.orders.contains(&mark))
    }
}
