//! The memory store, on which the stages are tested, keeps the contract too.

use std::sync::Arc;

use super::super::contract::{Fixture, START};
use crate::domain::clock::ManualClock;
use crate::records::memory::MemoryStore;

storage_contract!(new_store);
ledger_model!(new_store, reopened);

/// As a store that outlives the processes that use it.
mod outliving {
    ledger_model!(super::new_store);
}

pub(super) async fn new_store() -> Fixture<Arc<MemoryStore>> {
    let clock = Arc::new(ManualClock::new(START));
    let store = Arc::new(MemoryStore::new(clock.clone()));
    Fixture { store: store.clone(), clock, _guard: store }
}

pub(super) async fn reopened(fixture: Fixture<Arc<MemoryStore>>) -> Fixture<Arc<MemoryStore>> {
    fixture._guard.reopen();
    fixture
}
