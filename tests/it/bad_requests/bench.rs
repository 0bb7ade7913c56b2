//! How a row of the tables is run: a good request is prepared, spoiled, sent as bytes and judged.

use bytes::Bytes;
use countersign::crypto::random;
use countersign::quickstart::agent::{Agent, Call};
use serde_json::Value;

use crate::wire::{Raw, Received, exchange};
use crate::world::*;

/// Which good request a row spoils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Creates a session.
    Create,
    /// Reads a session.
    Read,
    /// Mints a token.
    Mint,
    /// Completes a session with a token, each of the row's own.
    Complete,
}

impl Base {
    /// The status of the good request.
    pub const fn success(self) -> u16 {
        match self {
            Self::Create | Self::Mint => 201,
            Self::Read | Self::Complete => 200,
        }
    }
}

/// What must come back.
pub struct Expected {
    status: u16,
    /// None: no body at all, and the end of the connection.
    code: Option<&'static str>,
    param: Option<&'static str>,
    closed: bool,
}

/// A flat ACP error.
pub const fn refused(status: u16, code: &'static str) -> Expected {
    Expected { status, code: Some(code), param: None, closed: false }
}

/// A flat ACP error about a part of the body.
pub const fn refused_at(status: u16, code: &'static str, param: &'static str) -> Expected {
    Expected { status, code: Some(code), param: Some(param), closed: false }
}

/// A flat ACP error, and the end of the connection.
pub const fn closing(status: u16, code: &'static str) -> Expected {
    Expected { status, code: Some(code), param: None, closed: true }
}

/// No more than a status, because it is not HTTP, and the end of the connection.
pub const fn unreadable(status: u16) -> Expected {
    Expected { status, code: None, param: None, closed: true }
}

type Spoil = Box<dyn Fn(Raw, &Bench) -> Raw + Send + Sync>;

/// One bad request.
pub struct Row {
    name: String,
    base: Base,
    /// The body it is signed with, instead of the good one.
    body: Option<Bytes>,
    spoil: Spoil,
    expected: Expected,
}

/// A good request, spoiled after it was signed.
pub fn row(
    name: impl Into<String>,
    base: Base,
    spoil: impl Fn(Raw, &Bench) -> Raw + Send + Sync + 'static,
    expected: Expected,
) -> Row {
    Row { name: name.into(), base, body: None, spoil: Box::new(spoil), expected }
}

/// A well-signed request with this body.
pub fn signed(name: impl Into<String>, base: Base, body: impl Into<Bytes>, expected: Expected) -> Row {
    Row { name: name.into(), base, body: Some(body.into()), spoil: Box::new(|raw, _| raw), expected }
}

/// Where a good request goes.
pub struct Target {
    base: Base,
    session: String,
    body: Option<Value>,
}

impl Target {
    /// The good request.
    pub fn call<'a>(&self, bench: &'a Bench, key: &str) -> Call<'a> {
        let session = &self.session;
        let body = self.body.clone().unwrap_or_default();
        match self.base {
            Base::Create => bench.alpha.post("/m/lamps/checkout_sessions", &body).key(key),
            Base::Read => bench.alpha.get(format!("/m/lamps/checkout_sessions/{session}")),
            Base::Mint => bench.alpha.post("/agentic_commerce/delegate_payment", &body).key(key),
            Base::Complete => {
                bench.alpha.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &body).key(key)
            }
        }
    }
}

/// A world to be attacked.
pub struct Bench {
    pub world: World,
    pub alpha: Agent,
    pub beta: Agent,
    /// An open session of alpha's at the first shop.
    pub session: String,
    pub total: u64,
}

impl Bench {
    /// A world with lines of configuration of its own for the file's tables before the agents.
    pub async fn start(server: &str) -> Self {
        Self::with(Options { server: server.to_owned(), ..Options::default() }).await
    }

    pub async fn with(mut options: Options) -> Self {
        options.agent.insert_str(0, "live_tokens_per_session = 1000\n");
        let world = World::with(options).await;
        let (alpha, beta) = (world.alpha(), world.beta());
        let (session, total) = create(&alpha, "lamps").await;
        Self { world, alpha, beta, session, total }
    }

    /// A mint for the open session.
    pub fn mint(&self) -> Value {
        mint_request(GOOD_CARD, "acct_lamps", &self.session, self.total)
    }

