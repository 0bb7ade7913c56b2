//! The cases, in the order in which they are tried.

mod checkout;
mod failures;
mod keys;
mod payment;

use std::io;

use super::report::Report;
use super::shopper::Shopper;

/// Tries every case.
pub(super) async fn try_all(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    // Without a session nothing else can be tried.
    let Some(created) = checkout::opening(shopper, report).await? else { return Ok(()) };
    checkout::changing(shopper, &created, report).await?;
    checkout::refusing(shopper, report).await?;
    keys::of_create(shopper, report).await?;
    payment::accepted(shopper, report).await?;
    payment::refused(shopper, report).await?;
    failures::of_cards(shopper, report).await?;
    keys::of_complete(shopper, report).await
}
