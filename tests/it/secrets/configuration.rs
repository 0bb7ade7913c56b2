//! Secrets in a configuration, in and out of their place.
//!
//! `countersign check` names the line and the key, and repeats nothing that stands there.

use countersign::cli::check::check;
use countersign::crypto::random;

use super::needles::Needles;
use crate::world::{Options, World};

/// What a line may become when a secret is pasted into it.
fn pasted(line: &str, secret: &str) -> Vec<String> {
    let (key, value) = line.split_once(" = ").unwrap_or((line, "1"));
    vec![
        format!("{key} = \"{secret}\""),
        format!("{key} = {secret}"),
        format!("{key} = [\"{secret}\"]"),
        format!("{key} = {{ {secret} = 1 }}"),
        format!("{key} = \"file:{secret}\""),
        format!("{key} = \"env:{secret}\""),
        format!("{key} = \"sha256:{secret}\""),
        format!("{key} = \"https://{secret}@shop.example.com\""),
        format!("{key} = \"{secret}"),
        format!("{secret} = {value}"),
        format!("\"{secret}\" = {value}"),
        format!("{line} {secret}"),
        format!("[{secret}]"),
        format!("[[{secret}"),
        secret.to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn check_repeats_no_secret_wherever_it_is_pasted() {
    let world = World::closed(Options::default()).await;
    let directory = world.directory.path();
    let file = directory.join("countersign.toml");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let sealing = read("sealing.key");
    let signing = read("signing.pem").lines().nth(1).unwrap().to_owned();
    let secrets = [sealing, signing, world.credentials().remove(0), read("lamps.credential")];
    let needles = Needles::of(&world);

    let lines: Vec<&str> = world.text.lines().collect();
    let (mut found, mut tried) = (Vec::new(), std::collections::BTreeSet::new());
    for (at, line) in lines.iter().enumerate() {
        // Ids are printed, and meant to be.
        if !line.contains('=') || line.trim_start().starts_with("id ") || !tried.insert(*line) {
            continue;
        }
        for (variant, text) in pasted(line, &secrets[at % secrets.len()]).into_iter().enumerate() {
            let mut changed = lines.clone();
            changed[at] = &text;
            std::fs::write(&file, changed.join("\n")).unwrap();
            let mut out = Vec::new();
            check(&file, &mut out).unwrap();
            assert!(!out.is_empty());
            found.extend(needles.find_in(&format!("{line} ({variant})"), &out));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_s_file_is_named_by_its_key_and_never_by_its_content() {
    let world = World::closed(Options::default()).await;
    let directory = world.directory.path();
    let file = directory.join("countersign.toml");
    std::fs::write(&file, &world.text).unwrap();
    let checked = || {
        let mut out = Vec::new();
        let usable = check(&file, &mut out).unwrap();
        (usable, String::from_utf8(out).unwrap())
    };
    assert!(checked().0, "{}", checked().1);
    for name in [
        "signing.pem",
        "sealing.key",
        "fingerprint.key",
        "derivation.key",
        "lamps.credential",
        "certs/server.key",
    ] {
        let path = directory.join(name);
        let good = std::fs::read(&path).unwrap();
        let secret = random::base62(40).unwrap();
        for bad in [
            secret.clone(),
            format!("{secret} {secret}"),
            format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"),
            format!("\u{1}{secret}"),
        ] {
            std::fs::write(&path, &bad).unwrap();
            let (usable, out) = checked();
            assert!(!out.contains(&secret), "{name}: {out}");
            // A credential may be anything that a header can carry.
            assert!(!usable || (name == "lamps.credential" && bad == secret), "{name} {bad:?}");
        }
        std::fs::write(&path, good).unwrap();
    }
}
