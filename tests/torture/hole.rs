//! A way to a server in which connections can go silent and stay open.
//!
//! As behind an address translator that has forgotten them: what is written arrives nowhere, and nobody
//! says so.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The way.
pub struct Hole {
    /// Where it begins.
    pub address: SocketAddr,
    swallowed: watch::Sender<()>,
}

impl Hole {
    /// A way to a port of this machine.
    pub fn before(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let swallowed = watch::Sender::new(());
        let hole = Self { address, swallowed: swallowed.clone() };
        // A thread of its own: what passes here must not wait for the agents' work.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(pass(near, port, swallowed.subscribe()));
                }
            });
        });
        hole
    }

    /// Every connection that is open now is silent from now on; those opened later are not.
    pub fn swallow(&self) {
        self.swallowed.send_replace(());
    }
}

async fn pass(mut near: TcpStream, port: u16, mut swallowed: watch::Receiver<()>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let silent = tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => false,
        changed = swallowed.changed() => changed.is_ok(),
    };
    if silent {
        // Both ends stay open, and nobody reads from them.
        std::future::pending::<()>().await;
    }
}
