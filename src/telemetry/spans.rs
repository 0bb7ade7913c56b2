//! What one request spent its time on, as the spans of a trace, where somebody collects them.
//!
//! Without a collector a trail has no spans, and nothing is timed, drawn or kept. With one each request draws its
//! ids and notes its stages; whether they are told is settled at its end (`tracer.rs`), because a failure always is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::Method;
use parking_lot::Mutex;

use super::line::Identifier;
use super::trace::{SpanId, TraceId, TraceParent};
use super::tracer::Tracer;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, MerchantId};

/// More stages than any request has; what comes after is left out.
const MOST_STAGES: usize = 64;

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Whose request it is, its head and its body.
    Admit,
    /// Its signature.
    Verify,
    /// Rates.
    Limit,
    /// A look at what is known of its session, token and key.
    Look,
    /// Fraud rules.
    Rules,
    /// A token is drawn and written.
    Mint,
    /// A claim is begun.
    Claim,
    /// A request to a merchant.
    Upstream,
    /// A claim is settled.
    Settle,
    /// A merchant fetches a card.
    Redeem,
}

impl Stage {
    /// The span's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Verify => "verify",
            Self::Limit => "limit",
            Self::Look => "look",
            Self::Rules => "rules",
            Self::Mint => "mint",
            Self::Claim => "claim",
            Self::Upstream => "upstream",
            Self::Settle => "settle",
            Self::Redeem => "redeem",
        }
    }
}

/// A stage that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What it was.
    pub stage: Stage,
    /// Its id.
    pub id: SpanId,
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The merchant's status, of a request to it.
    pub status: Option<u16>,
    /// Why that came to nothing.
    pub cause: Option<&'static str>,
    /// What was asked of whom, of a request to a merchant.
    pub asked: Option<Box<Asked>>,
}

/// A request to a merchant, as far as a span says.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// The host of the merchant's base URL.
    pub server: String,
    /// Its port.
    pub port: u16,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its route.
    pub route: &'static str,
    /// The answer's status; `None` where the client hung up.
    pub status: Option<u16>,
    /// What was decided.
    pub decision: &'static str,
    /// Why it failed.
    pub cause: Option<&'static str>,
    /// Whether it is logged as a failure.
    pub is_failure: bool,
    /// Who asked.
    pub agent: Option<AgentId>,
    /// Of whom.
    pub merchant: Option<MerchantId>,
    /// Its id.
    pub request_id: Option<Identifier>,
    /// When it was answered.
    pub ended: Instant,
}

/// Where a request stands among others.
#[derive(Clone, Copy, Debug, Default)]
pub enum Lineage {
    /// It named no parent.
    #[default]
    Own,
    /// It named one that counts: what it says of sampling is a wish.
    Honoured(TraceParent),
    /// It named one that is passed on, and only linked to.
    Passed(TraceParent),
}

/// A request's spans. Told, if they are, when the last who works on it has let go.
pub struct Spans {
    tracer: Tracer,
    began: Instant,
    at: Timestamp,
    trace_id: TraceId,
    first: u64,
    drawn: AtomicU64,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    lineage: Lineage,
    is_sampled: bool,
    template: Option<(&'static str, &'static str)>,
    ended: Vec<Ended>,
    outcome: Option<Outcome>,
}

/// A whole trace of one request, as it is told.
#[derive(Debug)]
pub struct Told {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span of the request itself.
    pub id: SpanId,
    /// Where it stands.
    pub lineage: Lineage,
    /// Its method, and its path with names in place of ids, where it is a route of ours.
    pub template: Option<(&'static str, &'static str)>,
    /// The instant by the clock of what `began` is by the process's.
    pub at: Timestamp,
    /// When it began.
    pub began: Instant,
    /// What it came to.
    pub outcome: Outcome,
    /// Its stages, in the order in which they ended.
    pub stages: Vec<Ended>,
}

