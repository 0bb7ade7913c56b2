//! Makes jobs: sessions are created and tokens minted through the gateway itself, and everything is
//! signed, before a window is measured.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use countersign::domain::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::connection::Target;
use crate::drive::{Charge, Job, Prepared};
use crate::merchant::{Call, Ledger, TOTAL};
use crate::population::{Agent, Population};
use crate::request::{Draft, Proof, Style};

/// Connections that prepare at once.
const PREPARING: usize = 64;

/// A session of an agent, with a token for it where it was minted.
#[derive(Clone)]
pub struct Session {
    /// Whose, by number.
    pub agent: usize,
    /// At which merchant.
    pub merchant: String,
    /// Its id.
    pub id: String,
    /// A token for its total.
    pub token: Option<String>,
}

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

fn text(answer: &Value, place: &str) -> Result<String> {
    let text = answer.pointer(place).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {place} in {answer}"))?.to_owned())
}

fn path(merchant: &str, rest: &str) -> String {
    format!("/m/{merchant}/checkout_sessions{rest}")
}

fn buyer() -> Value {
    json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "phone_number": "+15551234567" })
}

fn address() -> Value {
    json!({
        "name": "Ada Lovelace", "line_one": "1 Main St", "line_two": "Apartment 7", "city": "Springfield",
        "state": "IL", "country": "US", "postal_code": "62701",
    })
}

/// A create.
pub fn create(merchant: &str) -> Draft {
    let body = json!({
        "line_items": [{ "id": "item_lamp", "quantity": 1 }],
        "currency": "usd",
        "capabilities": { "interventions": { "supported": ["3ds"] } },
        "buyer": buyer(),
        "fulfillment_details": { "name": "Ada Lovelace", "email": "ada@example.com", "address": address() },
        "locale": "en-US",
    });
    Draft::post(path(merchant, ""), body.to_string())
}

/// A read of a session.
pub fn get(merchant: &str, session: &str) -> Draft {
    Draft::get(path(merchant, &format!("/{session}")))
}

/// A mint of a token for a session, of at most `amount`.
pub fn mint(agent: &Agent, turn: usize, session: &Session, amount: u64) -> Draft {
    let card = agent.cards.get(turn % agent.cards.len().max(1)).map_or("", String::as_str);
    let last4 = card.get(12..).unwrap_or_default();
    let expires = SystemClock.now().plus(Duration::from_secs(3600)).to_rfc3339();
    let body = json!({
        "payment_method": {
            "type": "card", "card_number_type": "fpan", "number": card, "exp_month": "11", "exp_year": "2032",
            "name": "Ada Lovelace", "cvc": "737", "display_card_funding_type": "credit", "display_brand": "visa",
            "display_last4": last4, "virtual": false, "metadata": { "issuing_bank": "First" },
        },
        "allowance": {
            "reason": "one_time", "max_amount": amount, "currency": "usd", "checkout_session_id": session.id,
            "merchant_id": session.merchant, "expires_at": expires,
        },
        "billing_address": address(),
        "risk_signals": [{ "type": "card_testing", "score": 5, "action": "authorized" }],
        "metadata": { "campaign": "q4" },
    });
    Draft::post("/agentic_commerce/delegate_payment".to_owned(), body.to_string())
}

/// A complete, 1.5 KB long.
pub fn complete(merchant: &str, session: &str, token: &str) -> Draft {
    let body = json!({
        "buyer": buyer(),
        "payment_data": {
            "handler_id": "card",
            "instrument": {
                "type": "card",
                "credential": { "type": "spt", "token": token },
            },
            "billing_address": address(),
        },
        "fulfillment_details": { "name": "Ada Lovelace", "email": "ada@example.com", "address": address() },
        "affiliate_attribution": {
            "provider": "impact.com", "token": "atp_01J8Z3WXYZ9ABC", "publisher_id": "pub_123", "touchpoint": "last",
            "issued_at": "2026-04-20T12:00:00Z", "expires_at": "2026-05-20T12:00:00Z",
            "source": { "type": "url", "url": "https://publisher.example/reviews/the-best-desk-lamps-of-the-year" },
            "metadata": { "sub_id": "fall_campaign", "placement": "assistant", "ratio": 0.125, "weight": 1e-7 },
        },
        "risk_signals": { "ip_address": "203.0.113.7", "user_agent": "ShoppingAgent/4.2 (+https://agent.example/about)",
            "accept_language": "en-US,en;q=0.9", "session_id": "5f2b3c4d-8e9f-4a1b-9c2d-3e4f5a6b7c8d",
            "device_fingerprint": "d41d8cd98f00b204e9800998ecf8427e5e8ff9bf55ba3508199d22e984129be6" },
        "marketing_consents": [
            { "channel": "email", "is_subscribed": true, "text": "Send me news about lamps, once a month at most." },
            { "channel": "sms", "is_subscribed": false, "text": "Send me a message when the parcel is on its way. – Größe" },
        ],
    });
    Draft::post(path(merchant, &format!("/{session}/complete")), body.to_string())
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
