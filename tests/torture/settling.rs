//! What is done when all is over, until every operation is answered for good.
//!
//! Every operation is repeated until it is answered for good, nothing is held any more, and the gateway
//! is asked what it knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::buyers::Buyers;
use crate::flap::Flap;
use crate::merchants::TOO_LONG;
use crate::notebook::{Meaning, Request, asked_to_wait};

/// How long it may take: more than the grace period, after which a complete that never arrived is
/// given up, and the pauses between looks at it.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a repeat.
const PAUSE: Duration = Duration::from_millis(500);
/// Requests under way at once.
const AT_ONCE: usize = 64;
/// Operations waited for at once: most of them wait for their grace period to end.
const WAITED_FOR: usize = 1000;

impl Buyers {
    /// Settles everything. Returns how long it took from the last fault, from when every merchant behaves
    /// well, until every operation was answered for good.
    pub async fn settle(&self) -> Duration {
        let calm = Instant::now();
        self.town.flaps.iter().for_each(Flap::calm);
        for merchant in &self.town.merchants {
            merchant.shop.behave_well();
        }
        for gateway in self.town.gateways.lock().await.iter_mut() {
            if let Err(problem) = gateway.ready().await {
                self.notebook.odd(problem);
            }
        }
        let mut clerks = std::mem::take(&mut *self.clerks.lock());
        while clerks.join_next().await.is_some() {}
        // What a merchant does when nobody waits for it any more it has done by then.
        tokio::time::sleep(TOO_LONG).await;
        self.decide_everything().await;
        let (open, settled) = self.notebook.requests();
        self.repeat_all(open, WAITED_FOR).await;
        let took = calm.elapsed();
        self.repeat_all(settled, AT_ONCE).await;
        self.look_at_sessions().await;
        self.look_at_tokens().await;
        let charges = self.town.merchants.iter().flat_map(|merchant| merchant.charges()).collect();
        self.notebook.change(|facts| facts.charges = charges);
        for gateway in self.town.gateways.lock().await.iter_mut() {
            if let Some(status) = gateway.exited() {
                self.notebook.odd(format!("a gateway ended by itself, {status}"));
            }
        }
        took
    }

    async fn repeat_all(&self, requests: Vec<Request>, at_once: usize) {
        self.for_all(requests, at_once, |buyers, request| async move { buyers.repeat(&request).await }).await;
    }

    /// The merchants' people decide about what is still pending: an agent that was not told so handed
    /// it to nobody.
    async fn decide_everything(&self) {
        for (id, session) in self.notebook.sessions() {
            let merchant = self.town.merchants.iter().find(|merchant| merchant.id == session.merchant);
            if id.as_bytes().last().is_some_and(|last| last % 2 == 0) {
                merchant.unwrap().shop.approve(&id).await;
            } else {
                merchant.unwrap().shop.refuse(&id).await;
            }
        }
    }

    /// Repeats an operation until it is answered for good.
    async fn repeat(&self, request: &Request) {
        let end = Instant::now() + PATIENCE;
        let mut gateway = request.key.len() % self.town.agents.len();
        while Instant::now() < end {
            gateway = (gateway + 1) % self.town.agents.len();
            let mut pause = PAUSE;
            if let Some(answer) = self.send(request, gateway, ANSWERS_WITHIN).await {
                if let Meaning::Settled(_) = self.notebook.answered(request, &answer, true) {
                    return;
                }
                pause = pause.max(asked_to_wait(&answer));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn look_at_sessions(&self) {
        self.for_all(self.notebook.sessions(), AT_ONCE, |buyers, (id, session)| async move {
            let path = format!("/m/{}/checkout_sessions/{id}", session.merchant);
            let status = buyers.read(session.agent, &path).await;
            buyers.notebook.change(|facts| facts.sessions.get_mut(&id).unwrap().status = status);
        })
        .await;
    }

    /// Asks for each token until it is not held any more.
    async fn look_at_tokens(&self) {
        let tokens: Vec<_> = self
            .notebook
            .change(|facts| facts.tokens.iter().map(|(id, token)| (id.clone(), token.clone())).collect());
        self.for_all(tokens, AT_ONCE, |buyers, (id, token)| async move {
            let end = Instant::now() + PATIENCE;
            let standing = loop {
                let standing =
                    buyers.read(token.agent, &format!("/agentic_commerce/issued_tokens/{id}")).await;
                if standing.as_deref() != Some("claimed") || Instant::now() > end {
                    break standing;
                }
                // What the session shows may end the claim.
                let session = format!("/m/{}/checkout_sessions/{}", token.merchant, token.session);
                buyers.read(token.agent, &session).await;
                tokio::time::sleep(PAUSE).await;
            };
            buyers.notebook.change(|facts| facts.tokens.get_mut(&id).unwrap().standing = standing);
        })
        .await;
    }

    /// The `status` that a GET shows; `None` when there is no such thing.
    async fn read(&self, agent: usize, path: &str) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut gateways = self.town.agents.iter().cycle();
        loop {
            let agent = &gateways.next()?[agent];
            let sent = tokio::time::timeout(ANSWERS_WITHIN, agent.get(path).send()).await;
            let mut pause = PAUSE;
            if let Ok(Ok(answer)) = sent {
                match answer.status.as_u16() {
                    200 => return answer.text("/status"),
                    404 => return None,
                    _ => pause = pause.max(asked_to_wait(&answer)),
                }
            }
            if Instant::now() > end {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Does something with each, many at once.
    async fn for_all<T, F>(&self, all: Vec<T>, at_once: usize, each: impl Fn(Self, T) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(at_once));
        let mut tasks = JoinSet::new();
        for one in all {
            let permit = Arc::clone(&room).acquire_owned().await.unwrap();
            let work = each(self.clone(), one);
            tasks.spawn(async move {
                work.await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}
