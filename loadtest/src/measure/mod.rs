//! Measurements of one kind each, beside the comparison.

pub mod added;
pub mod growth;
pub mod hostile;
pub mod memory;
pub mod parts;

use anyhow::Result;

use crate::job::Job;
use crate::prepare::Preparation;
use crate::request::Proof;

/// Completes, with their sessions and tokens made before.
async fn completes(preparation: &Preparation, count: usize) -> Result<Vec<Job>> {
    let sessions = preparation.tokens(preparation.sessions(count).await?).await?;
    preparation.complete_jobs(&sessions, Proof::Key(preparation.style))
}
