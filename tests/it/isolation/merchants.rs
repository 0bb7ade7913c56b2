//! Merchants that nobody should have: sockets of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How a merchant treats who connects.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Takes the connection and never says anything.
    Silent,
    /// Says how long its answer will be, and sends a byte of it a second.
    Dripping,
}

/// A merchant's socket.
pub struct Merchant {
    pub address: SocketAddr,
    taken: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Merchant {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let merchant =
            Self { address: listener.local_addr().unwrap(), taken: Arc::default(), open: Arc::default() };
        let (taken, open) = (Arc::clone(&merchant.taken), Arc::clone(&merchant.open));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                taken.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    serve(stream, manner).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        merchant
    }

    /// Connections there have been.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// Connections there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Until the other side is gone.
async fn serve(stream: TcpStream, manner: Manner) {
    let (mut read, mut write) = stream.into_split();
    let mut bytes = [0; 4096];
    let (asking, mut answering) = tokio::sync::oneshot::channel();
    let mut asking = Some(asking);
    let dripping = async move {
        if matches!(manner, Manner::Silent) || (&mut answering).await.is_err() {
            return std::future::pending().await;
        }
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
        if write.write_all(head).await.is_err() {
            return;
        }
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let gone = async {
        while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {
            if let Some(asking) = asking.take() {
                let _ = asking.send(());
            }
        }
    };
    tokio::select! {
        () = dripping => {}
        () = gone => {}
    }
}

/// An address at which nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap()
}

/// The entry of a merchant at such an address.
pub fn entry(id: &str, base_url: &str, concurrency: u32) -> String {
    format!(
        r#"
[[merchants]]
id = "{id}"
base_url = "{base_url}"
credential = "file:{id}.credential"
versions = ["2026-04-17"]
allow_private_addresses = true
concurrency = {concurrency}
requests_per_second = 1000000
request_burst = 1000000
[merchants.deadlines]
connect = "1500ms"
first_byte = "1500ms"
total = "2s"
"#
    )
}
