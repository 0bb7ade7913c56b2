//! Everything that can be done with secrets, right and wrong. Every answer to an agent is kept.

use countersign::quickstart::agent::{Agent, Call, Prepared};
use countersign::quickstart::client::Answer;
use countersign::quickstart::shop::{Behaviour, CallKind};
use http::Method;
use serde_json::{Value, json};

use super::needles::{CARDS, CRYPTOGRAM, CVC, HOLDER, NETWORK_TOKEN};
use crate::wire::{Raw, exchange};
use crate::world::collector::{Collector, Mood};
use crate::world::*;

const MINT: &str = "/agentic_commerce/delegate_payment";

/// A world and every answer that agents received.
pub struct Driven {
    pub world: World,
    pub alpha: Agent,
    pub beta: Agent,
    /// Is told of every request.
    pub collector: Collector,
    pub answers: Vec<(String, Vec<u8>)>,
    /// Ids of tokens.
    pub tokens: Vec<String>,
}

/// A mint with all secrets in it.
pub fn secret_mint(card: &str, session: &str, amount: u64) -> Value {
    let mut mint = mint_request(card, "acct_lamps", session, amount);
    mint["payment_method"]["name"] = json!(HOLDER);
    mint["payment_method"]["cvc"] = json!(CVC);
    mint
}

/// A mint of a network token.
pub fn network_mint(session: &str, amount: u64) -> Value {
    let mut mint = secret_mint(NETWORK_TOKEN, session, amount);
    mint["payment_method"]["card_number_type"] = json!("network_token");
    mint["payment_method"]["cryptogram"] = json!(CRYPTOGRAM);
    mint["payment_method"]["eci_value"] = json!("07");
    mint
}

impl Driven {
    pub async fn start() -> Self {
        let agent = "live_tokens_per_session = 3\n".to_owned();
        let collector = Collector::open(Mood::Takes).await;
        let options = Options { agent, collector: Some(collector.port), ..Options::default() };
        let world = World::with(options).await;
        let (alpha, beta) = (world.alpha(), world.beta());
        Self { world, alpha, beta, collector, answers: Vec::new(), tokens: Vec::new() }
    }

    /// Keeps an answer, head and body.
    pub fn keep(&mut self, name: &str, answer: &Answer) {
        let head = format!("{} {:?}", answer.status, answer.headers);
        self.answers.push((name.to_owned(), [head.as_bytes(), &answer.body].concat()));
    }

    /// Sends a call and keeps its answer.
    pub async fn send(&mut self, name: &str, status: u16, call: impl FnOnce(&Agent) -> Call<'_>) -> Answer {
        let agent = self.alpha.clone();
        let answer = call(&agent).send().await.unwrap();
        assert_eq!(answer.status, status, "{name}: {}", answer.json());
        self.keep(name, &answer);
        answer
    }

    /// Sends bytes and keeps the answer.
    async fn send_raw(&mut self, name: &str, status: u16, raw: &Raw) {
        let received = exchange(&self.world, &raw.bytes()).await;
        assert_eq!(received.status, Some(status), "{name}: {}", received.json());
        let head = format!("{:?}", received.headers);
        self.answers.push((name.to_owned(), [head.as_bytes(), &received.body].concat()));
    }

    /// A session, and a token for it.
    pub async fn tokened(&mut self, card: &str) -> (String, String) {
        let (session, total) = create(&self.alpha.clone(), "lamps").await;
        let mint = if card == NETWORK_TOKEN {
            network_mint(&session, total)
        } else {
            secret_mint(card, &session, total)
        };
        let minted = self.send("a mint", 201, |agent| agent.post(MINT, &mint)).await;
        let token = minted.text("/id").unwrap();
        self.tokens.push(token.clone());
        (session, token)
    }

    pub async fn complete(&mut self, session: &str, token: &str) -> Answer {
        let agent = self.alpha.clone();
        let answer = complete(&agent, "lamps", session, token).await;
        self.keep("a complete", &answer);
        answer
    }

