//! Claims that were begun, or perhaps were, and under which nothing was sent.

use super::*;
use crate::redis_server::{Options as ServerOptions, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_no_replica_acknowledged_is_taken_back_unsent_and_its_key_pays_later() {
    let [primary, replica] = [(); 2].map(|()| Server::start(ServerOptions::default()));
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]);
    let store = format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         wait_replicas = 1\nwait_timeout = \"200ms\"\ncall_timeout = \"5s\"",
        primary.url()
    );
    let doubt = Doubt::with(Options { store: Some(store), ..Options::default() }).await;
    let purchase = doubt.purchase().await;

    replica.pause();
    assert_told(&purchase.complete().await, 503, "outcome_unknown");
    assert!(purchase.completes().is_empty(), "what a failover may forget is not sent");
    replica.resume();

    // Nothing is held: neither the session by the claim nor the key by its lease.
    doubt.until("the replica's acknowledgement", async || purchase.complete().await.status == 200).await;
    assert_eq!((purchase.completes().len(), purchase.charges().len()), (1, 1));
    assert_eq!(purchase.calls().iter().filter(|call| call.kind == CallKind::Read).count(), 0, "no doubt");
}
