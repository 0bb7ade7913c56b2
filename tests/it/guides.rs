//! What people are given to paste, by the quickstart, the README and the guides, run as they run it.
//!
//! In a shell, against a quickstart of the binary that is shipped.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::child::free_port;

/// How long the quickstart may take until it has told its story, and a shell with what is pasted.
const PATIENCE: Duration = Duration::from_secs(120);
/// The last line that the quickstart prints.
const LAST_LINE: &str = "END";

/// A quickstart that has told its story and stays up.
struct Quickstart {
    child: Child,
    directory: TempDir,
    printed: String,
}

impl Quickstart {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["quickstart", "--certificates"])
            .arg(directory.path().join("dev"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        let mut quickstart = Self { child, directory, printed: String::new() };
        loop {
            let line = told.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{error}: {}", quickstart.printed));
            quickstart.printed.push_str(&line);
            quickstart.printed.push('\n');
            if line == LAST_LINE {
                return quickstart;
            }
        }
    }

    /// What it gives to paste.
    fn suggested(&self) -> &str {
        self.printed.split_once("In another terminal, from this directory:\n").expect("suggestions").1
    }

    /// The line that sets the variables.
    fn variables(&self) -> &str {
        self.suggested().lines().find(|line| line.starts_with(". '")).expect("the variables")
    }

    /// What a shell prints to whom it is pasted.
    fn paste(&self, commands: &str) -> String {
        let script = self.directory.path().join("pasted.sh");
        std::fs::write(&script, commands).unwrap();
        let seconds = PATIENCE.as_secs().to_string();
        let output = Command::new("timeout")
            .args([&seconds, "sh", "-eu"])
            .arg(&script)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{commands}\n{out}\n{error}");
        out
    }
}

