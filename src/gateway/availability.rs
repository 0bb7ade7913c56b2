//! Whether a merchant can be asked for anything new: asked before anything begins.
//!
//! Learnt from what comes of requests, and where nobody reads from a merchant, from connecting to it.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::RETRY_AFTER;
use tokio::task::JoinSet;

use super::call::Call;
use super::parts::Desk;
use super::refusal::Refusal;
use crate::domain::base_url::BaseUrl;
use crate::domain::id::MerchantId;
use crate::limit::breaker::{Asked, Asking, Breakers, Change, Report, Sign, Slowed, Standing};
use crate::merchant::{Exchange, Lost, Merchants, Outbound};
use crate::registry::Merchant;
use crate::telemetry::log::{Level, Value};

/// How often merchants that are to be connected to are looked for.
const TICK: Duration = Duration::from_secs(1);
/// The wait of a 429 that names none.
const UNTOLD_WAIT: Duration = Duration::from_secs(1);

/// What is known of merchants, and who finds out more.
pub(super) struct Availability {
    pub breakers: Breakers,
    pub merchants: Arc<Merchants>,
    pub desk: Arc<Desk>,
}

/// Connects to merchants that nobody reads from, until shutdown begins; with what is known under whichever
/// configuration runs then, which `current` tells.
pub(super) async fn look_after(current: impl Fn() -> Arc<Availability>) {
    let desk = Arc::clone(&current().desk);
    let mut tick = tokio::time::interval(TICK);
    let mut looking = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = desk.drain.begun() => return,
        }
        while looking.try_join_next().is_some() {}
        let available = current();
        for (merchant, url) in available.breakers.to_look_at(desk.clock.steady()) {
            let available = Arc::clone(&available);
            looking.spawn(async move { available.look_at(&merchant, &url).await });
        }
    }
}

impl Availability {
    /// Before anything new begins at a merchant.
    ///
    /// # Errors
    /// What is sent there now would be lost.
    pub(super) fn refuse_unavailable(&self, merchant: &Merchant) -> Result<(), Refusal> {
        match self.breakers.standing(&merchant.id) {
            Standing::Closed | Standing::HalfOpen => Ok(()),
            Standing::Open(until) => Err(Refusal::MerchantUnavailable(until.since(self.desk.clock.steady()))),
        }
    }

    /// Whether nothing may be charged there before a read was answered.
    pub(super) fn is_on_trial(&self, merchant: &Merchant, url: &BaseUrl) -> bool {
        self.breakers.standing_at(&merchant.id, url) != Standing::Closed
    }

    /// By how much such calls are to slow down at a merchant.
    pub(super) fn slowed(&self, merchant: &Merchant, call: &Call) -> Option<Slowed> {
        self.breakers.slowed(&merchant.id, &call.agent.id, call.is_signed(), &*self.desk.clock)
    }

    /// What came of a request to this base URL; `call` is what it was sent for, where that was one, and
    /// `under_way` counts its agent's requests there.
    pub(super) fn came(
        &self,
        merchant: &MerchantId,
        url: &BaseUrl,
        asked: Asked,
        call: Option<&Call>,
        exchange: &Exchange,
        under_way: impl FnOnce() -> u32,
    ) {
        let Some(sign) = sign(exchange, call.is_some_and(Call::is_signed), under_way) else { return };
        let agent = call.map(|call| &call.agent.id);
        let change = self.breakers.note(merchant, url, &Report { agent, asked, sign }, &*self.desk.clock);
        self.tell_change(merchant, url, change);
    }

    async fn look_at(&self, merchant: &MerchantId, url: &BaseUrl) {
        let is_reached = self.merchants.reach(merchant, url).await;
        let change = self.breakers.looked(merchant, url, is_reached, self.desk.clock.steady());
        self.tell_change(merchant, url, change);
    }

    fn tell_change(&self, merchant: &MerchantId, url: &BaseUrl, change: Option<Change>) {
        let Some(change) = change else { return };
        let (metrics, log) = (self.desk.observer.metrics(), self.desk.observer.log());
        let id = ("merchant", Value::from(merchant));
        let url = ("base_url", Value::Message(url.to_string()));
        match change {
            Change::Opened(cause) => {
                metrics.breaker_opened(merchant, cause.as_str());
                log.event(
                    Level::Warn,
                    "merchant_unavailable",
                    &[id, ("cause", Value::Text(cause.as_str())), url],
                );
            }
            Change::Closed(open_for) => {
                log.event(
                    Level::Info,
                    "merchant_available",
                    &[id, ("after", Value::Duration(open_for)), url],
                );
            }
            Change::HalfOpened | Change::Reopened => {}
        }
        self.show_standings();
    }

    /// Tells a scrape how every merchant's breaker stands.
    pub(super) fn show_standings(&self) {
        let standings = self.breakers.standings().map(|(merchant, standing)| {
            let state = match standing {
                Standing::Closed => 0,
                Standing::HalfOpen => 1,
                Standing::Open(_) => 2,
            };
            (merchant, state)
        });
        self.desk.observer.metrics().breakers_stand(standings);
    }
}

/// What a request asks of a merchant.
pub(super) fn asked(outbound: &Outbound) -> Asked {
    match outbound.context.complete {
        Some(_) => Asked::Complete,
        None if outbound.method == Method::GET => Asked::Read,
        None => Asked::Change,
    }
}

/// What an exchange says of its merchant; `None` where it says nothing, or is of our own making.
fn sign(exchange: &Exchange, is_signed: bool, under_way: impl FnOnce() -> u32) -> Option<Sign> {
    match exchange {
        Exchange::Answered(answer) => Some(match answer.status.as_u16() {
            429 => {
                let told =
                    answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                let wait = told.map_or(UNTOLD_WAIT, Duration::from_secs);
                Sign::Busy(Asking { wait, took: answer.elapsed, under_way: under_way(), is_signed })
            }
            500..=599 => Sign::Failing,
            // What it refuses is somebody else's fault.
            _ => Sign::Answered,
        }),
        Exchange::NotSent(reason) => reason.is_unreached().then_some(Sign::Unreachable),
        Exchange::Lost(reason) => match reason {
            Lost::Timeout | Lost::SlowBody => Some(Sign::Late),
            Lost::Alerted(_) => Some(Sign::Unreachable),
            Lost::Reset | Lost::Malformed | Lost::Truncated => Some(Sign::Failing),
            // Somebody answers.
            Lost::TooLarge | Lost::Undecodable | Lost::Misplaced => Some(Sign::Answered),
        },
    }
}
