//! What a configuration must refuse, what it must accept, and that it never repeats a secret.
//!
//! What is refused is named by its line and its key. Expected lines are marked in the text itself, with
//! `#!`.

mod broken;
mod providers;
mod secrecy;
mod warnings;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::secrets::Sources;
use super::{Config, ConfigErrors, parse_apart, parse_knowing_keys, parse_whole};
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::{KeyMaterial, MerchantIdempotency, OutwardSignature, RedeemerProof};

/// A directory with every file the configurations here refer to.
fn workspace() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, algorithm) in [
        ("keys/signing-2026-01.pem", Algorithm::Ed25519),
        ("keys/signing-2026-07.pem", Algorithm::EcdsaP256Sha256),
    ] {
        write(root.path(), path, &SigningKey::generate(algorithm).unwrap().1);
    }
    for (fill, name) in ["sealing", "fingerprint", "card-fingerprint", "derivation"].iter().enumerate() {
        write(root.path(), &format!("keys/{name}-2026-01.key"), &format!("{:064x}\n", fill + 0xabc));
    }
    write(root.path(), "agents/shopper.pem", ED25519_PEM);
    write(root.path(), "merchants/shoes.pem", P256_PEM);
    write(root.path(), "agents/old-shopper.key", "an old client's secret of 32 bytes or more\n");
    write(root.path(), "merchants/books.credential", "books-credential\r\n");
    write(root.path(), "merchants/books-signature.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    // What the configurations here call the gateway.
    let names = ["pay.example.com", "*.pay.example.com", "localhost", "::1"].map(str::to_owned);
    let certificate = rcgen::generate_simple_self_signed(names).unwrap();
    for path in [
        "tls/server.pem",
        "tls/clients.pem",
        "tls/admin.pem",
        "tls/operators-ca.pem",
        "merchants/shoes-ca.pem",
        "merchants/shoes-client.pem",
    ] {
        write(root.path(), path, &certificate.cert.pem());
    }
    for path in ["tls/server.key", "tls/admin.key", "merchants/shoes-client.key"] {
        write(root.path(), path, &certificate.signing_key.serialize_pem());
    }
    root
}

/// Made by `openssl genpkey`.
const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEASPmUeFKbMtisTjG2ootXCcPuWOVKyoiSmzijI6aPuhk=
-----END PUBLIC KEY-----
";
/// Made by `openssl ecparam -genkey -name prime256v1`.
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEL283PLKX6cfgiPNqBEYXy8CAtMdI
WE57ODucVWfygvUUhRjkF/T3yAg8J6OylLwTtBICRkQxBoonbc7fvIa5EA==
-----END PUBLIC KEY-----
";

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn environment(name: &str) -> Option<String> {
    (name == "SHOES_CREDENTIAL").then(|| "shoes-credential".to_owned())
}

/// Reads a text, and checks that in whatever pieces it was read, it says what the whole says.
fn parse(text: &str, root: &Path) -> Result<Config, ConfigErrors> {
    let sources = Sources::new(root, &environment);
    let (read, known) = parse_knowing_keys(text, &sources);
    let (whole, known_to_whole) = parse_whole(text, &sources);
    assert_eq!((told(&read), known), (told(&whole), known_to_whole), "{text}");
    read
}

/// What a reading says of the file, and whom it found in it.
fn told(read: &Result<Config, ConfigErrors>) -> String {
    match read {
        Err(errors) => format!("{:?}", (&errors.mistakes, &errors.warnings)),
        Ok(config) => {
            let registry = &config.registry;
            let agents: BTreeSet<&str> = registry.agents().map(|agent| agent.id.as_str()).collect();
            let merchants: BTreeSet<&str> = registry.merchants().map(|shop| shop.id.as_str()).collect();
            format!("{:?}", (agents, merchants, &config.warnings))
        }
    }
}

const EXAMPLE: &str = include_str!("../../deploy/countersign.toml");