    /// Every route as it should be used.
    pub async fn good(&mut self) {
        for card in [CARDS[0], CARDS[2], CARDS[5]] {
            let (session, token) = self.tokened(card).await;
            self.send("issued", 200, |a| a.get(format!("/agentic_commerce/issued_tokens/{token}"))).await;
            let completed = self.complete(&session, &token).await;
            assert_eq!(completed.text("/status").as_deref() == Some("completed"), card != CARDS[5]);
            let path = format!("/m/lamps/checkout_sessions/{session}");
            self.send("a session", 200, |a| a.get(path)).await;
        }
        let (session, token) = self.tokened(CARDS[1]).await;
        let path = format!("/m/lamps/checkout_sessions/{session}");
        self.send("an update", 200, |a| a.post(path.as_str(), &json!({"buyer": {"email": "a@example.com"}})))
            .await;
        let revoke = format!("/agentic_commerce/issued_tokens/{token}/revoke");
        self.send("a revoke", 200, |a| a.call(Method::POST, revoke)).await;
        self.send("a cancel", 200, |a| a.call(Method::POST, format!("{path}/cancel"))).await;
        let items = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
        let cart = self.send("a cart", 201, |a| a.post("/m/lamps/carts", &items)).await.text("/id").unwrap();
        self.send("a cart again", 200, |a| a.get(format!("/m/lamps/carts/{cart}"))).await;
        for well_known in ["jwks.json", "acp.json", "http-message-signatures-directory"] {
            self.send(well_known, 200, |a| a.get(format!("/.well-known/{well_known}"))).await;
        }
        // A network token the shop cannot charge: it reads funding cards only.
        let (session, token) = self.tokened(NETWORK_TOKEN).await;
        self.complete(&session, &token).await;
    }

    /// Mints that fail, at each check there is.
    pub async fn bad_mints(&mut self) {
        let (session, total) = create(&self.alpha.clone(), "lamps").await;
        let good = secret_mint(CARDS[3], &session, total);
        let changed = |pointer: &str, value: Value| {
            let mut mint = good.clone();
            *mint.pointer_mut(pointer).unwrap() = value;
            mint
        };
        let mut unknown = good.clone();
        unknown["payment_method"][CARDS[3]] = json!(CARDS[3]);
        let network = network_mint("cs_nobody", total);
        for (name, status, mint) in [
            ("a checksum", 422, changed("/payment_method/number", json!(CARDS[6]))),
            ("a number in groups", 422, changed("/payment_method/number", json!("4012 8888 8888 1881"))),
            ("a member named like a card", 400, unknown),
            ("a long code", 400, changed("/payment_method/cvc", json!(format!("{CVC}{CVC}")))),
            ("an expired card", 422, changed("/payment_method/exp_year", json!("2020"))),
            ("a card for a currency", 400, changed("/allowance/currency", json!(CARDS[3]))),
            (
                "a card for an amount",
                422,
                changed("/allowance/max_amount", json!(6_011_000_990_139_424_000_u64)),
            ),
            ("a card for a merchant", 422, changed("/allowance/merchant_id", json!(CARDS[3]))),
            ("a card for a session", 422, changed("/allowance/checkout_session_id", json!(CARDS[3]))),
            ("a card for a date", 400, changed("/allowance/expires_at", json!(CARDS[3]))),
            ("a session of nobody", 422, network),
            ("what the agent blocks", 403, changed("/risk_signals/0/action", json!("blocked"))),
        ] {
            self.send(name, status, |agent| agent.post(MINT, &mint)).await;
        }
        self.send("unsigned", 401, |agent| agent.post(MINT, &good).unsigned()).await;
        self.send("no key", 400, |agent| agent.post(MINT, &good).without_key()).await;
        self.send("no version", 400, |agent| agent.post(MINT, &good).without("api-version")).await;
        let encoded =
            |agent: &Agent| agent.post(MINT, &good).header("content-encoding", "gzip").prepare().unwrap();
        self.send_prepared("an encoding", 415, encoded).await;
        let cut = good.to_string().into_bytes()[..120].to_vec();
        self.send("cut off", 400, |agent| agent.post(MINT, &Value::Null).body(cut)).await;
        let mut large = good.to_string().into_bytes();
        large.resize((1 << 20) + 1, b' ');
        self.send("too large", 413, |agent| agent.post(MINT, &Value::Null).body(large)).await;
        self.send("a key's first card", 201, |agent| agent.post(MINT, &good).key("k-1")).await;
        let other = changed("/payment_method/number", json!(CARDS[4]));
        self.send("a key's second card", 422, |agent| agent.post(MINT, &other).key("k-1")).await;
        self.send("its first again", 201, |agent| agent.post(MINT, &good).key("k-1")).await;
        for _ in 0..2 {
            self.send("one more", 201, |agent| agent.post(MINT, &good)).await;
        }
        self.send("one too many", 429, |agent| agent.post(MINT, &good)).await;
        let beta = self.beta.clone();
        let theirs = beta.post(MINT, &good).send().await.unwrap();
        assert_eq!(theirs.status, 422);
        self.keep("another agent", &theirs);
    }

