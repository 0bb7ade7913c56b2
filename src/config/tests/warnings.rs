//! What works but is warned of.

use super::{Config, LEAST, parse, workspace, write};

const KEYS: &str = "keys = [{ public_key_file = \"agents/shopper.pem\" }]";

/// What is found is replaced, nothing to find: appended; then this key is warned of, in these words.
type Case = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const CASES: &[Case] = &[
    (KEYS, "signature = { required = \"never\" }", "agents[0].signature.required", "bearer only"),
    (KEYS, "keys = [{ public_key_file = \"agents/shopper.pem\" }]\nsignature = { required = \"never\" }",
     "agents[0].signature.required", "signatures are not required"),
    (KEYS, "keys = [{ public_key_file = \"agents/shopper.pem\" }]\nsignature = { profiles = [\"acp\"] }",
     "agents[0].signature.profiles", "neither method nor path"),
    (KEYS, "keys = [{ id = \"k\", secret = \"file:sixteen\" }]", "agents[0].keys[0].secret", "at least 32 bytes"),
    (KEYS, "keys = [{ public_key_file = \"agents/shopper.pem\" }]\ntoken_life = \"25h\"", "agents[0].token_life", "above 1d"),
    ("base_url = \"https://shoes.example\"", "base_url = \"http://shoes:9000\"\nallow_private_addresses = true",
     "merchants[0].base_url", "in clear"),
    ("", "allow_tls12 = true", "merchants[0].allow_tls12", "TLS 1.3"),
    ("", "signature = \"acp\"\nsignature_key = \"file:agents/old-shopper.key\"", "merchants[0].signature", "prefer \"countersign\""),
    ("", "[[merchants]]\nid = \"other\"\nallowance_ids = [\"shoes\"]\nbase_url = \"https://other.example\"\n\
          credential = \"env:SHOES_CREDENTIAL\"\nversions = [\"2026-04-17\"]", "merchants[1].allowance_ids", "the merchant on line 18"),
    ("", "[admin]\nlisten = \"0.0.0.0:9464\"", "admin.listen", "not loopback"),
];

#[test]
fn each_doubtful_setting_works_with_one_warning() {
    let root = workspace();
    write(root.path(), "sixteen", "sixteen bytes...");
    for (find, with, key, message) in CASES {
        let text = if find.is_empty() { format!("{LEAST}{with}") } else { LEAST.replace(find, with) };
        let config = parse(&text, root.path()).unwrap_or_else(|errors| panic!("{with}: {errors}"));
        let [warning] = config.warnings.as_slice() else { panic!("{with}: {:?}", config.warnings) };
        assert_eq!(&warning.key, key);
        assert!(warning.message.contains(message), "{}", warning.message);
    }
}

#[test]
fn a_configuration_is_one_immutable_snapshot_that_threads_share() {
    fn shared<T: Send + Sync>() {}
    shared::<Config>();
}
