//! Makes jobs before a window is measured: sessions, tokens, signatures.
//!
//! Sessions are created and tokens minted through the gateway itself, and everything is signed, before a
//! window is measured.

use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::acp::{Session, complete, create, get, mint, text};
use crate::connection::Target;
use crate::job::{Job, Prepared};
use crate::merchant::{Call, Ledger, TOTAL};
use crate::outcome::Charge;
use crate::population::{Agent, Population};
use crate::request::{Draft, Proof, Style};

/// Connections that prepare at once.
const PREPARING: usize = 64;

/// Prepares through one target.
#[derive(Clone)]
pub struct Preparation {
    /// Where.
    pub target: Target,
    /// By whom.
    pub everyone: Population,
    /// At this merchant, or at each in turn.
    pub merchant: Option<&'static str>,
    /// How requests are signed.
    pub style: Style,
}

impl Preparation {
    fn merchant(&self, turn: usize) -> Result<&str> {
        self.merchant.map_or_else(|| self.everyone.merchant(turn), Ok)
    }

    /// Creates so many sessions.
    ///
    /// # Errors
    /// When one is not created.
    pub async fn sessions(&self, count: usize) -> Result<Vec<Session>> {
        self.each(count, |this, turn| {
            let agent = this.everyone.agent(turn)?;
            let merchant = this.merchant(turn)?.to_owned();
            let draft = create(&merchant);
            let request = draft.sign(agent, &this.target.authority, Proof::Key(this.style))?;
            Ok((request, 201, move |answer: &Value| {
                let id = text(answer, "/id")?;
                Ok(Session { agent: turn % this.everyone.agents.len(), merchant, id, token: None })
            }))
        })
        .await
    }

    /// Mints a token for each session, good for its whole total.
    ///
    /// # Errors
    /// When one is not minted.
    pub async fn tokens(&self, sessions: Vec<Session>) -> Result<Vec<Session>> {
        let sessions = Arc::new(sessions);
        let all = Arc::clone(&sessions);
        self.each(sessions.len(), move |this, turn| {
            let session = all.get(turn).context("a session for each turn")?.clone();
            let agent = this.everyone.agent(session.agent)?;
            let draft = mint(agent, turn, &session, TOTAL);
            let request = draft.sign(agent, &this.target.authority, Proof::Key(this.style))?;
            Ok((request, 201, move |answer: &Value| {
                Ok(Session { token: Some(text(answer, "/id")?), ..session })
            }))
        })
        .await
    }