    async fn send_prepared(&mut self, name: &str, status: u16, prepare: impl FnOnce(&Agent) -> Prepared) {
        let prepared = prepare(&self.alpha.clone());
        self.send_raw(name, status, &Raw::of(&prepared)).await;
    }

    /// Cards where no card belongs. What an agent is told back at its own word, its idempotency key
    /// and its request id, is not looked at; everything else of the answer is.
    pub async fn misplaced(&mut self) {
        let (session, _) = create(&self.alpha.clone(), "lamps").await;
        let card = CARDS[4];
        for (name, status, path) in [
            ("a session named like a card", 404, format!("/m/lamps/checkout_sessions/{card}")),
            ("a merchant named like a card", 404, format!("/m/{card}/checkout_sessions/a")),
            ("a token named like a card", 404, format!("/agentic_commerce/issued_tokens/{card}")),
            ("a cart named like a card", 404, format!("/m/lamps/carts/{card}")),
            ("a path named like a card", 404, format!("/{card}")),
            ("a card in a query", 400, format!("/m/lamps/checkout_sessions/{session}?card={card}")),
        ] {
            self.send(name, status, |agent| agent.get(path)).await;
        }
        let path = format!("/m/lamps/checkout_sessions/{session}");
        let read = |agent: &Agent| agent.get(path.as_str()).prepare().unwrap();
        let prepared = read(&self.alpha);
        for (name, header, value, status) in [
            ("a credential", "authorization", format!("Bearer {card}"), 401),
            ("a host", "host", card.to_owned(), 421),
            ("a version", "api-version", card.to_owned(), 400),
            ("a language", "accept-language", card.to_owned(), 200),
            ("an agent", "user-agent", format!("card/{card}"), 200),
            ("a trace", "traceparent", format!("00-{card}{card}-{card}-01"), 200),
            ("a trace's state", "tracestate", format!("card={card}"), 200),
            ("a forwarder", "forwarded", format!("for={card}"), 200),
            ("a signature", "signature", format!("sig1=:{card}:"), 401),
            ("an input", "signature-input", format!("sig1=();keyid=\"{card}\""), 401),
        ] {
            self.send_raw(name, status, &Raw::of(&prepared).set(header, value)).await;
        }
        for (name, status, body) in [
            ("a card for a token", 422, json!({"payment_token": card})),
            (
                "a card beside no token",
                422,
                json!({"payment_data": {"instrument": {"number": card, "cvc": CVC}}}),
            ),
        ] {
            self.send(name, status, |a| a.post(format!("{path}/complete"), &body)).await;
        }
        let mut order = lamp_order();
        order["note"] = json!(format!("{card} cvc {CVC}"));
        let agent = self.alpha.clone();
        for call in [
            agent.post("/m/lamps/checkout_sessions", &order).key(card),
            agent.post("/m/lamps/checkout_sessions", &order).header("request-id", card),
            agent.get(path.as_str()).header("request-id", format!("{card}-1")),
        ] {
            assert!(call.send().await.unwrap().status.is_success());
        }
        // In the log of a merchant's doubt too: the answer is lost, and reconciled.
        let (session, token) = self.tokened(CARDS[4]).await;
        self.world.lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
        let lost = self.complete(&session, &token).await;
        assert!(lost.status.is_server_error(), "{}", lost.json());
    }

    /// Credentials where none belong.
    pub async fn credentials(&mut self) {
        let credentials = [self.world.credentials().remove(1), self.world.redeemer.expose().to_owned()];
        let path = "/m/lamps/checkout_sessions";
        for credential in credentials {
            let prepared = self.alpha.post(path, &lamp_order()).prepare().unwrap();
            for (name, status, header, value) in [
                ("another scheme", 401, "authorization", format!("Basic {credential}")),
                ("no scheme", 401, "authorization", credential.clone()),
                ("a user", 400, "host", format!("{credential}@{GATEWAY}")),
                ("a host", 421, "host", format!("{credential}.test")),
            ] {
                self.send_raw(name, status, &Raw::of(&prepared).set(header, value)).await;
            }
            self.send("a path", 404, |agent| agent.get(format!("/{credential}"))).await;
            self.send("a token", 404, |agent| {
                agent
                    .get(format!("/agentic_commerce/granted_tokens/{credential}"))
                    .without("authorization")
                    .header("authorization", "Bearer x")
            })
            .await;
        }
    }
}
