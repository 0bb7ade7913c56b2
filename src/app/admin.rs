//! What probes and operators are told of the whole.

use std::sync::Arc;

use crate::gateway::Desk;
use crate::records::RecordStore;
use crate::server::admin::Readiness;

/// Whether money may move: the store can be used, and it is known whom operators have stopped.
pub(super) fn readiness(store: Arc<dyn RecordStore>, desk: Arc<Desk>) -> Readiness {
    Box::new(move || {
        store.health().map_err(|error| error.to_string())?;
        let unknown = || "what operators have suspended cannot be read".to_owned();
        if desk.suspended.is_known() { Ok(()) } else { Err(unknown()) }
    })
}
