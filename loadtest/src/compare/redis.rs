//! Redis, the same for everyone who uses it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::arena::Arena;
use crate::process::{Process, find, free_address};

/// Redis waits for some seconds before it sends a replica what it has.
const REPLICA_CATCHES_UP_WITHIN: Duration = Duration::from_secs(30);

/// Redis with an append-only file synced every second, the same for everyone who uses it.
///
/// # Errors
/// When it is not installed or does not start.
pub fn redis(arena: &Arena, name: &str, replica_of: Option<u16>) -> Result<(u16, Process)> {
    let (room, address) = (arena.room(name)?, free_address()?);
    let port = address.port().to_string();
    let mut command = Command::new(find("redis-server").context("redis-server is not installed")?);
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--dir"]).arg(&room);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0"]);
    if let Some(primary) = replica_of {
        command.args(["--replicaof", &format!("127.0.0.1 {primary}")]);
    }
    let mut process = Process::start(name, &mut command, &room)?;
    process.wait_for(address)?;
    Ok((address.port(), process))
}

/// A replica that has caught up.
///
/// # Errors
/// As [`redis`], and when it does not catch up.
pub(crate) fn redis_replica(arena: &Arena, name: &str, of: u16) -> Result<Process> {
    let (_, replica) = redis(arena, &format!("{name}-replica"), Some(of))?;
    let until = Instant::now() + REPLICA_CATCHES_UP_WITHIN;
    while !replication(of)?.contains("state=online") {
        if Instant::now() > until {
            bail!("the replica of {name} does not catch up");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(replica)
}

/// What a primary says about its replicas.
fn replication(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"INFO replication\r\nQUIT\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
