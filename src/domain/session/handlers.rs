//! The payment handlers that a session lists: which of them a complete may name.

use serde::{Deserialize, Serialize};

/// What tells a handler from others: the first bytes of its id's digest, so that ids of any length take
/// the same room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerMark(pub [u8; 8]);

/// Handlers that are kept of a session at most. Of one that lists more none is kept: which of them a
/// complete names is then its merchant's to judge alone.
const MOST: usize = 64;

/// The handlers a session lists; none where it lists none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handlers(Vec<HandlerMark>);

impl Handlers {
    /// These.
    pub fn of(listed: impl IntoIterator<Item = HandlerMark>) -> Self {
        let listed: Vec<_> = listed.into_iter().take(MOST + 1).collect();
        Self(if listed.len() > MOST { Vec::new() } else { listed })
    }

    /// Whether a complete may name this one (rfc.payment_handlers §5.2): where none is listed, any.
    pub fn permits(&self, handler: HandlerMark) -> bool {
        self.0.is_empty() || self.0.contains(&handler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_those_that_are_listed_is_permitted_and_any_where_none_is() {
        let mark = |number: u8| HandlerMark([number; 8]);
        assert!(Handlers::default().permits(mark(1)));
        let two = Handlers::of([mark(1), mark(2)]);
        assert_eq!([1, 2, 3].map(|number| two.permits(mark(number))), [true, true, false]);
        let most = Handlers::of((0..64).map(mark));
        assert!(most.permits(mark(63)) && !most.permits(mark(64)));
        assert!(Handlers::of((0..65).map(mark)).permits(mark(99)), "more than are kept");
    }
}
