//! What probes and operators are told of the whole, and where.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot::Receiver;
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::gateway::Desk;
use crate::records::RecordStore;
use crate::server;
use crate::server::admin::{Admin, Readiness};
use crate::storage::epoch::EpochKeys;

/// Whether money may move: the store can be used, it is known whom operators have stopped, and security
/// codes can be kept and opened.
pub(super) fn readiness(store: Arc<dyn RecordStore>, desk: Arc<Desk>, epochs: Arc<EpochKeys>) -> Readiness {
    Arc::new(move || {
        store.health().map_err(|error| error.to_string())?;
        if !desk.suspended.is_known() {
            return Err("what operators have suspended cannot be read".to_owned());
        }
        let told = |why| format!("no security code can be kept or opened: {why}");
        epochs.outage().map_or(Ok(()), |why| Err(told(why)))
    })
}

/// A listener, and where it listens.
pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The listeners of operators and of probes.
pub(super) struct Doors {
    admin: TcpListener,
    probes: Option<TcpListener>,
    pub admin_address: SocketAddr,
    pub health_address: Option<SocketAddr>,
}

impl Doors {
    pub(super) async fn open(settings: &server::Settings) -> Result<Self, StartError> {
        let (admin, admin_address) = bind(settings.admin_listen).await?;
        let (probes, health_address) = match settings.health_listen {
            Some(address) => bind(address).await.map(|(listener, bound)| (Some(listener), Some(bound)))?,
            None => (None, None),
        };
        Ok(Self { admin, probes, admin_address, health_address })
    }

    /// Serves until `end` comes, or can no longer come.
    pub(super) async fn serve(self, admin: Admin, end: Receiver<()>) {
        let ending = CancellationToken::new();
        let apart = admin.for_probes_alone();
        let probed = async {
            if let Some(listener) = self.probes {
                apart.run(listener, ending.cancelled()).await;
            }
        };
        let ended = async {
            let _ = end.await;
            ending.cancel();
        };
        tokio::join!(admin.run(self.admin, ending.cancelled()), probed, ended);
    }
}
