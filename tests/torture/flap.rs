//! A way to a merchant that comes and goes.
//!
//! Every three seconds whoever is connected is cut off, and for the next three nobody gets through.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long it is there, and how long it is not.
const EVERY: Duration = Duration::from_secs(3);

/// The way.
pub struct Flap {
    /// Where it begins.
    pub address: SocketAddr,
    may_flap: watch::Sender<bool>,
}

impl Flap {
    /// A way to a port of this machine, which stays open until it is told otherwise.
    pub fn before(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let may_flap = watch::Sender::new(false);
        let told = may_flap.subscribe();
        // A thread of its own: what passes here must not wait for the agents' work.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let is_there = watch::Sender::new(true);
                tokio::spawn(come_and_go(is_there.clone(), told));
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(pass(near, port, is_there.subscribe()));
                }
            });
        });
        Self { address, may_flap }
    }

    /// From now on it comes and goes.
    pub fn begin(&self) {
        self.may_flap.send_replace(true);
    }

    /// From now on it is there.
    pub fn calm(&self) {
        self.may_flap.send_replace(false);
    }
}

async fn come_and_go(is_there: watch::Sender<bool>, mut may_flap: watch::Receiver<bool>) {
    while may_flap.wait_for(|may_flap| *may_flap).await.is_ok() {
        is_there.send_modify(|is_there| *is_there = !*is_there);
        let calm = tokio::time::timeout(EVERY, may_flap.wait_for(|may_flap| !may_flap)).await;
        if calm.is_ok() {
            is_there.send_replace(true);
        }
    }
}

async fn pass(mut near: TcpStream, port: u16, mut is_there: watch::Receiver<bool>) {
    if !*is_there.borrow() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = is_there.wait_for(|is_there| !is_there) => {}
    }
}
