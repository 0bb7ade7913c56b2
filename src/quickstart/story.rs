//! The story the quickstart tells: a purchase, three attempts, and all that is refused.
//!
//! A purchase, a token that takes three attempts, and everything that is refused. Each step does what it
//! says and looks whether it came true, in the answers and in the shops' ledgers; one that did not is
//! told and remembered.

mod cast;
mod narrator;
mod patience;
mod purchase;
mod refusals;

use std::io;

pub use cast::{Cast, HOMEGOODS, STATIONER};
pub use narrator::Narrator;

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
