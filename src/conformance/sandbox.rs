//! Whether an agent does what ACP, and this gateway, ask of it: it buys at a sandbox merchant that fails as it is told.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::report::Level::Must;
use super::report::{Case, Met, Report, Whom, otherwise, skipped};
use crate::app::App;
use crate::domain::clock::{Clock, SystemClock};
use crate::quickstart::agent::quoted;
use crate::quickstart::certificates::Certificates;
use crate::quickstart::configuration::{LOOPBACK, MerchantEntry, Place, Workspace};
use crate::quickstart::shop::{Behaviour, CallKind, Canned, Shop};
use crate::quickstart::{choose_place, open_shop};

/// What the merchant is called.
const SANDBOX: &str = "sandbox";
/// How long the gateway waits for the head of its answers: short, so that nobody waits long for what is late.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// How long a call of the agent is left alone before it is called missing.
const QUIET: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Arguments of `conformance agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// All that was found as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway listens. Default: 127.0.0.1:8443, or a free port.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where the development certificates are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = "certs/dev")]
    pub certificates: PathBuf,
    /// How long the agent may take to open the next checkout.
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub patience: u64,
}

/// What the merchant does with the complete of a checkout, and what is expected of the agent.
struct Trial {
    case: Case,
    /// What becomes of the first complete.
    first: fn() -> Behaviour,
    judge: fn(&[Complete]) -> Met,
}

/// One complete, as the gateway logged it.
struct Complete {
    status: u64,
    decision: String,
}

const TRIALS: [Trial; 5] = [
    Trial {
        case: Case { name: "purchase", level: Must, expected: "it pays for a checkout" },
        first: || Behaviour::Good,
        judge: settled,
    },
    Trial {
        case: Case {
            name: "lost_answer",
            level: Must,
            expected: "the merchant's answer is lost: the same complete again, with the same key, until it is answered",
        },
        first: || Behaviour::ResetAfter,
        judge: came_again,
    },
    Trial {
        case: Case {
            name: "merchant_fails",
            level: Must,
            expected: "the merchant answers 503: the same complete again, with the same key, until it is answered",
        },
        first: || Behaviour::Instead(Canned::status(503)),
        judge: came_again,
    },
    Trial {
        case: Case {
            name: "slow_merchant",
            level: Must,
            expected: "the merchant takes longer than it is waited for: the same complete again, with the same key",
        },
        first: || Behaviour::Delay(FIRST_BYTE.saturating_mul(2)),
        judge: came_again,
    },
    Trial {
        case: Case {
            name: "decline",
            level: Must,
            expected: "declined, by a 200 without an order: no repeat of that key, a new one or none",
        },
        first: || Behaviour::DeclineUnseen,
        judge: after_decline,
    },
];

const SIGNED: Case = Case { name: "signatures", level: Must, expected: "every signature is accepted" };
const WHOLE: Case =
    Case { name: "requests", level: Must, expected: "no request is refused for its form, version or key" };
const KEYS: Case = Case { name: "keys", level: Must, expected: "no key is used for another body" };

/// The gateway's log, as far as it has been written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Every request that was answered.
    fn requests(&self) -> Vec<Value> {
        let text = self.0.lock().clone();
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        lines.filter(|line: &Value| line.get("event").is_some_and(|event| event == "request")).collect()
    }

    /// The completes of a checkout, in the order in which they were answered.
    fn completes(&self, session: &str) -> Vec<Complete> {
        let requests = self.requests();
        let of_it = requests.iter().filter(|line| is_complete(line) && word(line, "session") == session);
        of_it.map(Complete::of_line).collect()
    }

    /// A checkout that was completed and is none of these.
    fn another(&self, known: &[String]) -> Option<String> {
        let completes = self.requests().into_iter().filter(is_complete);
        let mut sessions = completes.map(|line| word(&line, "session").to_owned());
        sessions.find(|session| !session.is_empty() && !known.contains(session))
    }
}

/// The route of a complete, in the log.
const ROUTE: &str = "checkout_complete";

/// Whether a request is a complete that was understood, and whose sender was known.
fn is_complete(line: &Value) -> bool {
    let status = line.get("status").and_then(Value::as_u64);
    word(line, "route") == ROUTE && !matches!(status, None | Some(400 | 401))
}

fn word<'l>(line: &'l Value, name: &str) -> &'l str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Complete {
    fn of_line(line: &Value) -> Self {
        let status = line.get("status").and_then(Value::as_u64).unwrap_or_default();
        Self { status, decision: word(line, "decision").to_owned() }
    }
}

/// What the agent was told, one after the other.
fn in_words(completes: &[Complete]) -> String {
    let one = |complete: &Complete| format!("{} {}", complete.status, complete.decision);
    completes.iter().map(one).collect::<Vec<_>>().join(", then ")
}

fn settled(completes: &[Complete]) -> Met {
    let is_settled = completes.last().is_some_and(|last| last.status == 200);
    if is_settled { Ok(in_words(completes)) } else { otherwise(in_words(completes)) }
}

/// Another key for what is under way or paid is another purchase, as far as the gateway can tell.
fn came_again(completes: &[Complete]) -> Met {
    let others = ["checkout_session_busy", "checkout_session_completed", "token_in_use"];
    if completes.iter().any(|complete| others.contains(&complete.decision.as_str())) {
        return otherwise(format!("it came with another key: {}", in_words(completes)));
    }
    if completes.len() < 2 {
        return otherwise(format!("it did not come again: {}", in_words(completes)));
    }
    settled(completes)
}

fn after_decline(completes: &[Complete]) -> Met {
    if completes.iter().any(|complete| complete.decision == "replayed") {
        return otherwise(format!("the declined key came again: {}", in_words(completes)));
    }
    settled(completes)
}

/// Runs a gateway and a sandbox merchant, and judges the agent that buys there. Whether nothing failed. Lines for
/// people go to `out`, or, where JSON is wanted there, to `aside`.
///
/// # Errors
/// When something cannot be started, or an output cannot be written.
pub async fn sandbox(arguments: &AgentArgs, out: &mut dyn Write, aside: &mut dyn Write) -> io::Result<bool> {
    // Removed with everything in it when this ends.
    let directory = tempfile::Builder::new().prefix("countersign-conformance-").tempdir()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let certificates = std::path::absolute(&arguments.certificates)?;
    let certificates = Certificates::ensure(&certificates, &[], clock.now()).map_err(io::Error::other)?;
    let workspace = Workspace(directory.path());
    let identity = workspace.agent("agent").map_err(io::Error::other)?;
    let merchant = workspace.merchant(SANDBOX).map_err(io::Error::other)?;
    let shop = open_shop(&merchant, &certificates, &clock).await?;
    let place = match arguments.listen {
        Some(listen) => Place {
            listen,
            admin: (Ipv4Addr::LOCALHOST, 0).into(),
            authority: format!("localhost:{}", listen.port()),
        },
        None => choose_place()?,
    };
    let entry = MerchantEntry {
        id: SANDBOX,
        base_url: shop.base_url(),
        ca_file: Some(&certificates.authority_file),
        versions: &["2026-01-30", "2026-04-17"],
        honours_keys: true,
        is_test: true,
        redeemer: &merchant.redeemer_credential,
        network: LOOPBACK,
    };
    let seconds = FIRST_BYTE.as_secs();
    let text = place.section(&certificates)
        + &workspace.keys().map_err(io::Error::other)?
        + &identity.section()
        + &entry.section()
        + &format!("deadlines = {{ first_byte = \"{seconds}s\", total = \"{}s\" }}\n", seconds + 1);
    let (_, config) = workspace.configured(&text).map_err(io::Error::other)?;
    let lines = Lines::default();
    let app = App::start_logging_to(config, None, clock, lines.clone()).await.map_err(io::Error::other)?;
    shop.connect(app.public_address(), &place.authority).map_err(io::Error::other)?;
    let mut variables = String::new();
    for (name, value) in [
        ("GATEWAY", format!("https://{}", place.authority)),
        ("CA", certificates.authority_file.display().to_string()),
        ("WORK", directory.path().display().to_string()),
        ("AGENT_CREDENTIAL", identity.credential.expose().to_owned()),
        ("AGENT_KEY", identity.key_file.display().to_string()),
        ("AGENT_KEY_ID", identity.key_id.clone()),
    ] {
        variables.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    let variables = workspace.write("variables", &variables).map_err(io::Error::other)?;
    let judged = {
        match arguments.json {
            true => introduce(aside, &place, &variables)?,
            false => introduce(out, &place, &variables)?,
        }
        let mut nowhere = io::sink();
        let (people, json): (Option<&mut dyn Write>, &mut dyn Write) =
            if arguments.json { (None, out) } else { (Some(out), &mut nowhere) };
        let mut report = Report::to(people, true);
        let patience = Duration::from_secs(arguments.patience);
        watch_agent(&shop, &lines, patience, &mut report)
            .await
            .and_then(|()| report.conclude(Whom::Agent {}, json))
    };
    app.shutdown().await;
    judged
}

fn introduce(out: &mut dyn Write, place: &Place, variables: &std::path::Path) -> io::Result<()> {
    writeln!(out, "A gateway at https://{} before a merchant named {SANDBOX}.", place.authority)?;
    writeln!(out, "Its URL, and who your agent is there: . {}", quoted(&variables.display().to_string()))?;
    writeln!(
        out,
        "Have your agent buy there {} times, one after the other, with the card 4242424242424242.\n",
        TRIALS.len()
    )?;
    out.flush()
}

async fn watch_agent(
    shop: &Shop,
    lines: &Lines,
    patience: Duration,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let mut known: Vec<String> = Vec::new();
    let mut is_there = true;
    let mut unjudged: Option<Trial> = None;
    for trial in TRIALS {
        // No checkout is opened before it is settled what becomes of it, however fast the agent is.
        shop.behave_well();
        shop.behave(CallKind::Create, Behaviour::HoldBefore);
        shop.behave_once(CallKind::Complete, (trial.first)());
        let begun = if is_there { begun(shop, lines, &known, patience).await } else { None };
        // The log is written in order: what is told of the next checkout is behind all that was told of this one.
        judge_last(unjudged.take(), &known, lines, report)?;
        let Some(session) = begun else {
            is_there = false;
            // Who does not come has shown nothing.
            report.note(trial.case, otherwise("no checkout was completed"))?;
            continue;
        };
        ended(shop, lines, &session).await;
        known.push(session);
        unjudged = Some(trial);
    }
    judge_last(unjudged, &known, lines, report)?;
    let requests = lines.requests();
    let refused = |is_it: fn(u64, &str) -> bool| {
        let told = |line: &Value| {
            let Complete { status, decision } = Complete::of_line(line);
            is_it(status, &decision).then(|| format!("{} {status} {decision}", word(line, "route")))
        };
        let found: Vec<String> = requests.iter().filter_map(told).collect();
        match found.first() {
            _ if requests.is_empty() => skipped("there was no request"),
            None => Ok(format!("{} requests", requests.len())),
            Some(first) => otherwise(format!("{} of {}, such as {first}", found.len(), requests.len())),
        }
    };
    report.note(SIGNED, refused(|status, _| status == 401))?;
    report.note(KEYS, refused(|_, decision| decision == "idempotency_conflict"))?;
    report.note(WHOLE, refused(|status, _| matches!(status, 400 | 404 | 405 | 413 | 415))).map(|_| ())
}

/// What is found of the checkout that was completed last.
fn judge_last(
    trial: Option<Trial>,
    known: &[String],
    lines: &Lines,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let (Some(Trial { case, judge, .. }), Some(session)) = (trial, known.last()) else { return Ok(()) };
    report.note(case, judge(&lines.completes(session))).map(|_| ())
}

/// The next checkout whose complete was answered.
async fn begun(shop: &Shop, lines: &Lines, known: &[String], patience: Duration) -> Option<String> {
    let paid = || shop.calls_of(CallKind::Complete).len();
    let paid_before = paid();
    let look = async {
        loop {
            if let Some(session) = lines.another(known) {
                return session;
            }
            // Who waits to open this one may; the next one waits until it is known what becomes of its complete.
            if paid() == paid_before {
                shop.release();
            }
            sleep(PAUSE).await;
        }
    };
    timeout(patience, look).await.ok()
}

/// Until a complete of a checkout is answered with an order, the next checkout is opened, or nothing comes any more.
async fn ended(shop: &Shop, lines: &Lines, session: &str) {
    let opened = || shop.calls_of(CallKind::Create).len();
    let opened_before = opened();
    let mut since = (0, Instant::now());
    loop {
        let completes = lines.completes(session);
        if completes.len() > since.0 {
            since = (completes.len(), Instant::now());
        }
        let last = completes.last().map(|last| (last.status, last.decision.as_str()));
        let is_ordered = matches!(last, Some((200, "charged" | "replayed" | "settled")));
        if is_ordered || since.1.elapsed() > QUIET || opened() > opened_before {
            return;
        }
        sleep(PAUSE).await;
    }
}
