//! Who hands secrets over: programs that print them, and systemd.
//!
//! A program (`exec:ID`, of an entry in `[[programs]]`) runs without a shell, in an environment that holds
//! what its entry lists, for a bounded time and a bounded output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::report::Problem;
use crate::domain::secret::SecretString;

/// Larger than any key or credential; keeps what is none from filling memory.
pub(super) const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Where systemd has put a service's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Of what a program complains of, so much is kept.
const COMPLAINT_BYTES: u64 = 4096;
/// And so much is told.
const COMPLAINT_WORDS: usize = 24;
/// Words that may be told. No others are: programs repeat what they were given, and a passphrase is words.
const COMMON_WORDS: &str = "\
    a access an api argument arguments at authentication authorization bad be by call cannot \
    certificate client code command configuration configured connect connection could credentials \
    decrypt denied did directory does error errors exceeded exist exists expired failed failure \
    fatal field file find for forbidden found from get has host in internal invalid is key limit \
    login missing name network no not of on open operation option or parse path permission permitted \
    present read refused request requested required reset resolve response secret server service \
    specified status such the this timed timeout to token unable unauthorized unavailable unknown \
    unrecognized unreachable url usage valid value version was with";
/// Between two looks whether a program that has closed its output has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A program, as its entry has it.
pub(super) struct Program {
    /// An absolute path or a name in PATH, and its arguments.
    pub command: Vec<String>,
    /// Names of the variables that it gets.
    pub environment: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What one run printed: the same for everybody who asks while a configuration is read.
type Printed = Result<Zeroizing<String>, String>;

/// The programs of one configuration. Each runs once while that is read, however many secrets name it:
/// what is digested is then what is used.
#[derive(Default)]
pub(super) struct Programs {
    known: RefCell<BTreeMap<String, Program>>,
    printed: RefCell<BTreeMap<String, Printed>>,
}

impl Programs {
    /// The document is read once more, as a whole.
    pub(super) fn forget_entries(&self) {
        self.known.borrow_mut().clear();
    }

    /// Takes note of an entry; false when another has its id.
    pub(super) fn know(&self, id: String, program: Program) -> bool {
        self.known.borrow_mut().insert(id, program).is_none()
    }

    /// What the program of this id prints.
    pub(super) fn run(
        &self,
        id: &str,
        base: &Path,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<SecretString, Problem> {
        let known = self.known.borrow();
        let Some(program) = known.get(id) else {
            let problem = Problem::from("no entry of [[programs]] has the id that stands after \"exec:\"");
            return Err(problem.near(id, known.keys().map(String::as_str)));
        };
        let mut printed = self.printed.borrow_mut();
        let outcome = printed.remove(id).unwrap_or_else(|| program.run(base, variables));
        let told = match &outcome {
            Ok(secret) => Ok(SecretString::new(secret.as_str().to_owned())),
            Err(why) => Err(why.clone().into()),
        };
        printed.insert(id.to_owned(), outcome);
        told
    }
}

impl Program {
    fn run(&self, base: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Printed {
        let end = Instant::now() + self.timeout;
        let mut child = self.start(base, variables)?;
        let output = child.stdout.take().map(|pipe| read_apart(pipe, MAX_SECRET_BYTES + 1, false));
        let complaint = child.stderr.take().map(|pipe| read_apart(pipe, COMPLAINT_BYTES, true));
        let printed = output.and_then(|output| output.recv_timeout(left_until(end)).ok());
        // Who prints too much waits for a reader that has gone: it is not waited for.
        let is_too_much = printed
            .as_ref()
            .is_some_and(|printed| u64::try_from(printed.len()).is_ok_and(|n| n > MAX_SECRET_BYTES));
        let ended = printed.as_ref().filter(|_| !is_too_much).and_then(|_| ended_by(&mut child, end));
        if ended.is_none() {
            stop(&mut child);
        }
        let complaint = complaint.and_then(|read| read.recv_timeout(LOOK * 20).ok());
        let told = complaint.map(|bytes| plain_words(&bytes)).unwrap_or_default();
        match (printed, ended) {
            _ if is_too_much => Err("the program printed more than 64 KiB: not a secret".to_owned()),
            (Some(printed), Some(status)) if status.success() => std::str::from_utf8(&printed)
                .map(|secret| Zeroizing::new(secret.to_owned()))
                .map_err(|_| "what the program printed is not text in UTF-8".to_owned()),
            (Some(_), Some(status)) => Err(format!("the program failed ({}){told}", outcome(status))),
            (None, _) | (_, None) => Err(format!("the program did not end within its time{told}")),
        }
    }

    fn start(&self, base: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Child, String> {
        let (program, arguments) = self.command.split_first().ok_or("no program is named")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        command.envs(variables("PATH").map(|path| ("PATH", path)));
        for name in &self.environment {
            let value = variables(name).ok_or_else(|| {
                let shown = if is_plainly_a_variable(name) { format!(" {name}") } else { String::new() };
                format!(
                    "the environment variable{shown} that the program is to have is not set, or not UTF-8"
                )
            })?;
            command.env(name, Zeroizing::new(value).as_str());
        }
        if !base.as_os_str().is_empty() {
            command.current_dir(base);
        }
        // In a group of its own: what it starts ends with it, and a signal for the gateway is not for it.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().map_err(|error| format!("the program cannot be started: {}", error.kind()))
    }
}

/// Reads a pipe on a thread of its own: one that a program has handed on may stay open for ever.
fn read_apart(pipe: impl Read + Send + 'static, most: u64, drained: bool) -> Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        let mut beginning = pipe.take(most);
        if beginning.read_to_end(&mut bytes).is_ok() {
            // Nobody waits any more where the time was over.
            let _ = sender.send(bytes);
        }
        if drained {
            // It must not fail for what it says beyond that.
            let _ = std::io::copy(&mut beginning.into_inner(), &mut std::io::sink());
        }
    });
    receiver
}

fn left_until(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// How a program ended; `None` when it has not by then.
fn ended_by(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Ends a program and what it has started.
fn stop(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Should it have left its group.
    let _ = child.kill();
    let _ = child.wait();
}

fn outcome(status: ExitStatus) -> String {
    status.code().map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"))
}

/// Of a complaint what cannot be a secret: its common words, and the status of an HTTP answer.
fn plain_words(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let is_plain = |word: &str| {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation());
        let is_status = bare.len() == 3 && bare.parse().is_ok_and(|status: u16| (400..600).contains(&status));
        is_status || COMMON_WORDS.split(' ').any(|word| word.eq_ignore_ascii_case(bare))
    };
    let words: Vec<&str> = text.split_whitespace().take(COMPLAINT_WORDS).collect();
    if words.is_empty() {
        return String::new();
    }
    let words: Vec<&str> = words.into_iter().map(|word| if is_plain(word) { word } else { "…" }).collect();
    format!(" and said: {}", words.join(" "))
}

/// The file of one of the credentials that systemd gives this service.
pub(super) fn credential_file(
    name: &str,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, Problem> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err("expected the name of a credential after \"credential:\"".into());
    }
    let directory = variables(CREDENTIALS_DIRECTORY)
        .ok_or("systemd has given this process no credentials: CREDENTIALS_DIRECTORY is not set")?;
    Ok(Path::new(&directory).join(name))
}

/// Whether a name is written as variables are, `SHOP_CREDENTIAL`, and can be told: others may be the
/// secret itself, put here by mistake.
pub(super) fn is_plainly_a_variable(name: &str) -> bool {
    let plain = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase());
    name.contains('_') && name.len() <= 64 && name.split('_').all(plain)
}
