//! Secrets that a program prints, and those that systemd hands over.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::secrets::Sources;
use super::{LEAST, parse_knowing_keys, workspace, write};

/// The least configuration, its merchant's credential printed by this shell script.
fn printed_by(script: &str, more: &str) -> String {
    let with = LEAST.replace("env:SHOES_CREDENTIAL", "exec:vault");
    format!("{with}[[programs]]\nid = \"vault\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n{more}\n")
}

fn variables(name: &str) -> Option<String> {
    match name {
        "PATH" => Some("/usr/bin:/bin".to_owned()),
        "VAULT_TOKEN" => Some("the-token".to_owned()),
        "UNASKED" => Some("unasked".to_owned()),
        "CREDENTIALS_DIRECTORY" => Some("credentials".to_owned()),
        "SHOES_CREDENTIAL" => Some("shoes-credential".to_owned()),
        _ => None,
    }
}

/// The merchant's credential, or everything that is said to be wrong.
fn credential(text: &str, root: &Path) -> Result<String, String> {
    let (config, _) = parse_knowing_keys(text, &Sources::new(root, &variables));
    let config = config.map_err(|errors| errors.to_string())?;
    let merchant = config.registry.merchants().next().unwrap();
    Ok(merchant.credential.expose().to_owned())
}

#[test]
fn what_a_program_prints_is_the_secret_without_its_line_end() {
    let root = workspace();
    assert_eq!(
        credential(&printed_by("echo from-the-vault", ""), root.path()),
        Ok("from-the-vault".to_owned())
    );
    let text = printed_by("", "").replace("[\"/bin/sh\", \"-c\", '''''']", "[\"echo\", \"$HOME\"]");
    assert!(credential(&text, root.path()).unwrap_err().contains("merchants[0].credential"), "no shell");
    let text = text.replace("$HOME", "by-name");
    assert_eq!(credential(&text, root.path()), Ok("by-name".to_owned()));
}

#[test]
fn a_program_may_say_much_beside_the_secret() {
    let root = workspace();
    let script = "head -c 300000 /dev/zero >&2; echo from-the-vault";
    assert_eq!(credential(&printed_by(script, ""), root.path()), Ok("from-the-vault".to_owned()));
}

#[test]
fn a_program_knows_path_and_what_its_entry_lists_and_stands_beside_the_file() {
    let root = workspace();
    let script = "test $VAULT_TOKEN = the-token && test -e tls/server.pem && /usr/bin/env | wc -l";
    // PATH, VAULT_TOKEN, and what the shell itself adds: PWD, OLDPWD or not, and `_`.
    let lines = credential(&printed_by(script, "environment = [\"VAULT_TOKEN\"]"), root.path()).unwrap();
    assert!((2..=5).contains(&lines.trim().parse().unwrap()), "{lines}");
    let script = "/usr/bin/env | grep -q unasked || echo none";
    let text = printed_by(script, "environment = [\"VAULT_TOKEN\"]");
    assert_eq!(credential(&text, root.path()), Ok("none".to_owned()));
    let absent = credential(&printed_by(script, "environment = [\"VAULT_ADDR\"]"), root.path()).unwrap_err();
    assert!(absent.contains("variable VAULT_ADDR that the program is to have is not set"), "{absent}");
}

#[test]
fn a_program_runs_once_however_many_secrets_it_is_for_and_not_for_a_file_that_is_no_toml() {
    let root = workspace();
    let text = printed_by("echo >>runs; cat keys/fingerprint-2026-01.key", "")
        .replace("file:keys/fingerprint-2026-01.key", "exec:vault");
    let runs = || std::fs::read(root.path().join("runs")).map_or(0, |runs| runs.len());
    assert!(credential(&format!("{text}\nnonsense"), root.path()).unwrap_err().contains("not TOML"));
    assert_eq!(runs(), 0);
    let _ = credential(&text, root.path());
    assert_eq!(runs(), 1);
}