impl Spans {
    /// A request begins. None where no ids can be drawn for it.
    pub(super) fn of_request(tracer: &Tracer, at: Timestamp) -> Option<Arc<Self>> {
        let drawn = tracer.draw()?;
        let mut trace_id = [0; 16];
        let mut first = [0; 8];
        trace_id.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        first.iter_mut().zip(drawn.into_iter().skip(16)).for_each(|(to, from)| *to = from);
        Some(Arc::new(Self {
            tracer: tracer.clone(),
            began: Instant::now(),
            at,
            trace_id: TraceId::of(trace_id),
            first: u64::from_be_bytes(first),
            drawn: AtomicU64::new(0),
            noted: Mutex::default(),
        }))
    }

    fn id(&self, number: u64) -> SpanId {
        SpanId::of(self.first.wrapping_add(number))
    }

    /// Where it stands, once it is known who asks; whether it is told however it ends is settled here.
    pub(super) fn stands(&self, lineage: Lineage) {
        let is_sampled = self.tracer.takes(&lineage, self.first);
        let mut noted = self.noted.lock();
        noted.lineage = lineage;
        noted.is_sampled = is_sampled;
    }

    /// What every request to its route looks like: its method, and its path with names in place of ids.
    pub(super) fn is_like(&self, template: (&'static str, &'static str)) {
        self.noted.lock().template = Some(template);
    }

    /// What it came to. The id of its trace, where that is told.
    pub(super) fn came_to(&self, outcome: Outcome) -> Option<TraceId> {
        let mut noted = self.noted.lock();
        let is_told = noted.is_sampled || outcome.is_failure;
        noted.outcome = Some(outcome);
        is_told.then(|| self.trace_of(&noted.lineage))
    }

    fn trace_of(&self, lineage: &Lineage) -> TraceId {
        match lineage {
            Lineage::Honoured(parent) => parent.trace_id(),
            Lineage::Own | Lineage::Passed(_) => self.trace_id,
        }
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        let Noted { lineage, is_sampled, template, ended, outcome } = std::mem::take(self.noted.get_mut());
        let Some(outcome) = outcome.filter(|outcome| is_sampled || outcome.is_failure) else { return };
        self.tracer.tell(Told {
            trace_id: self.trace_of(&lineage),
            id: self.id(0),
            lineage,
            template,
            at: self.at,
            began: self.began,
            outcome,
            stages: ended,
        });
    }
}

/// A stage that goes on until this is dropped; nothing where nobody collects.
#[must_use = "the stage ends when this is dropped"]
pub struct Span(Option<Open>);

struct Open {
    spans: Arc<Spans>,
    stage: Stage,
    id: SpanId,
    began: Instant,
    status: Option<u16>,
    cause: Option<&'static str>,
    asked: Option<Box<Asked>>,
}

impl Span {
    /// A stage begins.
    pub(super) fn begin(spans: Option<&Arc<Spans>>, stage: Stage) -> Self {
        Self(spans.map(|spans| Open {
            spans: Arc::clone(spans),
            stage,
            id: spans.id(spans.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1)),
            began: Instant::now(),
            status: None,
            cause: None,
            asked: None,
        }))
    }

    /// What tells a merchant that this is the parent of what it does. None where the agent's own is passed on.
    pub fn traceparent(&self) -> Option<TraceParent> {
        let open = self.0.as_ref()?;
        let noted = open.spans.noted.lock();
        match noted.lineage {
            Lineage::Passed(_) => None,
            Lineage::Own | Lineage::Honoured(_) => {
                let trace_id = open.spans.trace_of(&noted.lineage);
                Some(TraceParent::ours(trace_id, open.id, noted.is_sampled))
            }
        }
    }

    /// It is this request.
    pub fn asks(&mut self, asked: impl FnOnce() -> Asked) {
        if let Some(open) = &mut self.0 {
            open.asked = Some(Box::new(asked()));
        }
    }

    /// The merchant answered with this status, or it came to nothing for this reason.
    pub fn came(&mut self, status: Option<u16>, cause: Option<&'static str>) {
        if let Some(open) = &mut self.0 {
            open.status = status;
            open.cause = cause;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let asked = self.asked.take();
        let Self { stage, id, began, status, cause, .. } = *self;
        let mut noted = self.spans.noted.lock();
        if noted.ended.len() < MOST_STAGES {
            noted.ended.push(Ended { stage, id, began, ended: Instant::now(), status, cause, asked });
        }
    }
}
