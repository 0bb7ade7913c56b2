//! The parts of the hot path, each alone, so that a regression has a name. All through the library's
//! public interface, with the inputs the comparison sends.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use countersign::acp::canonical::canonicalize;
use countersign::acp::wire::complete::CompleteView;
use countersign::acp::wire::session::SessionView;
use countersign::auth::signature::{SignedRequest, verify};
use countersign::config::Config;
use countersign::crypto::aead::SealingKey;
use countersign::crypto::digest::sha256;
use countersign::crypto::ed25519::which_hold;
use countersign::crypto::jwt;
use countersign::crypto::mac::MacKey;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, Checked, SigningKey};
use countersign::domain::clock::{Clock as _, KeptClock, SystemClock};
use countersign::http_signature::{MessageView, received};
use countersign::limit::Limits;
use countersign::records::{
    Batch, Committed, Durability, Kind, Purpose, RecordKey, RecordStore, Revision, Write,
};
use countersign::registry::Agent;
use countersign::storage::open_engine;
use countersign::telemetry::metrics::Metrics;
use serde_json::json;
use tokio::task::JoinSet;

use crate::acp::complete;
use crate::arena::Arena;
use crate::compare::redis;
use crate::gateway::{Options, Store, configure};
use crate::merchant::Templates;
use crate::numbers::{length, median, real};
use crate::population::{Keys, Population};
use crate::prepare::complete_body;
use crate::process::find;
use crate::progress::Progress;
use crate::report::Part;
use crate::request::{Proof, Request, Style};

/// How long each part is repeated, and in how many pieces.
const EACH: Duration = Duration::from_millis(300);
const PIECES: u32 = 15;
/// Claims under way at once, where they share a sync.
const CLAIMS_AT_ONCE: usize = 64;
/// Claims timed, one at a time and together.
const CLAIMS: usize = 400;
/// The length of a record of a claim, about as the gateway writes them.
const RECORD_BYTES: usize = 400;

/// Times everything.
///
/// # Errors
/// When an input cannot be made or a store does not open.
pub async fn measure(arena: &Arena, progress: &Progress) -> Result<Vec<Part>> {
    let mut parts = Parts { found: Vec::new(), progress };
    parts.json()?;
    parts.cryptography()?;
    parts.signatures(arena)?;
    parts.claims(arena).await?;
    Ok(parts.found)
}

struct Parts<'a> {
    found: Vec<Part>,
    progress: &'a Progress,
}

