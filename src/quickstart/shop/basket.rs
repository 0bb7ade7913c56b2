//! What a cart holds.

use serde_json::Value;

use super::catalogue::Line;

/// A cart.
pub(super) struct Cart {
    pub id: String,
    pub lines: Vec<Line>,
    pub buyer: Option<Value>,
}
