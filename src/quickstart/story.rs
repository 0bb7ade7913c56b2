//! The story the quickstart tells: a purchase, three attempts, and all that is refused.
//!
//! A purchase, a token that takes three attempts, and everything that is refused. Each step does what it
//! says and looks whether it came true, in the answers and in the shops' ledgers; one that did not is
//! told and remembered.

mod cast;
mod narrator;
mod own;
mod patience;
mod purchase;
mod refusals;

use std::io;

use super::agent::Agent;
use crate::domain::clock::Timestamp;

pub use cast::{Cast, HOMEGOODS, STATIONER};
pub use narrator::Narrator;

/// Tells of one purchase at a shop of somebody's own.
///
/// # Errors
/// As [`tell`].
pub async fn tell_own(
    agent: &Agent,
    (shop, item): (&str, &str),
    until: Timestamp,
    narrator: &mut Narrator<'_>,
) -> io::Result<()> {
    narrator.chapter("A purchase at your shop")?;
    let bought = own::tell_purchase(agent, shop, item, until, narrator).await;
    narrator.conclude(bought).map(|_| ())
}

/// Tells the whole story.
///
/// # Errors
/// When it cannot be told. What did not come true stands in [`Narrator::failed`].
pub async fn tell(cast: &Cast, narrator: &mut Narrator<'_>) -> io::Result<()> {
    narrator.chapter("A purchase")?;
    let bought = purchase::tell(cast, narrator).await;
    let bought = narrator.conclude(bought)?;
    narrator.chapter("One token, three attempts: declined, 3-D Secure, order")?;
    let patient = patience::tell(cast, narrator).await;
    narrator.conclude(patient)?;
    narrator.chapter("What is refused, and why")?;
    let refused = refusals::tell(cast, narrator, bought.as_ref()).await;
    narrator.conclude(refused)?;
    Ok(())
}
