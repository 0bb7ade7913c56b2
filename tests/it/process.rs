//! What the process asks of the system for itself.
//!
//! Room for open files, and that nobody looks into its memory.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::quickstart::agent::Agent;
use rustix::fs::{CWD, Mode, OFlags};
use tokio::net::{TcpSocket, TcpStream};

use crate::wire::PATIENCE;
use crate::world::child::Gateway;
use crate::world::*;

/// A user without rights, where the test has them all.
const NOBODY: u32 = 65_534;

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether a process of the same user may open this.
fn may_open(path: &str) -> bool {
    as_user(Path::new("/bin/sh")).args(["-c", "exec 3< \"$0\"", path]).status().unwrap().success()
}

fn limit(process: u32, name: &str) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn no_verb_that_reads_keys_can_be_dumped_or_looked_into() {
    let directory = tempfile::tempdir().unwrap();
    let open_to_all = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to_all(directory.path(), 0o755);
    let program = directory.path().join("countersign");
    std::fs::copy(env!("CARGO_BIN_EXE_countersign"), &program).unwrap();
    open_to_all(&program, 0o755);
    // What a verb reads first does not come: there it waits to be looked at.
    let pipe = directory.path().join("pipe");
    rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    open_to_all(&pipe, 0o666);
    let pipe = pipe.to_str().unwrap();
    let config = directory.path().join("countersign.toml");
    let agent = format!("[[agents]]\nid = \"a\"\nkeys = [{{ id = \"k\", public_key_file = \"{pipe}\" }}]\n");
    std::fs::write(&config, agent).unwrap();
    open_to_all(&config, 0o644);
    let config = config.to_str().unwrap();

    // As others are: of the same user, who may look into it.
    let other = Running(as_user(Path::new("/bin/sleep")).arg("600").spawn().unwrap());
    let readable = Instant::now();
    while !may_open(&format!("/proc/{}/environ", other.0.id())) {
        assert!(readable.elapsed() < PATIENCE, "nothing can be looked into here");
    }

    for arguments in [
        &["serve", "--config", config][..],
        &["check", "--config", config],
        &["sign", "--url", "https://gateway.test/checkout_sessions", "--key", pipe],
    ] {
        let script = "ulimit -c unlimited; exec \"$0\" \"$@\"";
        let mut shell = as_user(Path::new("/bin/sh"));
        let mut running = Running(shell.args(["-c", script]).arg(&program).args(arguments).spawn().unwrap());
        let process = running.0.id();
        let began = Instant::now();
        let write = OFlags::WRONLY | OFlags::NONBLOCK;
        let _held = loop {
            if let Ok(held) = rustix::fs::open(pipe, write, Mode::empty()) {
                break held;
            }
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{arguments:?} reads nothing: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        // The system makes root the owner of what is known of a process that is not to be looked into.
        assert_eq!(limit(process, "Max core file size"), ["0", "0"], "{arguments:?}");
        for what in ["environ", "mem"] {
            let path = format!("/proc/{process}/{what}");
            assert!(!may_open(&path), "{arguments:?}: {what}");
            assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0, "{arguments:?}: {what}");
        }
    }
}

/// A world whose gateway is a process of its own with so many open files, soft and hard.
async fn limited(soft: u32, hard: u32) -> (World, Gateway) {
    let server = "handshake_timeout = \"60s\"".to_owned();
    let mut world = World::closed(Options { server, ..Options::default() }).await;
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let gateway = Gateway::start_through(&mut world, script).await;
    (world, gateway)
}

/// Connections from an address that is not the agents', which say nothing.
async fn idle(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(to).await.unwrap());
    }
    held
}

async fn buys(agent: &Agent) {
    let (session, total) = create(agent, "lamps").await;
    let token = mint(agent, "lamps", &session, GOOD_CARD, total).await;
    let paid = complete(agent, "lamps", &session, &token).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_no_file_from_purchases_and_operators_however_few_there_are() {
    let (world, gateway) = limited(256, 256).await;
    let held = idle(gateway.public, 400).await;
    for _ in 0..10 {
        // Each over a connection of its own, and before the idle ones are closed for being so.
        let bought = tokio::time::timeout(Duration::from_secs(20), buys(&world.alpha())).await;
        assert!(bought.is_ok(), "{}", gateway.log());
        assert_eq!(gateway.probe("/livez").await, Some(200));
    }
    assert_eq!(gateway.probe("/readyz").await, Some(200));
    let log = gateway.log();
    let bounded = r#""event":"connections_bounded","connections":128,"configured":8192,"open_files":256"#;
    assert!(log.contains(bounded), "{log}");
    assert!(!log.contains(r#""event":"accept_failed""#), "{log}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let (world, gateway) = limited(64, 20_000).await;
    assert_eq!(limit(gateway.id(), "Max open files"), ["20000", "20000"]);
    let held = idle(gateway.public, 300).await;
    buys(&world.alpha()).await;
    assert!(!gateway.log().contains("connections_bounded"));
    drop(held);
}

#[tokio::test]
async fn check_says_how_many_connections_there_is_room_for() {
    let world = World::closed(Options::default()).await;
    let config = world.directory.path().join("countersign.toml");
    std::fs::write(&config, &world.text).unwrap();
    let said = |files: u32| {
        let script = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_countersign"), "check", "--config"]).arg(&config);
        let output = shell.output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let few = said(1024);
    let expected = "accepts 512 connections, not 8192: only 1024 files may be open here";
    assert!(few.contains(expected), "{few}");
    assert!(!said(17_000).contains("may be open"));
}
