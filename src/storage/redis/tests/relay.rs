//! A relay between the store and a server, which can cut the line after a request has passed.
//!
//! The server does the work, the answer is lost.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Relays to a server.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    cut_every: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    pause: Arc<AtomicU64>,
    silent: watch::Sender<Range<u64>>,
}

impl Relay {
    pub(super) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut_every, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (every, count) = (Arc::clone(&cut_every), Arc::clone(&cuts));
        let (accepted, pause) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (silent, silences) = watch::channel(0..0);
        let (numbers, slow) = (Arc::clone(&accepted), Arc::clone(&pause));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let carried = carry(client, port, Arc::clone(&every), Arc::clone(&count), Arc::clone(&slow));
                tokio::spawn(unless_silent(number, silences.clone(), carried));
            }
        });
        Self { address, cut_every, cuts, accepted, pause, silent }
    }

    /// From now on nothing passes on the youngest connections, and none of them ends: what a translator
    /// of addresses makes of those that it has forgotten. New ones work.
    pub(super) fn silence_last(&self, connections: u64) {
        let accepted = self.accepted.load(Ordering::SeqCst);
        self.silent.send_replace(accepted - connections..accepted);
    }

    /// From now on answers pass at 64 KiB in so many milliseconds at most.
    pub(super) fn slow_down(&self, milliseconds: u64) {
        self.pause.store(milliseconds, Ordering::SeqCst);
    }

    /// From now on every so many answers one is lost, and the connection with it; 0 for none.
    pub(super) fn cut_every(&self, answers: u64) {
        self.cut_every.store(answers, Ordering::SeqCst);
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn unless_silent(number: u64, mut silent: watch::Receiver<Range<u64>>, carried: impl Future) {
    let told = async { silent.wait_for(|numbers| numbers.contains(&number)).await.is_ok() };
    tokio::pin!(carried);
    tokio::select! {
        _ = &mut carried => {}
        // The sockets stay open.
        true = told => std::future::pending().await,
    }
}

async fn carry(
    client: TcpStream,
    port: u16,
    every: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
    pause: Arc<AtomicU64>,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async move {
        let mut buffer = vec![0; 64 << 10];
        let mut answers = 0;
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            answers += 1;
            let every = every.load(Ordering::SeqCst);
            if every > 0 && answers % every == 0 {
                cuts.fetch_add(1, Ordering::SeqCst);
                break;
            }
            let pause = Duration::from_millis(pause.load(Ordering::SeqCst)) * u32::try_from(length).unwrap()
                / (64 << 10);
            tokio::time::sleep(pause).await;
            if to_client.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}
