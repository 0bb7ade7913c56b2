//! One gateway: the binary that is shipped, as a process to be killed, paused and started again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::redis_server::free_port;

/// How long the process may take to be ready after it was started.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What steps the wall clock of one process (Debian's package `libfaketime`).
static FAKE_TIME: LazyLock<PathBuf> = LazyLock::new(|| {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let libraries = places.map(|place| place.path().join("faketime/libfaketime.so.1"));
    libraries.into_iter().find(|library| library.exists()).unwrap_or_default()
});
/// How a start ends that finds no store.
const NO_STORE: &str = "the store does not open: no node answers";
/// How often it is looked whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The process. Dropping it kills it.
pub struct Gateway {
    /// Where agents and merchants connect.
    pub public: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    /// How far its wall clock is off, as `libfaketime` reads it.
    clock: PathBuf,
    child: Option<Child>,
}

impl Gateway {
    /// A gateway that is not started yet, with ports of its own.
    pub fn new(directory: &Path, number: usize) -> Self {
        let [public, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let config = directory.join(format!("gateway-{number}.toml"));
        let log = directory.join(format!("gateway-{number}.log"));
        let clock = directory.join(format!("gateway-{number}.clock"));
        let gateway = Self { public, admin, config, log, clock, child: None };
        gateway.set_clock_off(0);
        gateway
    }

    /// Sets its wall clock so many seconds ahead, or behind; whether that can be. What it measures
    /// spans with goes on as before.
    pub fn set_clock_off(&self, seconds: i64) -> bool {
        let next = self.clock.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n")).unwrap();
        // In one step: half a line is no time.
        std::fs::rename(next, &self.clock).unwrap();
        FAKE_TIME.exists()
    }

    /// Writes its configuration.
    pub fn configure(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
    }

    /// Starts the process over what the last one left; it is not ready yet.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        if FAKE_TIME.exists() {
            command
                .env("LD_PRELOAD", &*FAKE_TIME)
                .env("FAKETIME_TIMESTAMP_FILE", &self.clock)
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_DONT_RESET", "1");
        }
        let child = command
            .args(["serve", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until it is ready, or says why it is not.
    pub async fn ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + READY_WITHIN;
        loop {
            if self.probe("/readyz").await == Some(200) {
                return Ok(());
            }
            if let Some(status) = self.exited() {
                // A store that does not answer at a start ends it, and whoever watches over the process
                // starts it again.
                if self.end_of_log().lines().last().is_some_and(|line| line.contains(NO_STORE))
                    && Instant::now() < end
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    self.start();
                    continue;
                }
                return Err(format!("a gateway ended by itself, {status}:\n{}", self.end_of_log()));
            }
            if Instant::now() > end {
                return Err(format!("a gateway is not ready:\n{}", self.end_of_log()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// How it ended, if it ended by itself.
    pub fn exited(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status.to_string())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = &self.child {
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        }
    }

    /// The status of a GET on the operators' listener; `None` when there is no answer.
    pub async fn probe(&self, path: &str) -> Option<u16> {
        self.ask(&format!("GET {path}"), "").await?.split(' ').nth(1)?.parse().ok()
    }

    /// The whole answer of the operators' listener to a method and path, with further header lines.
    pub async fn ask(&self, what: &str, headers: &str) -> Option<String> {
        let asked = async {
            let mut stream = tokio::net::TcpStream::connect(self.admin).await.ok()?;
            let request = format!(
                "{what} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n",
                self.admin
            );
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?
    }

    /// The last lines it has written.
    pub fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}
