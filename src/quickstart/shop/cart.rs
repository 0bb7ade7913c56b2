//! Carts (ACP rfc.cart): lists of items with estimated prices, without payment or status. A canceled
//! cart is gone.

use serde_json::Value;

use super::basket::Cart;
use super::catalogue::Line;
use super::desk::{Call, Desk};
use super::reply::Reply;
use super::request;

impl Desk {
    pub(super) fn create_cart(&self, call: &Call) -> Reply {
        let mut book = self.book.lock();
        let (lines, buyer) = match read(&book.catalogue, &call.json) {
            Ok(read) => read,
            Err(reply) => return reply,
        };
        let Ok(id) = self.new_id("cart") else { return no_randomness() };
        let cart = Cart { id: id.clone(), lines, buyer };
        let view = self.viewer(&book.catalogue, call).cart(&cart);
        book.carts.insert(id, cart);
        Reply::json(201, &view)
    }

    pub(super) fn read_cart(&self, id: &str, call: &Call) -> Reply {
        let book = self.book.lock();
        let Some(cart) = book.carts.get(id) else { return Reply::not_found() };
        Reply::json(200, &self.viewer(&book.catalogue, call).cart(cart))
    }

    /// Replaces the cart's contents.
    pub(super) fn update_cart(&self, id: &str, call: &Call) -> Reply {
        let mut guard = self.book.lock();
        let book = &mut *guard;
        let Some(cart) = book.carts.get_mut(id) else { return Reply::not_found() };
        match read(&book.catalogue, &call.json) {
            Ok((lines, buyer)) => (cart.lines, cart.buyer) = (lines, buyer),
            Err(reply) => return reply,
        }
        Reply::json(200, &self.viewer(&book.catalogue, call).cart(cart))
    }

    pub(super) fn cancel_cart(&self, id: &str, call: &Call) -> Reply {
        let mut book = self.book.lock();
        let Some(cart) = book.carts.remove(id) else { return Reply::not_found() };
        Reply::json(200, &self.viewer(&book.catalogue, call).cart(&cart))
    }
}

fn read(catalogue: &super::catalogue::Catalogue, body: &Value) -> Result<(Vec<Line>, Option<Value>), Reply> {
    let wrong = |param: &str| Reply::invalid(param, "These items cannot be put in a cart.");
    let items = request::items(body).map_err(wrong)?.ok_or_else(|| wrong("$.line_items"))?;
    let lines = catalogue.lines(items).map_err(|param| wrong(&param))?;
    Ok((lines, body.get("buyer").cloned()))
}

/// The operating system gave no randomness for an id.
pub(super) fn no_randomness() -> Reply {
    Reply::error(500, "processing_error", "The shop cannot make ids.")
}
