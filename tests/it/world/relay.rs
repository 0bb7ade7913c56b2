//! A relay before a server, whose connections can be kept waiting, and cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The relay. It ends with the test.
pub struct Relay {
    address: SocketAddr,
    gate: watch::Sender<Gate>,
    counts: watch::Sender<Counts>,
}

#[derive(Clone, Copy)]
struct Gate {
    is_open: bool,
    cuts: u32,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    live: usize,
}

impl Relay {
    /// A relay before `server`, through which everything passes.
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = watch::Sender::new(Gate { is_open: true, cuts: 0 });
        let counts = watch::Sender::new(Counts::default());
        let (gates, counted) = (gate.clone(), counts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut gate, counted) = (gates.subscribe(), counted.clone());
                let cuts = gate.borrow().cuts;
                counted.send_modify(|counts| counts.live += 1);
                tokio::spawn(async move {
                    let mut cut = gate.clone();
                    tokio::select! {
                        _ = cut.wait_for(|gate| gate.cuts != cuts) => {}
                        () = async {
                            let _ = gate.wait_for(|gate| gate.is_open).await;
                            pass(client, server).await;
                        } => {}
                    }
                    counted.send_modify(|counts| counts.live -= 1);
                });
            }
        });
        Self { address, gate, counts }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps who connects from now on waiting, and ends every connection there is.
    pub async fn cut_and_hold(&self) {
        self.gate.send_modify(|gate| *gate = Gate { is_open: false, cuts: gate.cuts + 1 });
        self.until(|counts| counts.live == 0).await;
    }

    /// Waits until somebody is kept waiting.
    pub async fn holds_one(&self) {
        self.until(|counts| counts.live > 0).await;
    }

    /// Lets who waits pass.
    pub fn release(&self) {
        self.gate.send_modify(|gate| gate.is_open = true);
    }

    async fn until(&self, is_so: impl FnMut(&Counts) -> bool) {
        let mut counts = self.counts.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(60), counts.wait_for(is_so)).await;
        assert!(waited.is_ok(), "of the relay's connections");
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