#[test]
fn a_program_that_fails_says_why_and_repeats_nothing_it_was_given() {
    let root = workspace();
    for (script, said) in [
        (
            "echo permission denied for key sk_live_51Never correcthorse 4111: 403 >&2; exit 7",
            "exit code 7) and said: permission denied for key … … … 403",
        ),
        ("exit 7", "the program failed (exit code 7)"),
        ("kill -9 $$", "the program failed (a signal)"),
        ("head -c 70000 /dev/zero", "printed more than 64 KiB"),
        ("yes", "printed more than 64 KiB"),
        ("printf '\\377'", "not text in UTF-8"),
        ("true", "the secret is empty"),
    ] {
        let told = credential(&printed_by(script, ""), root.path()).unwrap_err();
        assert!(told.contains("merchants[0].credential") && told.contains(said), "{script}: {told}");
        assert!(!["sk_live", "horse", "4111"].into_iter().any(|secret| told.contains(secret)), "{told}");
    }
}

#[test]
fn a_program_that_does_not_end_is_ended_with_all_that_it_started() {
    let root = workspace();
    let begun = Instant::now();
    for (script, time) in [
        ("sleep 300", "100ms"),
        ("echo early; exec >&-; sleep 300", "100ms"),
        // What it leaves behind keeps the pipe open.
        ("sleep 300 & echo $! > left; echo secret", "5s"),
    ] {
        let text = printed_by(script, &format!("timeout = \"{time}\""));
        let told = credential(&text, root.path()).unwrap_err();
        assert!(told.contains("did not end within its time"), "{script}: {told}");
    }
    assert!(begun.elapsed() < Duration::from_secs(100), "nobody waited for them");
    let left = std::fs::read_to_string(root.path().join("left")).unwrap();
    // It has been killed, and is gone once the system has seen to that.
    let goes_on = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", left.trim())).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    while goes_on() {
        assert!(begun.elapsed() < Duration::from_secs(200), "it was left running");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_wrong_with_an_entry_or_a_reference_is_told() {
    let root = workspace();
    for (found, replaced, said) in [
        (
            "exec:vault",
            "exec:valt",
            "no entry of [[programs]] has the id that stands after \"exec:\" (did you mean `vault`?)",
        ),
        ("exec:vault", "exec:", "no entry of [[programs]] has the id"),
        ("[\"/bin/sh\", \"-c\", '''echo x''']", "[]", "expected a program and its arguments"),
        ("[\"/bin/sh\", \"-c\", '''echo x''']", "\"/bin/sh\"", "expected a list"),
        ("/bin/sh", "bin/sh", "programs[0].command[0]: expected an absolute path"),
        ("/bin/sh", "/nowhere/sh", "the program cannot be started: entity not found"),
        ("id = \"vault\"", "id = \"a vault\"", "programs[0].id: expected up to 64 letters"),
        ("timeout = \"1s\"", "timeout = \"1h\"", "programs[0].timeout: must be between 100ms and 1m"),
        ("timeout = \"1s\"", "time = 1", "programs[0].time: unknown key"),
        ("timeout = \"1s\"", "environment = [\"A=B\"]", "programs[0].environment[0]: expected the name"),
        ("command = ", "# ", "programs[0].command: missing"),
        ("exec:vault", "credential:", "expected the name of a credential"),
        ("exec:vault", "credential:../keys", "expected the name of a credential"),
        ("exec:vault", "credential:absent", "cannot be read: entity not found"),
    ] {
        let text = printed_by("echo x", "timeout = \"1s\"");
        assert!(text.contains(found), "{found}");
        let told = credential(&text.replace(found, replaced), root.path()).unwrap_err();
        assert!(told.contains(said), "{replaced}: {told}");
    }
    let twice = printed_by("echo x", "[[programs]]\nid = \"vault\"\ncommand = [\"true\"]");
    assert!(credential(&twice, root.path()).unwrap_err().contains("another program has this id"));
}

#[test]
fn a_credential_of_systemd_is_found_by_its_name() {
    let root = workspace();
    write(root.path(), "credentials/shoes", "handed-over\n");
    let text = LEAST.replace("env:SHOES_CREDENTIAL", "credential:shoes");
    assert_eq!(credential(&text, root.path()), Ok("handed-over".to_owned()));
    let (config, _) = parse_knowing_keys(&text, &Sources::new(root.path(), &super::environment));
    assert!(config.err().unwrap().to_string().contains("CREDENTIALS_DIRECTORY is not set"));
}