/// The least that works: one agent, one merchant.
const LEAST: &str = r#"
[server]
hosts = ["pay.example.com"]
tls = { certificate_file = "tls/server.pem", key_file = "tls/server.key" }
[store]
directory = "store"
epoch_directory = "epochs"
[keys]
signing = [{ id = "s1", secret = "file:keys/signing-2026-01.pem" }]
sealing = [{ id = "e1", secret = "file:keys/sealing-2026-01.key" }]
fingerprint = [{ id = "f1", secret = "file:keys/fingerprint-2026-01.key" }]
card_fingerprint = [{ id = "c1", secret = "file:keys/card-fingerprint-2026-01.key" }]
derivation = [{ id = "d1", secret = "file:keys/derivation-2026-01.key" }]
[[agents]]
id = "shopper"
credentials = ["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
keys = [{ public_key_file = "agents/shopper.pem" }]
[[merchants]]
id = "shoes"
base_url = "https://shoes.example"
credential = "env:SHOES_CREDENTIAL"
versions = ["2026-04-17"]
"#;

#[test]
fn the_least_configuration_works_without_a_warning() {
    let root = workspace();
    let config = parse(LEAST, root.path()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings, []);
    assert_eq!(config.public_base_url, "https://pay.example.com");
    let agent = config.registry.agent(&AgentId::parse("shopper").unwrap()).unwrap();
    assert_eq!(agent.keys[0].id.as_str().len(), 43, "a public key's id is its thumbprint");
    let merchant = config.registry.merchant(&MerchantId::parse("shoes").unwrap()).unwrap();
    assert_eq!(merchant.credential.expose(), "shoes-credential");
    assert_eq!(merchant.idempotency, MerchantIdempotency::None, "nobody said that it honours keys");
    assert_eq!(merchant.allowance_ids, ["shoes"]);
}

#[test]
fn the_documented_example_works_and_states_the_defaults() {
    let root = workspace();
    let config = parse(EXAMPLE, root.path()).unwrap_or_else(|errors| panic!("{errors}"));
    let tls = config.server.tls.clone();
    assert_eq!(tls.client_ca, Some(root.path().join("tls/clients.pem")));
    assert!(config.server.proxy.required);
    let defaults = crate::server::Settings::default();
    let admin = config.server.admin_tls.clone().unwrap();
    assert_eq!(admin.client_ca, Some(root.path().join("tls/operators-ca.pem")));
    let server = crate::server::Settings {
        tls: defaults.tls.clone(),
        admin_tls: None,
        health_listen: None,
        proxy: defaults.proxy.clone(),
        ..config.server
    };
    assert_eq!(server, defaults);
    assert_eq!(config.limits, Default::default());
    assert_eq!(config.fraud, Default::default());
    assert_eq!(config.upstream, Default::default());
    let crate::storage::Engine::Embedded(configured) = config.store else { panic!("embedded") };
    let store = crate::storage::Settings::default();
    assert_eq!(
        crate::storage::Settings {
            directory: store.directory.clone(),
            epoch_directory: store.epoch_directory.clone(),
            ..configured
        },
        store
    );
}

#[test]
fn the_documented_example_means_what_it_says() {
    let root = workspace();
    let config = parse(EXAMPLE, root.path()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.keys.signing.current().0.as_str(), "2026-01");
    let books = config.registry.merchant(&MerchantId::parse("books").unwrap()).unwrap();
    assert_eq!(books.idempotency, MerchantIdempotency::None);
    assert_eq!(books.credential.expose(), "books-credential", "the line end is not part of it");
    assert!(matches!(books.redeemers[0].proof, RedeemerProof::Networks(ref networks) if networks.len() == 2));
    let expected =
        crate::crypto::mac::MacKey::new(&std::array::from_fn::<u8, 32, _>(|i| u8::try_from(i).unwrap()));
    let OutwardSignature::Acp(key) = &books.signature else { panic!("acp is configured") };
    assert!(expected.verifies(b"message", &key.tag(&[b"message"])));
    let shoes = config.registry.merchants_by_allowance_id("acct_1SHOES");
    assert_eq!(shoes, [MerchantId::parse("shoes").unwrap()]);
    let old = config.registry.agent(&AgentId::parse("old-shopper").unwrap()).unwrap();
    assert!(matches!(old.key("hmac-1").unwrap().material, KeyMaterial::Shared(_)));
    let messages: Vec<&str> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(messages, ["agents[1].signature.profiles", "merchants[1].signature"]);
}

#[test]
fn every_key_that_is_read_stands_in_the_documented_example() {
    let root = workspace();
    let (_, known) = parse_knowing_keys(EXAMPLE, &Sources::new(root.path(), &environment));
    assert!(known.len() > 120, "{}", known.len());
    let absent: BTreeSet<&String> = known
        .iter()
        .filter(|path| {
            let key = path.rsplit('.').next().unwrap();
            let header = EXAMPLE.lines().any(|line| line.trim_matches(['[', ']']) == path.as_str());
            !header && !EXAMPLE.contains(&format!("{key} = "))
        })
        .collect();
    assert_eq!(absent, BTreeSet::from([&"fraud".to_owned(), &"keys".to_owned()]), "tables of tables only");
}

#[test]
fn the_key_marked_current_is_current_wherever_it_stands() {
    let root = workspace();
    let text = LEAST
        .replace("signing = [", "signing = [{ id = \"s2\", secret = \"file:keys/signing-2026-07.pem\" }, ");
    let current = |text: &str| {
        let config = parse(text, root.path()).unwrap_or_else(|errors| panic!("{errors}"));
        config.keys.signing.current().0.as_str().to_owned()
    };
    assert_eq!(current(&text), "s2");
    assert_eq!(current(&text.replace("id = \"s1\",", "id = \"s1\", current = true,")), "s1");
}

#[test]
fn a_key_announced_in_front_of_the_current_one_does_not_sign_yet() {
    let root = workspace();
    let announced =
        "signing = [{ id = \"s2\", secret = \"file:keys/signing-2026-07.pem\", current = false }, ";
    let config = parse(&LEAST.replace("signing = [", announced), root.path()).unwrap();
    let ids: Vec<&str> = config.keys.signing.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["s1", "s2"]);
}