    /// Sends one request a turn and reads something from each answer.
    async fn each<T, R>(
        &self,
        count: usize,
        make: impl Fn(Arc<Self>, usize) -> Result<(crate::request::Request, u16, R)> + Send + Sync + 'static,
    ) -> Result<Vec<T>>
    where
        T: Send + 'static,
        R: FnOnce(&Value) -> Result<T> + Send,
    {
        let make = Arc::new(make);
        let mut workers = JoinSet::new();
        for first in 0..PREPARING.min(count) {
            let (this, make) = (Arc::new(self.clone()), Arc::clone(&make));
            workers.spawn(async move {
                let mut connection = this.target.connect().await?;
                let mut made = Vec::new();
                for turn in (first..count).step_by(PREPARING) {
                    let (request, status, read) = make(Arc::clone(&this), turn)?;
                    let answer = connection.send(&this.target.write(&request)?).await?;
                    if answer.status != status {
                        let said = String::from_utf8_lossy(&answer.body).into_owned();
                        bail!("{} {}: {} {said}", request.method, request.path, answer.status);
                    }
                    made.push((turn, read(&serde_json::from_slice(&answer.body)?)?));
                }
                Ok(made)
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(made) = workers.join_next().await {
            all.extend(made??);
        }
        all.sort_by_key(|(turn, _)| *turn);
        Ok(all.into_iter().map(|(_, made)| made).collect())
    }
}

/// Makes jobs on all cores, in order.
fn each_job(count: usize, make: impl Fn(usize) -> Result<Job> + Sync) -> Result<Vec<Job>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    let make = &make;
    thread::scope(|scope| {
        let parts: Vec<_> = (0..count)
            .step_by(share)
            .map(|first| {
                let turns = first..(first + share).min(count);
                scope.spawn(move || turns.map(make).collect::<Result<Vec<Job>>>())
            })
            .collect();
        let mut jobs = Vec::with_capacity(count);
        for part in parts {
            let Ok(part) = part.join() else { bail!("a thread that made jobs panicked") };
            jobs.append(&mut part?);
        }
        Ok(jobs)
    })
}

impl Preparation {
    fn job(
        &self,
        draft: Draft,
        agent: &Agent,
        proof: Proof<'_>,
        (right, contains): (&'static [u16], String),
        reaches: Option<Call>,
    ) -> Result<Job> {
        let request = draft.sign(agent, &self.target.authority, proof)?;
        Ok(Job::Send(Prepared { wire: self.target.write(&request)?, right, contains, reaches, charge: None }))
    }

    fn complete_job(&self, agent: &Agent, draft: Draft, session: &str, proof: Proof<'_>) -> Result<Job> {
        let charge = Charge { session: session.to_owned(), body: Ledger::digest(&draft.body) };
        let request = draft.sign(agent, &self.target.authority, proof)?;
        Ok(Job::Send(Prepared {
            wire: self.target.write(&request)?,
            right: &[200],
            contains: format!("ord_{session}"),
            reaches: Some(Call::Complete),
            charge: Some(charge),
        }))
    }

    /// Jobs that create sessions.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub fn create_jobs(&self, count: usize, proof: Proof<'_>) -> Result<Vec<Job>> {
        each_job(count, |turn| {
            let draft = create(self.merchant(turn)?);
            let right: (&'static [u16], _) = (&[201], "ready_for_payment".to_owned());
            self.job(draft, self.everyone.agent(turn)?, proof, right, Some(Call::Create))
        })
    }

    /// Jobs that mint a token for each of these sessions.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub fn delegate_jobs(&self, sessions: &[Session], proof: Proof<'_>) -> Result<Vec<Job>> {
        each_job(sessions.len(), |turn| {
            let session = sessions.get(turn).context("a session for each turn")?;
            let agent = self.everyone.agent(session.agent)?;
            let draft = mint(agent, turn, session, TOTAL);
            self.job(draft, agent, proof, (&[201], "\"id\":\"vt_".to_owned()), None)
        })
    }

    /// Jobs that complete these sessions.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub fn complete_jobs(&self, sessions: &[Session], proof: Proof<'_>) -> Result<Vec<Job>> {
        each_job(sessions.len(), |turn| {
            let session = sessions.get(turn).context("a session for each turn")?;
            let token = session.token.as_deref().context("a session without a token")?;
            let draft = complete(&session.merchant, &session.id, token);
            self.complete_job(self.everyone.agent(session.agent)?, draft, &session.id, proof)
        })
    }

    /// Jobs that complete sessions nobody created: for proxies that do not look, the same bytes on
    /// the wire. `series` keeps sessions of different windows apart.
    ///
    /// # Errors
    /// When one cannot be signed.
    pub fn bare_complete_jobs(&self, series: usize, count: usize, proof: Proof<'_>) -> Result<Vec<Job>> {
        each_job(count, |turn| {
            let session = format!("cs_b{series:03}{turn:07}");
            let token = format!("vt_{series:010}{turn:022}");
            let draft = complete(self.merchant(turn)?, &session, &token);
            self.complete_job(self.everyone.agent(turn)?, draft, &session, proof)
        })
    }

    /// Jobs that read sessions, each in turn.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn get_jobs(&self, sessions: &[Session], count: usize, proof: Proof<'_>) -> Result<Vec<Job>> {
        each_job(count, |turn| {
            let session = sessions.get(turn % sessions.len().max(1)).context("there are no sessions")?;
            let right: (&'static [u16], _) = (&[200], format!("\"id\":\"{}\"", session.id));
            let draft = get(&session.merchant, &session.id);
            self.job(draft, self.everyone.agent(session.agent)?, proof, right, Some(Call::Get))
        })
    }
}

/// Sessions nobody created, for proxies that do not look.
///
/// # Errors
/// Never: there are agents and merchants.
pub fn bare_sessions(preparation: &Preparation, count: usize) -> Result<Vec<Session>> {
    let sessions = (0..count).map(|turn| {
        let agent = turn % preparation.everyone.agents.len().max(1);
        let merchant = preparation.merchant(turn)?.to_owned();
        Ok(Session { agent, merchant, id: format!("cs_bare{turn:06}"), token: None })
    });
    sessions.collect()
}

/// The body of a complete, for benchmarks.
pub fn complete_body() -> Bytes {
    complete("shop", "cs_0000000001", "vt_0123456789abcdefghijklmnopqrstuv").body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_is_as_long_as_the_measurements_say() {
        let length = complete_body().len();
        assert!((1_450..1_650).contains(&length), "{length} bytes");
    }
}
