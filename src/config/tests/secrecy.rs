//! No message repeats a secret, wherever one was put by mistake.

use std::os::unix::fs::PermissionsExt;

use super::{EXAMPLE, LEAST, parse, workspace, write};
use crate::cli::check::check;

/// Looks like a credential, and would be a valid id.
const SECRET: &str = "sk_live_51NeverPrintThisAnywhere0123456789";

/// Every message of a configuration with its key and suggestion, as `check` writes them.
fn everything_said(text: &str, root: &std::path::Path) -> String {
    match parse(text, root) {
        Ok(config) => format!("{:?}", config.warnings),
        Err(errors) => format!("{errors}\n{:?}\n{:?}", errors.mistakes, errors.warnings),
    }
}

#[test]
fn a_secret_in_place_of_any_value_is_not_repeated() {
    let root = workspace();
    let forms = [
        format!("\"{SECRET}\""),
        format!("\"file:{SECRET}\""),
        format!("\"env:{SECRET}\""),
        format!("\"sha256:{SECRET}\""),
        format!("[\"{SECRET}\"]"),
        format!("[[\"{SECRET}\"]]"),
        format!("{{ {SECRET} = 1 }}"),
        format!("[{{ \"{SECRET}\" = \"{SECRET}\" }}]"),
        SECRET.to_owned(),
        format!("\"{SECRET}"),
        format!("\"\"\"{SECRET}"),
        format!("1979-05-27T{SECRET}"),
        format!("\"a\" {SECRET}"),
    ];
    let mut tried = 0;
    for text in [LEAST, EXAMPLE] {
        for (at, line) in text.lines().enumerate() {
            let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.starts_with(['#', ' ']))
            else {
                continue;
            };
            for form in &forms {
                let replaced = format!("{key} = {form}");
                let lines =
                    text.lines().enumerate().map(|(i, l)| if i == at { replaced.as_str() } else { l });
                let changed = lines.collect::<Vec<_>>().join("\n");
                let said = everything_said(&changed, root.path());
                assert!(!said.contains(SECRET), "{replaced}: {said}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_secret_in_place_of_a_key_is_not_repeated() {
    let root = workspace();
    for short in ["ElKal5lPnt2vPg09vNODQQ5fK3G079Ko", "7f3a9c", "k7mq2x4w9zr5"] {
        let said = everything_said(&format!("{LEAST}\n{short} = 1\n"), root.path());
        assert!(!said.contains(short), "{short}: {said}");
    }
    for line in [
        format!("{SECRET} = 1"),
        format!("[{SECRET}]"),
        format!("a.{SECRET}.b = 1"),
        format!("{SECRET} {SECRET}"),
    ] {
        let said = everything_said(&format!("{LEAST}\n{line}\n"), root.path());
        assert!(!said.contains(SECRET), "{line}: {said}");
    }
}

#[test]
fn what_a_secret_file_holds_is_not_repeated() {
    let root = workspace();
    for path in [
        "keys/signing-2026-01.pem",
        "keys/sealing-2026-01.key",
        "keys/derivation-2026-01.key",
        "agents/old-shopper.key",
        "agents/shopper.pem",
        "merchants/books.credential",
        "merchants/books-signature.key",
    ] {
        for held in [SECRET.to_owned(), format!("{SECRET}\n{SECRET}\u{1}"), format!("PRIVATE KEY {SECRET}")] {
            let root = workspace();
            write(root.path(), path, &held);
            let said = everything_said(EXAMPLE, root.path());
            assert!(!said.contains(SECRET), "{path}: {said}");
        }
    }
    assert!(parse(EXAMPLE, root.path()).is_ok());
}

#[test]
fn check_writes_mistakes_with_file_line_and_key() {
    let root = workspace();
    let file = root.path().join("countersign.toml");
    let text = LEAST.replace("env:SHOES_CREDENTIAL", SECRET).replace("[store]", "lisen = 1\n[store]");
    std::fs::write(&file, text).unwrap();
    let mut out = Vec::new();
    assert!(!check(&file, &mut out).unwrap());
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let file = file.display();
    assert_eq!(lines[0], format!("{file}:5: server.lisen: unknown key (did you mean `listen`?)"));
    assert!(
        lines[1].starts_with(&format!("{file}:22: merchants[0].credential: a secret is given by reference"))
    );
    assert_eq!(lines[2..], ["2 mistakes, 0 warnings"]);
    assert!(!out.contains(SECRET));
}

#[test]
fn check_sums_up_what_is_fine_and_warns_of_what_is_readable_by_all() {
    let root = workspace();
    let file = root.path().join("countersign.toml");
    std::fs::write(&file, LEAST.replace("env:SHOES_CREDENTIAL", "file:merchants/books.credential")).unwrap();
    let exposed = root.path().join("keys/sealing-2026-01.key");
    std::fs::set_permissions(exposed, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut out = Vec::new();
    assert!(check(&file, &mut out).unwrap());
    let out = String::from_utf8(out).unwrap();
    let file = file.display();
    let expected = format!(
        "{file}:10: keys.sealing[0].secret: warning: this secret's file is readable by everybody: chmod o-r it\n\
         the configuration is fine: 1 agent, 1 merchant, 1 warning\n\
         listens on 0.0.0.0:8443, admin on 127.0.0.1:9464\n\
         trusted to charge an Idempotency-Key once: nobody\n\
         keys, the current one first:\n  \
         signing           s1\n  sealing           e1\n  fingerprint       f1\n  card_fingerprint  c1\n  derivation        d1\n"
    );
    assert_eq!(out, expected);
    let mut out = Vec::new();
    assert!(!check(&root.path().join("absent.toml"), &mut out).unwrap());
    assert!(String::from_utf8(out).unwrap().contains("absent.toml: the configuration file cannot be read"));
}
