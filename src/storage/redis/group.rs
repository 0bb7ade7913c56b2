//! Commits that wait for replicas, many together, on connections of their own.
//!
//! On connections of their own, because `WAIT` holds up whatever shares its connection; many batches
//! together, because one `WAIT` serves all that went before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisResult, Value};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::connector::Connector;
use super::server::Server;
use super::settings::NodeAddress;

/// Connections to one server: while one waits for replicas, others send.
const CONNECTIONS: usize = 4;
/// Batches that share one wait.
const MOST_IN_A_GROUP: usize = 128;
/// Batches that wait to be sent; one more waits for its turn within its deadline.
const QUEUE: usize = 1024;

/// The queue in front of the connections. When the last of its senders is gone, they are closed.
pub(super) struct Groups {
    queue: mpsc::Sender<Item>,
    connections: Vec<MultiplexedConnection>,
    gone: Arc<AtomicBool>,
}

struct Item {
    command: Cmd,
    answer: oneshot::Sender<Grouped>,
}

/// What became of a command and its wait.
pub(super) struct Grouped {
    /// The command's own answer.
    pub(super) answer: RedisResult<Value>,
    /// Whether enough replicas have it.
    pub(super) acknowledged: bool,
}

impl Groups {
    pub(super) async fn connect(
        connector: &Connector,
        address: &NodeAddress,
        server: &Server,
    ) -> RedisResult<Self> {
        let settings = connector.settings();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let wait = Wait {
            replicas: settings.wait_replicas,
            millis: settings.wait_timeout.as_millis().to_string(),
            disks: server
                .waits_for_disks(&mut connector.connect(address, settings.call_timeout).await?)
                .await,
        };
        let gone = Arc::new(AtomicBool::new(false));
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            // Whoever waits for an answer has given up by then; a server answers a `WAIT` after half of
            // it at the latest, see the settings.
            let connection = connector.connect(address, settings.call_timeout).await?;
            let carrying = carry(connection.clone(), Arc::clone(&receiver), wait.clone());
            let ended = Arc::clone(&gone);
            tokio::spawn(async move {
                carrying.await;
                ended.store(true, Ordering::Relaxed);
            });
            connections.push(connection);
        }
        Ok(Self { queue: sender, connections, gone })
    }

    /// Whether one of the connections broke or fell silent. The others went the same way, and those
    /// who wait for them would find out one after the other.
    pub(super) fn are_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether each of the connections answers: one that nobody uses may have been forgotten on the
    /// way without a word.
    pub(super) async fn answer(&self) -> bool {
        let pings = self.connections.iter().map(|connection| async move {
            let ping = redis::cmd("PING");
            connection.clone().send_packed_command(&ping).await.is_ok()
        });
        futures_util::future::join_all(pings).await.into_iter().all(|answered| answered)
    }

    /// Sends a command and waits for its replicas; `None` when the connections are gone, and nobody
    /// knows what became of it.
    pub(super) async fn send(&self, command: Cmd) -> Option<Grouped> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Item { command, answer }).await.ok()?;
        answered.await.ok()
    }
}

#[derive(Clone)]
struct Wait {
    replicas: u32,
    millis: String,
    disks: bool,
}

impl Wait {
    fn command(&self) -> Cmd {
        let mut command = redis::cmd(if self.disks { "WAITAOF" } else { "WAIT" });
        if self.disks {
            command.arg(1);
        }
        command.arg(self.replicas).arg(&self.millis);
        command
    }

    /// Whether `answer` says that enough have it.
    fn is_enough(&self, answer: &Value) -> bool {
        let at_least = |value: &Value, least: i64| matches!(value, Value::Int(count) if *count >= least);
        let replicas = i64::from(self.replicas);
        match answer {
            Value::Array(counts) => match counts.as_slice() {
                [local, others] => at_least(local, 1) && at_least(others, replicas),
                _ => false,
            },
            alone => at_least(alone, replicas),
        }
    }
}

/// Carries groups until nobody can send any more, or the connection breaks or does not answer in time:
/// then the link is made anew.
async fn carry(mut connection: MultiplexedConnection, queue: Arc<Mutex<mpsc::Receiver<Item>>>, wait: Wait) {
    let mut items = Vec::with_capacity(MOST_IN_A_GROUP);
    loop {
        items.clear();
        if queue.lock().await.recv_many(&mut items, MOST_IN_A_GROUP).await == 0 {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(items.len() + 1);
        let mut answers = Vec::with_capacity(items.len());
        for Item { command, answer } in items.drain(..) {
            pipeline.add_command(command);
            answers.push(answer);
        }
        pipeline.add_command(wait.command());
        let count = pipeline.len();
        let broken = match connection.send_packed_commands(&pipeline, 0, count).await {
            Ok(mut values) => {
                let waited = values.pop().unwrap_or_default();
                let acknowledged = wait.is_enough(&waited);
                for (answer, value) in answers.into_iter().zip(values) {
                    // Who no longer listens has given up waiting.
                    let _ = answer.send(Grouped { answer: value.extract_error(), acknowledged });
                }
                None
            }
            Err(error) => {
                answers.into_iter().for_each(|answer| {
                    let _ = answer.send(Grouped { answer: Err(error.clone()), acknowledged: false });
                });
                Some(error)
            }
        };
        // One that did not answer in time is not used again, whether it ever would.
        if broken.is_some_and(|error| matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)) {
            return;
        }
    }
}