impl Drop for Quickstart {
    /// As Ctrl-C does, so that it takes its temporary directory along.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// What stands in fences of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let begin = format!("\n```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// What a merchant is told that it receives is what a shop received.
fn judge_examples(captured: &str) {
    let guide = read("deploy/merchants.md");
    let header = |name: &str| {
        let line = captured.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{name}: {captured}")).trim_end().to_owned()
    };
    let context = fenced(&guide, "text").into_iter().find(|text| text.starts_with("merchant=")).unwrap();
    assert_eq!(names_of(context.trim_end()), names_of(&header("countersign-context")));

    let grant = header("countersign-grant");
    let parts: Vec<Value> = grant
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    // Behind these stands what the shop answers.
    let (received, _) = guide.split_once("\n## Your answer decides\n").unwrap();
    let examples: Vec<Value> =
        fenced(received, "json").iter().map(|text| serde_json::from_str(text).expect(text)).collect();
    assert_eq!(
        examples.iter().map(members).collect::<Vec<_>>(),
        parts.iter().map(members).collect::<Vec<_>>()
    );
    assert_eq!((&examples[0]["typ"], &examples[0]["alg"]), (&parts[0]["typ"], &parts[0]["alg"]));
}

/// Everything a shell is given in a guide.
fn commands(guide: &str) -> String {
    let commands = fenced(&read(guide), "sh").concat();
    assert!(!commands.is_empty(), "{guide} has nothing to paste");
    commands
}

/// The words that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// The text with every id replaced by its kind.
fn without_ids(text: &str) -> String {
    let mut text = text.to_owned();
    for prefix in ["vt_", "ord_"] {
        for id in words(&text.clone(), prefix) {
            text = text.replace(id, prefix);
        }
    }
    text
}

/// Members of objects, also within objects.
fn members(value: &Value) -> BTreeSet<String> {
    let Value::Object(object) = value else { return BTreeSet::new() };
    let inner = object
        .iter()
        .flat_map(|(name, value)| members(value).into_iter().map(move |inner| format!("{name}.{inner}")));
    object.keys().cloned().chain(inner).collect()
}

/// All digits but the last of two ports, which end in 1 and 2.
fn free_decade() -> u16 {
    loop {
        let [first, second] = [(); 2].map(|()| free_port().port());
        if first % 10 == 1 && second == first + 1 {
            return first / 10;
        }
        // Else each two would begin as the last two did.
        if first % 2 == 0 {
            free_port();
        }
    }
}

fn names_of(dictionary: &str) -> Vec<String> {
    let read: sfv::Dictionary = sfv::Parser::new(dictionary).parse().expect(dictionary);
    read.keys().map(|key| key.as_str().to_owned()).collect()
}

#[test]
fn what_the_quickstart_prints_buys_by_curl_and_by_python_when_it_is_pasted() {
    let quickstart = Quickstart::start();
    let out = quickstart.paste(quickstart.suggested());
    for said in ["\"keys\":", "\"delegate_payment\"", "countersign_requests_total{", "not_ready_for_payment"]
    {
        assert!(out.contains(said), "{said}: {out}");
    }
    // A change of its configuration is taken while it runs.
    let again = quickstart
        .paste(&format!("{}\n\"$COUNTERSIGN\" reload --config \"$CONFIG\"", quickstart.variables()));
    assert!(!again.is_empty(), "it says what it did");
    // Each purchase is answered twice, with one order.
    let orders = words(&out, "ord_");
    let different: BTreeSet<&str> = orders.iter().copied().collect();
    assert_eq!(different.len(), 2, "{out}");
    assert!(different.iter().all(|one| orders.iter().filter(|order| *order == one).count() >= 2), "{out}");
    assert!(out.contains("\"status\":\"completed\"") && out.contains("\ncompleted ord_"), "{out}");

    let readme = read("README.md");
    let shown = fenced(&readme, "text").concat();
    let story = without_ids(&quickstart.printed);
    let shown = without_ids(&shown);
    let shown = shown.lines().filter(|line| !line.is_empty() && !line.starts_with("test "));
    let invented: Vec<&str> = shown.filter(|line| !story.lines().any(|said| said == *line)).collect();
    assert!(invented.is_empty(), "the README shows what the quickstart does not print: {invented:#?}");
}

#[test]
fn the_commands_of_every_guide_work() {
    let quickstart = Quickstart::start();
    let paste = |guide: &str| quickstart.paste(&format!("{}\n{}", quickstart.variables(), commands(guide)));

    let bought = paste("deploy/agents.md");
    let orders = words(&bought, "ord_");
    assert!(orders.len() >= 2 && orders.iter().all(|order| *order == orders[0]), "{bought}");

    let judged = paste("deploy/merchants.md");
    assert!(judged.contains("\nverified: rfc9421\n"), "{judged}");
    assert!(judged.contains("\"@target-uri\": https://") && judged.contains("consumed"), "{judged}");

    let captured = quickstart.paste(&format!("{}\ncat \"$CAPTURED\"", quickstart.variables()));
    judge_examples(&captured);

    let looked = paste("deploy/operating.md");
    assert!(looked.contains("countersign_claims_total{outcome=\"charged\"} 3"), "{looked}");

    let [agents, operators] = [(); 2].map(|()| free_decade());
    let redis = free_port().port();
    let commands = commands("deploy/redis.md");
    let ports = [("6390", redis), ("850$n", agents), ("950$n", operators)];
    let mut elsewhere = commands.clone();
    for (of_the_guide, free) in ports {
        assert!(elsewhere.contains(of_the_guide), "{of_the_guide}");
        let free = format!("{free}{}", of_the_guide.trim_start_matches(|c: char| c.is_ascii_digit()));
        elsewhere = elsewhere.replace(of_the_guide, &free);
    }
    // Should a command fail, nothing goes on running.
    let end = "trap 'kill ${redis:-} ${one:-} ${two:-} 2> /dev/null || true' EXIT";
    let replicas = quickstart.paste(&format!("{end}\n{}\n{elsewhere}", quickstart.variables()));
    assert_eq!(replicas.matches("HTTP/2 201").count(), 2, "{replicas}");
    assert_eq!(replicas.matches("idempotent-replayed: true").count(), 1, "{replicas}");
}

/// What needs more than a quickstart, such as a claim in doubt, is at least no mistake to type.
#[test]
fn every_command_that_is_shown_is_one_that_the_program_knows() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("countersign");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_countersign"), &program).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let empty = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for text in
        ["README.md", "deploy/agents.md", "deploy/merchants.md", "deploy/operating.md", "deploy/redis.md"]
    {
        let shown = fenced(&read(text), "console").concat().replace("\\\n", " ");
        for command in shown.lines().filter_map(|line| line.strip_prefix("$ countersign ")) {
            // What follows a pipe or a comment is not ours.
            let ours = command.split(['|', '#']).next().unwrap();
            let output = Command::new("sh")
                .args(["-c", &format!("countersign {ours}")])
                .env("PATH", &path)
                .current_dir(empty.path())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            // 2: the arguments are not understood; 127: there is no such program.
            assert!(matches!(output.status.code(), Some(0 | 1)), "{text}: {ours}: {error}");
            tried += 1;
        }
    }
    assert!(tried >= 10, "{tried}");
}