impl Parts<'_> {
    fn note(&mut self, name: &str, nanoseconds: f64) {
        self.found.push(Part { name: name.to_owned(), nanoseconds });
    }

    /// Times something that does not wait: the median of several pieces.
    fn time(&mut self, name: &str, work: impl FnMut()) {
        self.time_each(name, 1, work);
    }

    /// The same for work that does `count` at once: the time of one.
    fn time_each(&mut self, name: &str, count: u32, mut work: impl FnMut()) {
        self.progress.show(&format!("timing: {name}"));
        let piece = EACH / PIECES;
        let began = Instant::now();
        let mut repeats = 0_u32;
        while began.elapsed() < piece {
            work();
            repeats += 1;
        }
        let pieces: Vec<f64> = (0..PIECES)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..repeats {
                    work();
                }
                began.elapsed().as_secs_f64() * 1e9 / f64::from(repeats) / f64::from(count)
            })
            .collect();
        self.note(name, median(&pieces));
    }

    fn json(&mut self) -> Result<()> {
        let body = complete_body();
        let mut out = Vec::with_capacity(2 * body.len());
        let own = |out: &mut Vec<u8>| {
            out.clear();
            canonicalize(&body, out).map_err(|error| anyhow!("{error:?}"))
        };
        own(&mut out)?;
        let tree = || -> Result<Vec<u8>> {
            let value: serde_json::Value = serde_json::from_slice(&body)?;
            Ok(serde_json_canonicalizer::to_vec(&value)?)
        };
        if out != tree()? {
            anyhow::bail!("the canonical forms differ");
        }
        self.time("canonicalise 1.5 KB", || drop(black_box(own(&mut out))));
        self.time("canonicalise 1.5 KB, serde_json_canonicalizer", || drop(black_box(tree())));
        self.time("read a complete", || drop(black_box(CompleteView::read(&body))));
        let answer = Templates::new()?.completed("cs_0000000001");
        self.time("read a session of 3 KB", || drop(black_box(SessionView::read(&answer))));
        Ok(())
    }

    fn cryptography(&mut self) -> Result<()> {
        let body = complete_body();
        let base = body.get(..400).context("a body of 1.5 KB")?.to_vec();
        for (name, algorithm) in [("Ed25519", Algorithm::Ed25519), ("P-256", Algorithm::EcdsaP256Sha256)] {
            let (key, _) = SigningKey::generate(algorithm)?;
            let signature = key.sign(&base)?;
            self.time(&format!("{name} verify"), || {
                black_box(key.public().verifies(&base, &signature));
            });
            self.time(&format!("{name} sign"), || drop(black_box(key.sign(&base))));
        }
        for count in [2_u32, 4, 8, 16] {
            let signed = (0..count).map(|_| {
                let (key, _) = SigningKey::generate(Algorithm::Ed25519)?;
                let signature = key.sign(&base)?;
                anyhow::Ok((key, signature))
            });
            let signed: Vec<_> = signed.collect::<Result<_>>()?;
            self.time_each(&format!("Ed25519 verify, each of {count} agents' together"), count, || {
                let checked = signed.iter().map(|(key, signature)| key.public().check(&base, signature));
                let equations = checked.filter_map(|checked| match checked {
                    Checked::If(equation) => Some(equation),
                    Checked::Decided(_) => None,
                });
                drop(black_box(which_hold(&equations.collect::<Vec<_>>())));
            });
        }
        let mac = MacKey::new(&random::bytes::<32>()?);
        self.time("HMAC-SHA256 of 1.5 KB", || {
            black_box(mac.tag(&[&body]));
        });
        self.time("SHA-256 of 1.5 KB", || {
            black_box(sha256(&[&body]));
        });
        let sealing = SealingKey::new(&random::bytes::<32>()?).context("32 bytes are a key")?;
        let card = body.get(..512).context("a body of 1.5 KB")?.to_vec();
        self.time("mint: seal a card", || drop(black_box(sealing.seal(b"vt_1", &card))));
        let (key, _) = SigningKey::generate(Algorithm::Ed25519)?;
        let claims = json!({
            "iss": "https://pay.example.com", "aud": "shop-1", "sub": "agent-1", "jti": "vt_1", "iat": 1, "exp": 2,
            "allowance": { "reason": "one_time", "max_amount": 10_032, "currency": "usd",
                "checkout_session_id": "cs_1", "merchant_id": "shop-1", "expires_at": "2026-01-01T00:00:00Z" },
        });
        self.time("mint: sign a grant", || {
            drop(black_box(jwt::sign(&key, "kid", "payment-grant+jwt", &claims)));
        });
        Ok(())
    }

    fn signatures(&mut self, arena: &Arena) -> Result<()> {
        let everyone = Population::new(100, 10, Keys::Both)?;
        let room = arena.room("parts")?;
        let configured =
            configure(&room, &arena.certificates, &everyone, arena.merchant.address, &Options::default())?;
        let config = Config::load(&configured.file).map_err(|errors| anyhow!("{errors}"))?;
        for (turn, name, style) in [
            (0, "signature checked: rfc9421, Ed25519", Style::Rfc9421),
            (1, "signature checked: rfc9421, P-256", Style::Rfc9421),
            (0, "signature checked: acp-bound, Ed25519", Style::AcpBound),
        ] {
            let sender = everyone.agent(turn)?;
            let draft = complete("shop-1", "cs_1", "vt_0123456789abcdefghijklmnopqrstuv");
            let request = draft.sign(sender, crate::gateway::AUTHORITY, Proof::Key(style))?;
            let agent = config.registry.agent_by_credential(&sender.credential).context("the agent")?;
            check(agent, &request)?;
            self.time(name, || drop(black_box(check(agent, &request))));
            if style == Style::Rfc9421 && turn == 0 {
                self.base(&request)?;
                let credential = &sender.credential;
                self.time("credential looked up", || {
                    black_box(config.registry.agent_by_credential(credential));
                });
                let limits = Limits::new(config.limits.clone(), &config.registry);
                let merchant = config.registry.merchants().next().context("a merchant")?;
                let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
                self.time("limits: address, agent, merchant", || {
                    let _ = black_box(limits.address(peer));
                    // Limits of one process never wait.
                    let admitted = pin!(limits.admit(agent, true, Some(merchant)));
                    let _ = black_box(admitted.poll(&mut Context::from_waker(Waker::noop())));
                });
                let metrics = Metrics::new()?;
                let took = Duration::from_micros(300);
                self.time("metrics of a request", || {
                    metrics.request("complete", Some(200), took, Some(took));
                    metrics.merchant_request(&merchant.id, Some(200), Some(took));
                    metrics.idempotency("fresh");
                    metrics.signature("rfc9421", "verified");
                });
            }
        }
        Ok(())
    }

    fn base(&mut self, request: &Request) -> Result<()> {
        let message = view(request);
        let signature = received(&request.headers)?.into_iter().next().context("a signature")?;
        self.time("signature headers read", || drop(black_box(received(&request.headers))));
        self.time("signature base", || drop(black_box(signature.base(&message))));
        Ok(())
    }

    /// A claim as the store sees it: three records written, all of them new, durable before the answer.
    async fn claims(&mut self, arena: &Arena) -> Result<()> {
        let mut stores = vec![("embedded", Store::Embedded, None)];
        if find("redis-server").is_some() {
            let (port, process) = redis(arena, "parts-redis", None)?;
            stores.push(("redis", Store::Redis { port, wait_replicas: 0 }, Some(process)));
        }
        for (name, store, beside) in stores {
            self.progress.show(&format!("timing: claims, {name}"));
            let store = open(arena, &arena.room(&format!("parts-{name}"))?, store).await?;
            let began = Instant::now();
            for number in 0..CLAIMS {
                claim(&*store, number).await?;
            }
            self.note(&format!("claim, {name}, one at a time"), per_claim(began, CLAIMS));
            let began = Instant::now();
            let mut workers = JoinSet::new();
            for worker in 0..CLAIMS_AT_ONCE {
                let store = Arc::clone(&store);
                workers.spawn(async move {
                    for number in 0..CLAIMS {
                        claim(&*store, (worker + 1) * CLAIMS + number).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(done) = workers.join_next().await {
                done??;
            }
            let together = per_claim(began, CLAIMS * CLAIMS_AT_ONCE);
            self.note(&format!("claim, {name}, each of {CLAIMS_AT_ONCE} at once"), together);
            tokio::task::spawn_blocking(move || drop(store)).await?;
            drop(beside);
        }
        Ok(())
    }
}

fn per_claim(began: Instant, claims: usize) -> f64 {
    began.elapsed().as_secs_f64() * 1e9 / real(u64::try_from(claims).unwrap_or(1))
}

async fn open(arena: &Arena, room: &Path, store: Store) -> Result<Arc<dyn RecordStore>> {
    let everyone = Population::new(1, 1, Keys::Ed25519)?;
    let options = Options { store, ..Options::default() };
    let configured = configure(room, &arena.certificates, &everyone, arena.merchant.address, &options)?;
    let config = Config::load(&configured.file).map_err(|errors| anyhow!("{errors}"))?;
    let opened = open_engine(
        config.store,
        Arc::new(KeptClock::new(Arc::new(SystemClock))),
        Arc::new(|_| {}),
        Arc::new(|_| {}),
        &config.keys,
    )
    .await?;
    Ok(opened.records)
}

async fn claim(store: &dyn RecordStore, number: usize) -> Result<()> {
    let kinds = [Kind::Session, Kind::Token, Kind::Idempotency];
    let keys = kinds.map(|kind| RecordKey::new(kind, &format!("p{number}"), "record"));
    let bytes = vec![b'x'; RECORD_BYTES];
    let write = |key: &RecordKey| Write::Put {
        key: key.clone(),
        bytes: bytes.as_slice().into(),
        expires_at: None,
        due: None,
    };
    let batch = Batch {
        expect: keys.iter().map(|key| (key.clone(), Revision::ABSENT)).collect(),
        writes: keys.iter().map(write).collect(),
        durability: Durability::Synced,
        purpose: Purpose::Admit,
    };
    match store.commit(batch).await? {
        Committed::Applied(_) => Ok(()),
        Committed::Conflict => Err(anyhow!("a claim of a record nobody else claims conflicts")),
    }
}

fn view(request: &Request) -> MessageView<'_> {
    MessageView {
        method: request.method.as_str(),
        scheme: "https",
        authority: &request.authority,
        path: &request.path,
        query: None,
        headers: &request.headers,
    }
}

fn check(agent: &Agent, request: &Request) -> Result<()> {
    let key = request.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let body = bytes::Bytes::copy_from_slice(&request.body);
    let signed =
        SignedRequest { message: view(request), body: &body, idempotency_key: key, money_route: true };
    let verified = verify(agent, &signed, SystemClock.now()).map_err(|error| anyhow!("{error}"))?;
    black_box(verified.outcome());
    Ok(())
}

/// Parts as a list for people.
pub fn told(parts: &[Part]) -> String {
    let lines = parts.iter().map(|part| {
        let nanoseconds = length(part.nanoseconds);
        format!("{:<55} {nanoseconds:>10} ns\n", part.name)
    });
    lines.collect()
}
