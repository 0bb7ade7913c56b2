//! A relay between the store and a server, which can cut the line after a request has passed: the
//! server does the work, the answer is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Relays to a server.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    cut_every: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
}

impl Relay {
    pub(super) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut_every, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (every, count) = (Arc::clone(&cut_every), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, Arc::clone(&every), Arc::clone(&count)));
            }
        });
        Self { address, cut_every, cuts }
    }

    /// From now on every so many answers one is lost, and the connection with it; 0 for none.
    pub(super) fn cut_every(&self, answers: u64) {
        self.cut_every.store(answers, Ordering::SeqCst);
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, port: u16, every: Arc<AtomicU64>, cuts: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 << 10];
    let mut answers = 0;
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        answers += 1;
        let every = every.load(Ordering::SeqCst);
        if every > 0 && answers % every == 0 {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    requests.abort();
}
