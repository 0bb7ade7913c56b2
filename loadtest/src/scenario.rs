//! Scenarios: what agents do, as jobs of one kind or in realistic shares, and what attackers do.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::acp::{Session, complete, get, mint};
use crate::checkout::Checkout;
use crate::job::{Job, Prepared};
use crate::merchant::TOTAL;
use crate::prepare::Preparation;
use crate::request::{Proof, Style};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Sessions are created.
    Create,
    /// Sessions are read, unsigned.
    Get,
    /// Tokens are minted.
    Delegate,
    /// Sessions are completed with tokens.
    Complete,
    /// Whole checkouts, each step signed when it is sent; one counts as one.
    Checkout,
    /// Of twenty requests ten reads, four creates, three mints, three completes.
    Mixed,
    /// What attackers send: forged signatures, replays, purchases over the cap, a flood.
    Hostile,
}

/// Sessions that are read again and again.
const SESSIONS_READ: usize = 1000;
/// Sessions that attackers know, and purchases they have overheard.
const OVERHEARD: usize = 64;
/// Of twenty requests, what each is.
const SHARES: [Scenario; 20] = {
    use Scenario::{Complete, Create, Delegate, Get};
    [
        Get, Create, Get, Complete, Get, Get, Delegate, Get, Create, Get, Get, Complete, Create, Get,
        Delegate, Get, Create, Complete, Get, Delegate,
    ]
};

impl Scenario {
    /// Whether every answer to it is one that charges or relays, as a gateway vouches for it.
    pub const fn is_good(self) -> bool {
        !matches!(self, Self::Hostile)
    }

    /// So many jobs of it, with everything they need made before.
    ///
    /// # Errors
    /// When a preparation is refused or a request cannot be signed.
    pub async fn jobs(self, preparation: &Preparation, count: usize) -> Result<Vec<Job>> {
        let signed = Proof::Key(preparation.style);
        match self {
            Self::Create => preparation.create_jobs(count, signed),
            Self::Get => {
                let sessions = preparation.sessions(SESSIONS_READ).await?;
                preparation.get_jobs(&sessions, count, Proof::Key(Style::Unsigned))
            }
            Self::Delegate => preparation.delegate_jobs(&preparation.sessions(count).await?, signed),
            Self::Complete => {
                let sessions = preparation.tokens(preparation.sessions(count).await?).await?;
                preparation.complete_jobs(&sessions, signed)
            }
            Self::Checkout => Ok((0..count).map(|turn| checkout(preparation, turn)).collect()),
            Self::Mixed => mixed(preparation, count).await,
            Self::Hostile => hostile(preparation, count).await,
        }
    }
}

fn checkout(preparation: &Preparation, turn: usize) -> Job {
    let (target, everyone) = (preparation.target.clone(), preparation.everyone.clone());
    Job::Checkout(Checkout { target, everyone, turn, style: preparation.style })
}

async fn mixed(preparation: &Preparation, count: usize) -> Result<Vec<Job>> {
    let shares = || SHARES.into_iter().cycle().take(count);
    let kinds = [Scenario::Get, Scenario::Create, Scenario::Delegate, Scenario::Complete];
    let mut jobs = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let wanted = shares().filter(|share| *share == kind).count();
        jobs.push((kind, Box::pin(kind.jobs(preparation, wanted)).await?.into_iter()));
    }
    let next = |share: Scenario| {
        let queue = jobs.iter_mut().find(|(kind, _)| *kind == share);
        queue.and_then(|(_, queue)| queue.next()).context("a job for every share")
    };
    shares().map(next).collect()
}

/// In turn: a complete whose signature was changed, a purchase overheard and sent again, a purchase
/// one cent over its token, and three reads of one agent that floods.
async fn hostile(preparation: &Preparation, count: usize) -> Result<Vec<Job>> {
    let paid = preparation.tokens(preparation.sessions(OVERHEARD).await?).await?;
    let overheard = overhear(preparation, &paid).await?;
    let unpaid = preparation.tokens(preparation.sessions(OVERHEARD).await?).await?;
    let capped = capped(preparation).await?;
    let flood = preparation.sessions(OVERHEARD).await?;
    (0..count)
        .map(|turn| {
            let of = |sessions: &[Session]| {
                let place = (turn / 6) % sessions.len().max(1);
                sessions.get(place).cloned().context("a session for each turn")
            };
            match turn % 6 {
                0 => forged(preparation, &of(&unpaid)?),
                1 => {
                    let place = (turn / 6) % overheard.len().max(1);
                    Ok(Job::Send(overheard.get(place).context("a purchase for each turn")?.again()))
                }
                2 => over_cap(preparation, &of(&capped)?),
                _ => one_read(preparation, flood.first().context("a session to read")?),
            }
        })
        .collect()
}

