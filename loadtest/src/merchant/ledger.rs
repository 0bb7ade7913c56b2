//! The merchant's ledger: what it was asked to charge, and by whom it was vouched for.
//!
//! What it was asked to charge, by whom it was vouched for, and how often it was called. Load is right
//! only if this agrees with the agents' books.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

/// Parts of the ledger that are locked apart.
const SHARDS: usize = 32;

/// A call to the merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is ACP's call of the same name")]
pub enum Call {
    Create,
    Get,
    Update,
    Complete,
    Cancel,
}

/// What the ledger says about a session that was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// How many completes arrived.
    pub calls: u32,
    /// A digest of the last one's body.
    pub body: u64,
    /// Whether the last one carried a gateway's signature, grant and context.
    pub vouched: bool,
}

/// The ledger.
#[derive(Default)]
pub struct Ledger {
    paid: [Mutex<HashMap<String, Paid>>; SHARDS],
    sessions: AtomicU64,
    calls: [AtomicU64; 5],
}

impl Ledger {
    /// A digest of a body, for comparing what was sent with what arrived.
    pub fn digest(body: &[u8]) -> u64 {
        xxh3_64(body)
    }

    /// The id of a new session.
    pub(super) fn new_session(&self) -> String {
        format!("cs_{:010}", self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn complete(&self, session: &str, headers: &HeaderMap, body: &[u8]) {
        let vouched = ["signature", "countersign-grant", "countersign-context"];
        let vouched = vouched.iter().all(|name| headers.contains_key(*name));
        let Some(shard) = self.shard(session) else { return };
        let mut shard = shard.lock();
        let paid = shard.entry(session.to_owned()).or_insert(Paid { calls: 0, body: 0, vouched });
        paid.calls += 1;
        paid.body = Self::digest(body);
        paid.vouched = vouched;
    }

    pub(super) fn count(&self, call: Call) {
        if let Some(count) = self.calls.get(place(call)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was called so.
    pub fn calls(&self, call: Call) -> u64 {
        self.calls.get(place(call)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How often it was called in each way.
    pub fn all_calls(&self) -> HashMap<Call, u64> {
        let every = [Call::Create, Call::Get, Call::Update, Call::Complete, Call::Cancel];
        every.into_iter().map(|call| (call, self.calls(call))).collect()
    }

    /// Whether a session was completed.
    pub fn is_paid(&self, session: &str) -> bool {
        self.shard(session).is_some_and(|shard| shard.lock().contains_key(session))
    }

    /// Everything paid since it was last asked, by session.
    pub fn take(&self) -> HashMap<String, Paid> {
        let mut all = HashMap::new();
        for shard in &self.paid {
            all.extend(shard.lock().drain());
        }
        all
    }

    fn shard(&self, session: &str) -> Option<&Mutex<HashMap<String, Paid>>> {
        let shards = u64::try_from(SHARDS).unwrap_or(1);
        self.paid.get(usize::try_from(xxh3_64(session.as_bytes()) % shards).unwrap_or(0))
    }
}

const fn place(call: Call) -> usize {
    match call {
        Call::Create => 0,
        Call::Get => 1,
        Call::Update => 2,
        Call::Complete => 3,
        Call::Cancel => 4,
    }
}
