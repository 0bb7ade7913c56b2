//! Where everybody writes down what they see.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use countersign::quickstart::client::Answer;
use parking_lot::Mutex;
use serde_json::Value;

use crate::facts::{Facts, Operation, Session, Token, Told, Verb};

/// An operation as it is sent, each time.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    /// Whose it is: an index into the agents of a gateway.
    pub agent: usize,
    pub key: String,
    pub path: String,
    pub body: Value,
    pub session: Option<String>,
    pub token: Option<String>,
}

/// What an answer means to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The operation is settled.
    Settled(Told),
    /// Something else is under way, or nothing was done: repeat.
    Later,
    /// Nobody knows the outcome: repeat with the same key.
    Unknown,
}

/// The notebook.
#[derive(Clone, Default)]
pub struct Notebook {
    facts: Arc<Mutex<Facts>>,
    requests: Arc<Mutex<BTreeMap<String, Request>>>,
    /// How often each status and code was answered.
    tally: Arc<Mutex<BTreeMap<(u16, String), usize>>>,
    /// How long creates took that succeeded, at merchants that stay where they are.
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Notebook {
    /// Notes an operation before it is first sent.
    pub fn opened(&self, request: &Request) {
        let operation = Operation {
            verb: request.verb,
            session: request.session.clone(),
            token: request.token.clone(),
            answers: Vec::new(),
            doubted: false,
            settled: false,
        };
        self.facts.lock().operations.insert(request.key.clone(), operation);
        self.requests.lock().insert(request.key.clone(), request.clone());
    }

    /// Notes an answer, and says what it means. When all is `over`, it is the last one.
    pub fn answered(&self, request: &Request, answer: &Answer, over: bool) -> Meaning {
        let code = answer.code().unwrap_or_default();
        *self.tally.lock().entry((answer.status.as_u16(), code.clone())).or_default() += 1;
        let meaning = read(request.verb, answer, &code);
        let mut facts = self.facts.lock();
        if let Some(oddity) = oddity(answer, &code) {
            facts.oddities.push(format!("{:?} {}: {oddity}", request.verb, request.key));
        }
        let operation = facts.operations.get_mut(&request.key).unwrap();
        match &meaning {
            Meaning::Settled(told) => {
                operation.answers.push(told.clone());
                operation.settled = over;
            }
            Meaning::Unknown => operation.doubted = true,
            Meaning::Later => {}
        }
        meaning
    }

    /// Notes how long a create took that succeeded.
    pub fn took(&self, time: Duration) {
        self.times.lock().push(time);
    }

    /// How long they took: the median, and what one in a hundred took.
    pub fn times(&self) -> Option<[Duration; 2]> {
        let mut times = self.times.lock().clone();
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied();
        Some([at(50)?, at(99)?])
    }

    /// Notes a session that was created.
    pub fn created(&self, id: &str, agent: usize, merchant: &str) {
        let session = Session { agent, merchant: merchant.to_owned(), status: None };
        self.facts.lock().sessions.insert(id.to_owned(), session);
    }

    /// Notes a token that was minted.
    pub fn minted(&self, id: &str, token: Token) {
        self.facts.lock().tokens.insert(id.to_owned(), token);
    }

    /// Notes something that should not be.
    pub fn odd(&self, what: String) {
        self.facts.lock().oddities.push(what);
    }

    /// Changes what is known.
    pub fn change<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(&mut self.facts.lock())
    }

    /// What is known.
    pub fn facts(&self) -> Facts {
        self.facts.lock().clone()
    }

    /// Every session that was created.
    pub fn sessions(&self) -> Vec<(String, Session)> {
        self.facts.lock().sessions.iter().map(|(id, session)| (id.clone(), session.clone())).collect()
    }

    /// Every operation that was ever sent: those that were never answered for good, and the others.
    pub fn requests(&self) -> (Vec<Request>, Vec<Request>) {
        let facts = self.facts.lock();
        let is_open = |request: &Request| facts.operations[&request.key].answers.is_empty();
        self.requests.lock().values().cloned().partition(is_open)
    }

    /// How often each status and code was answered.
    pub fn tally(&self) -> BTreeMap<(u16, String), usize> {
        self.tally.lock().clone()
    }
}

/// How long the sender is told to wait before it repeats; nothing when it is not told.
pub fn asked_to_wait(answer: &Answer) -> Duration {
    let seconds = answer.header("retry-after").and_then(|value| value.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// The code of the merchants' own errors.
const MERCHANT: &str = "told_to";

fn read(verb: Verb, answer: &Answer, code: &str) -> Meaning {
    match answer.status.as_u16() {
        // A revoke is answered with the token as it is now.
        200..=299 => Meaning::Settled(told(answer, verb != Verb::Revoke)),
        503 if code != "outcome_unknown" && code != MERCHANT => Meaning::Later,
        // Whatever stands in the way of an answer, or of knowing it.
        500..=599 | 408 => Meaning::Unknown,
        425 | 429 => Meaning::Later,
        409 if ["idempotency_in_flight", "checkout_session_busy", "token_in_use"].contains(&code) => {
            Meaning::Later
        }
        _ => Meaning::Settled(told(answer, code == MERCHANT)),
    }
}

fn told(answer: &Answer, binds: bool) -> Told {
    let mut digest = DefaultHasher::new();
    answer.body.hash(&mut digest);
    let status = answer.text("/status");
    Told {
        status: answer.status.as_u16(),
        body: digest.finish(),
        code: answer.code(),
        order: answer.text("/order/id"),
        waits: status.as_deref() == Some("pending_approval"),
        binds,
    }
}

/// What no agent that does nothing wrong may be answered.
fn oddity(answer: &Answer, code: &str) -> Option<String> {
    let status = answer.status.as_u16();
    let fine = match status {
        200..=299 | 404 | 408 | 409 | 429 | 502 | 503 | 504 => true,
        // A redirect of the merchant's, as the gateway tells it.
        300..=399 => false,
        // The merchant's own.
        402 | 500 => code == MERCHANT,
        // Tokens that were minted too small, spent or withdrawn, and totals that are unknown.
        422 => code != "idempotency_conflict",
        400 | 405 => code == "not_ready_for_payment" || code == "invalid_state",
        _ => false,
    };
    (!fine).then(|| format!("{status} {}", String::from_utf8_lossy(&answer.body)))
}