    /// Where a good request goes, with what it needs.
    pub async fn target(&self, base: Base) -> Target {
        let session = self.session.clone();
        match base {
            Base::Create => Target { base, session, body: Some(lamp_order()) },
            Base::Read => Target { base, session, body: None },
            Base::Mint => Target { base, session, body: Some(self.mint()) },
            Base::Complete => {
                let (session, total) = create(&self.alpha, "lamps").await;
                let token = mint(&self.alpha, "lamps", &session, GOOD_CARD, total).await;
                Target { base, session, body: Some(payment(&token)) }
            }
        }
    }

    /// Runs a table; every row that is not as it says is named.
    pub async fn run(&self, rows: Vec<Row>) {
        let failures = self.failures(rows).await;
        assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
    }

    pub async fn failures(&self, rows: Vec<Row>) -> Vec<String> {
        let mut failures = Vec::new();
        for row in rows {
            if let Err(failure) = self.run_one(&row).await {
                failures.push(format!("{}: {failure}", row.name));
            }
        }
        failures
    }

    async fn run_one(&self, row: &Row) -> Result<(), String> {
        let key = fresh_key();
        let target = self.target(row.base).await;
        let mut call = target.call(self, &key);
        if let Some(body) = &row.body {
            call = call.body(body.clone());
        }
        let raw = (row.spoil)(Raw::of(&call.prepare().unwrap()), self);
        let before = self.calls();
        let received = exchange(&self.world, &raw.bytes()).await;
        judge(&received, &row.expected)?;
        self.unharmed(&target, &key, before).await
    }

    /// What must hold after a bad request with this key: no merchant was called since there had been
    /// so many calls, and the good request works as if there had been no other.
    pub async fn unharmed(&self, target: &Target, key: &str, calls: usize) -> Result<(), String> {
        if self.calls() != calls {
            return Err("a merchant was called".to_owned());
        }
        let good = target.call(self, key).send().await.unwrap();
        if good.status != target.base.success() || good.header("idempotent-replayed").is_some() {
            return Err(format!("afterwards the good request is {}: {}", good.status, good.json()));
        }
        Ok(())
    }

    /// Calls that merchants received.
    pub fn calls(&self) -> usize {
        self.world.lamps.calls().len() + self.world.books.calls().len()
    }
}

/// An idempotency key nobody has used.
pub fn fresh_key() -> String {
    random::base62(22).unwrap()
}

/// Whether an answer is as expected.
pub fn judge(received: &Received, expected: &Expected) -> Result<(), String> {
    if received.status != Some(expected.status) {
        return Err(format!("{:?} {}", received.status, received.json()));
    }
    if !received.more.is_empty() {
        return Err(format!("answered more than once: {}", String::from_utf8_lossy(&received.more)));
    }
    if expected.closed && !received.closed {
        return Err("the connection lives on".to_owned());
    }
    match expected.code {
        None if received.body.is_empty() => Ok(()),
        None => Err(format!("a body: {}", received.json())),
        Some(code) => judge_error(received, code, expected.param),
    }
}

/// An error of ACP is one flat object of known members, never cached, never anything else.
fn judge_error(received: &Received, code: &str, param: Option<&str>) -> Result<(), String> {
    let json = received.json();
    let Some(error) = json.as_object() else { return Err("no JSON object".to_owned()) };
    let known = ["type", "code", "message", "param", "supported_versions"];
    if let Some(other) = error.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("a member {other} in {json}"));
    }
    let kinds = ["invalid_request", "rate_limit_exceeded", "processing_error", "service_unavailable"];
    if !kinds.iter().any(|kind| json["type"] == *kind) || !json["message"].is_string() {
        return Err(format!("not an ACP error: {json}"));
    }
    if json["code"] != code {
        return Err(format!("the code {json}"));
    }
    if param.is_some_and(|param| json["param"] != param) {
        return Err(format!("the param {json}"));
    }
    if received.header("content-type") != Some("application/json") {
        return Err(format!("the media type {:?}", received.header("content-type")));
    }
    if received.header("cache-control") != Some("no-store") || received.header("request-id").is_none() {
        return Err(format!("the headers {:?}", received.headers));
    }
    Ok(())
}