#[test]
fn agents_are_read_one_at_a_time_wherever_they_stand() {
    let root = workspace();
    let sources = Sources::new(root.path(), &environment);
    let agent = |id: &str, digit: &str| {
        let digest = digit.repeat(64);
        format!(
            "[[agents]]\nid = \"{id}\"\ncredentials = [\"sha256:{digest}\"]\nmerchants = [\"shoes\"]\n\
             [[agents.keys]]\npublic_key_file = \"agents/shopper.pem\"\n[agents.signature]\nrequired = \"always\"\n"
        )
    };
    let orders = "purchase_orders = { agents = [\"shopper\", \"last\"], limits = [{ amount = 100, currency = \"usd\" }] }\n";
    let text = format!("{}{LEAST}{orders}{}", agent("first", "b"), agent("last", "c"));
    let (config, _) = parse_apart(&text, &sources).unwrap();
    let registry = config.unwrap_or_else(|errors| panic!("{errors}")).registry;
    for id in ["first", "shopper", "last"] {
        let agent = registry.agent(&AgentId::parse(id).unwrap()).unwrap();
        assert_eq!((agent.keys.len(), agent.merchants.is_some()), (1, id != "shopper"));
    }
    parse(&text, root.path()).unwrap_or_else(|errors| panic!("{errors}"));
    let twice = parse(&text.replace("\"last\"", "\"first\""), root.path()).err().unwrap().mistakes;
    let lines: Vec<&str> = text.lines().collect();
    for mistake in twice {
        let line = lines.get(mistake.line - 1).unwrap();
        assert!(line.contains("last"), "{mistake}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_text_is_one_mistake() {
    let root = workspace();
    let errors = |path: &Path| Config::load(path).err().unwrap().mistakes;
    assert_eq!(errors(&root.path().join("absent.toml")).len(), 1);
    assert_eq!(errors(root.path()).len(), 1);
    std::fs::write(root.path().join("latin1.toml"), b"a = \"\xff\"").unwrap();
    assert_eq!(errors(&root.path().join("latin1.toml")).len(), 1);
}

/// Fragments that together reach every reader, in any order.
fn fragment() -> impl Strategy<Value = String> {
    let lines: Vec<String> = LEAST.lines().chain(EXAMPLE.lines()).map(str::to_owned).collect();
    prop_oneof![
        4 => proptest::sample::select(lines),
        1 => "[\\[\\]{}=\"'#.,a-z0-9_ -]{0,20}",
        1 => any::<String>(),
        1 => ("[a-z_]{1,12}", "(-?[0-9]{1,20}|true|\"[0-9a-z:]{0,8}\"|\\[[0-9, ]{0,5}\\]|1979-05-27|[0-9]\\.[0-9]|inf|0x[0-9a-f]{1,9})")
            .prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read_without_panic(fragments in proptest::collection::vec(fragment(), 0..40)) {
        let root = Path::new("/nonexistent");
        if let Err(errors) = parse(&fragments.join("\n"), root) {
            prop_assert!(!errors.mistakes.is_empty());
            prop_assert!(errors.mistakes.iter().all(|mistake| !mistake.message.contains("not told")), "{errors}");
        }
    }

    #[test]
    fn any_value_anywhere_is_read_without_panic(
        line in 0..EXAMPLE.lines().count(),
        value in "(-?[0-9]{1,20}|true|\"[0-9a-z:]{0,8}\"|\\[[0-9, ]{0,5}\\]|\\{\\}|\\[\\{\\}\\]|1979-05-27|inf)",
    ) {
        let changed: Vec<String> = EXAMPLE
            .lines()
            .enumerate()
            .map(|(at, text)| match text.split_once(" = ") {
                Some((key, _)) if at == line => format!("{key} = {value}"),
                _ => text.to_owned(),
            })
            .collect();
        let _ = parse(&changed.join("\n"), Path::new("/nonexistent"));
    }
}
