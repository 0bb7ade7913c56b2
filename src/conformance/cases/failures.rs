//! The card is not to be had: refused, or its answer is lost.

use std::io;

use crate::conformance::report::Level::Must;
use crate::conformance::report::{Case, Met, Report, otherwise};
use crate::conformance::shopper::{Shopper, is_charged, told};
use crate::conformance::till::Manner;

const REFUSED: Case =
    Case { name: "card_refused", level: Must, expected: "the card is not handed out (410): no order" };
const LOST: Case = Case {
    name: "card_lost",
    level: Must,
    expected: "the card's answer is lost: it is fetched again within 60 s, or there is no order",
};

/// No card, no order.
pub(super) async fn of_cards(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    report.note(REFUSED, unpaid(shopper, Manner::Refuse).await)?;
    report.note(LOST, unpaid(shopper, Manner::LoseFirst).await).map(|_| ())
}

async fn unpaid(shopper: &Shopper, manner: Manner) -> Met {
    let basket = shopper.basket().await?;
    let (payment, answer) = shopper.pay(&basket, shopper.wish.cards.good, manner).await?;
    // The first that was handed out never arrived.
    let arrived = shopper.handed_out(&payment.token) > 1;
    if is_charged(&answer) && !arrived {
        return otherwise(format!("{} without a card", told(&answer)));
    }
    if is_charged(&answer) { Ok(format!("fetched again, then {}", told(&answer))) } else { Ok(told(&answer)) }
}