/// Purchases that were made, as somebody on the way could have kept them.
async fn overhear(preparation: &Preparation, sessions: &[Session]) -> Result<Vec<Prepared>> {
    let jobs = preparation.complete_jobs(sessions, Proof::Key(Style::Rfc9421))?;
    let mut connection = preparation.target.connect().await?;
    let mut overheard = Vec::new();
    for job in jobs {
        let Job::Send(job) = job else { continue };
        connection.send(&job.wire).await?;
        // The one answer there is, or none any more.
        let again =
            Prepared { right: &[200, 429], contains: String::new(), reaches: None, charge: None, ..job };
        overheard.push(again);
    }
    Ok(overheard)
}

/// Sessions with tokens for one cent less than their total.
async fn capped(preparation: &Preparation) -> Result<Vec<Session>> {
    let sessions = Arc::new(preparation.sessions(OVERHEARD).await?);
    let mut connection = preparation.target.connect().await?;
    let mut capped = Vec::new();
    for (turn, session) in sessions.iter().enumerate() {
        let agent = preparation.everyone.agent(session.agent)?;
        let draft = mint(agent, turn, session, TOTAL - 1);
        let request = draft.sign(agent, &preparation.target.authority, Proof::Key(preparation.style))?;
        let answer = connection.send(&preparation.target.write(&request)?).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let token = answer.get("id").and_then(serde_json::Value::as_str).context("a token")?;
        capped.push(Session { token: Some(token.to_owned()), ..session.clone() });
    }
    Ok(capped)
}

fn refused(
    preparation: &Preparation,
    request: &crate::request::Request,
    right: &'static [u16],
) -> Result<Job> {
    let wire = preparation.target.write(request)?;
    Ok(Job::Send(Prepared { wire, right, contains: String::new(), reaches: None, charge: None }))
}

fn forged(preparation: &Preparation, session: &Session) -> Result<Job> {
    let agent = preparation.everyone.agent(session.agent)?;
    let token = session.token.as_deref().context("a session without a token")?;
    let draft = complete(&session.merchant, &session.id, token);
    let mut request = draft.sign(agent, &preparation.target.authority, Proof::Key(Style::Rfc9421))?;
    // Another request's signature: well-formed, of the same key, and not of this.
    let other = complete(&session.merchant, &session.id, token);
    let other = other.sign(agent, &preparation.target.authority, Proof::Key(Style::Rfc9421))?;
    if let Some(signature) = other.headers.get("signature") {
        request.headers.insert("signature", signature.clone());
    }
    refused(preparation, &request, &[401, 429])
}

fn over_cap(preparation: &Preparation, session: &Session) -> Result<Job> {
    let agent = preparation.everyone.agent(session.agent)?;
    let token = session.token.as_deref().context("a session without a token")?;
    let draft = complete(&session.merchant, &session.id, token);
    let request = draft.sign(agent, &preparation.target.authority, Proof::Key(Style::Rfc9421))?;
    refused(preparation, &request, &[422, 429])
}

fn one_read(preparation: &Preparation, session: &Session) -> Result<Job> {
    let agent = preparation.everyone.agent(session.agent)?;
    let draft = get(&session.merchant, &session.id);
    let request = draft.sign(agent, &preparation.target.authority, Proof::Key(Style::Unsigned))?;
    refused(preparation, &request, &[200, 429])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_what_they_are_said_to_be() {
        let count = |kind| SHARES.iter().filter(|share| **share == kind).count();
        let counts = [Scenario::Get, Scenario::Create, Scenario::Delegate, Scenario::Complete].map(count);
        assert_eq!(counts, [10, 4, 3, 3]);
    }
}
