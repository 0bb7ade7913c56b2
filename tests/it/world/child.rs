//! The gateway as a process of its own, to be killed and to be told to stop.
//!
//! The binary that is shipped, under the world's configuration, on ports of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::World;

/// How long the process may take to answer after it was started.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether something has happened in the process.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The process. Dropping it kills it.
pub struct Gateway {
    /// Where agents and shops connect.
    pub public: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    /// What a shell does before it becomes the gateway.
    script: String,
    child: Option<Child>,
}

impl Gateway {
    /// Starts the binary under the world's configuration and waits until it is ready.
    pub async fn start(world: &mut World) -> Self {
        Self::start_through(world, "exec \"$0\" \"$@\"".to_owned()).await
    }

    /// As [`Self::start`], through a shell that does something first.
    pub async fn start_through(world: &mut World, script: String) -> Self {
        Self::start_beside(world, "countersign", script).await
    }

    /// As [`Self::start_through`], beside others that have other names.
    pub async fn start_beside(world: &mut World, name: &str, script: String) -> Self {
        let [public, admin] = [(); 2].map(|()| free_port());
        let listen = "listen = \"127.0.0.1:0\"";
        assert_eq!(world.text.matches(listen).count(), 2, "one listener for agents, then one for operators");
        let mut text = world.text.clone();
        for address in [public, admin] {
            text = text.replacen(listen, &format!("listen = \"{address}\""), 1);
        }
        let config = world.directory.path().join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        let log = world.directory.path().join(format!("{name}.log"));
        let mut gateway = Self { public, admin, config, log, script, child: None };
        gateway.restart().await;
        world.meet(public);
        gateway
    }

    /// Starts the process anew, over what the last one left, and waits until it is ready.
    pub async fn restart(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        self.restart_logging_to(log.into()).await;
    }

    /// As [`Self::restart`], with its log elsewhere than where [`Self::log`] reads it.
    pub async fn restart_logging_to(&mut self, stdout: Stdio) {
        assert!(self.child.is_none(), "it is running");
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", &self.script, env!("CARGO_BIN_EXE_countersign"), "serve", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + STARTS_WITHIN;
        while self.probe("/readyz").await != Some(200) {
            let exited = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(exited.is_none() && Instant::now() < until, "not ready: {exited:?}\n{}", self.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Any signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits until it has exited by itself.
    pub async fn exited(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < until, "it did not exit within {within:?}\n{}", self.log());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The file it was started from.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs a command of the binary against it, as the operator of the world.
    pub async fn run(&self, world: &World, verb: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env("COUNTERSIGN_OPERATOR_CREDENTIAL", world.operator.expose());
        command.args([verb, "--config"]).arg(&self.config);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// The status of a GET on the operators' listener; `None` when there is no answer.
    pub async fn probe(&self, path: &str) -> Option<u16> {
        self.ask(path).await?.split(' ').nth(1)?.parse().ok()
    }

    /// What a scrape shows; empty when there is no answer.
    pub async fn metrics(&self) -> String {
        self.ask("/metrics").await.unwrap_or_default()
    }

    /// The whole answer to a GET on the operators' listener.
    async fn ask(&self, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// A port that nobody listens on now, and nobody is given while a process is down: below those that the
/// system gives to whoever connects or asks for any port, and given once.
pub fn free_port() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test processes that run at once begin at different places.
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + (step % COUNT) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
