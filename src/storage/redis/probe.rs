//! What the servers of a shared store say of themselves, asked before a gateway uses them: nothing is written.

use std::time::{Duration, Instant};

use super::connector::Connector;
use super::server::{self, Unfit};
use super::settings::{NodeAddress, Settings};
use super::volatile::VolatileServer;
use crate::domain::clock::Timestamp;

/// What a server said of itself.
#[derive(Clone, Debug)]
pub struct Said {
    /// Which process it is.
    pub run_id: String,
    /// Its version.
    pub version: String,
    /// Whether it takes writes.
    pub is_primary: bool,
    /// Why it may not keep money.
    pub unfit: Option<Unfit>,
    /// Bytes in use, and the most that may be; 0 where nothing bounds it.
    pub memory: (u64, u64),
    /// Its clock.
    pub clock: Timestamp,
    /// How long it took to tell.
    pub took: Duration,
}

/// Asks each server; of one that does not answer, why.
pub async fn probe(settings: &Settings) -> Vec<(NodeAddress, Result<Said, String>)> {
    let connector = Connector::new(settings.clone());
    let asked = settings.nodes.iter().map(|node| async {
        let said = question(&connector, node, settings).await;
        (node.clone(), said.map_err(|error| error.to_string()))
    });
    futures_util::future::join_all(asked).await
}

/// Asks each server that is to keep nothing which process it is; why it may not be used, of one that may not.
pub async fn probe_volatile(settings: &Settings) -> Vec<(NodeAddress, Result<String, String>)> {
    let asked = settings.nodes.iter().map(|node| async {
        let mut server = VolatileServer::at(node.clone(), settings);
        let said = async {
            let run_id = server.meet().await?.run_id;
            server.examine().await.map(|()| run_id)
        };
        (node.clone(), said.await.map_err(|error| error.to_string()))
    });
    futures_util::future::join_all(asked).await
}

async fn question(
    connector: &Connector,
    node: &NodeAddress,
    settings: &Settings,
) -> redis::RedisResult<Said> {
    let mut connection = connector.connect(node, settings.call_timeout).await?;
    let server = server::ask(&mut connection).await?;
    let began = Instant::now();
    let clock = server::time(&mut connection).await?;
    Ok(Said {
        unfit: server.fitness(settings.accept_loss).err(),
        run_id: server.run_id,
        version: server.version_text,
        is_primary: server.is_primary,
        memory: server.memory,
        clock: Timestamp::from_unix_millis(clock),
        took: began.elapsed(),
    })
}
