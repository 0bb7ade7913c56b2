//! What works but is warned of.

use std::os::unix::fs::PermissionsExt;

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
    ("hosts = [\"pay.example.com\"]", "hosts = [\"localhost\"]", "server.hosts", "none has the port listened on, 8443"),
    ("hosts = [\"pay.example.com\"]", "hosts = [\"[::1]:9443\"]\nlisten = \"[::1]:8443\"", "server.hosts", "421"),
    (KEYS, "keys = [{ id = \"k\", secret = \"file:padded\" }]", "agents[0].keys[0].secret", "blanks or blank lines"),
    (KEYS, "keys = [{ id = \"k\", secret = \"file:trailed\" }]", "agents[0].keys[0].secret", "blanks or blank lines"),
    ("directory = \"store\"", "directory = \"open\"", "store.directory", "everybody on this machine"),
    ("epoch_directory = \"epochs\"", "epoch_directory = \"open\"", "store.epoch_directory", "everybody on this machine"),
    ("[store]\ndirectory = \"store\"", "[store]\nengine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://10.0.0.5\"]\npassword = \"env:SHOES_CREDENTIAL\"",
     "store.password", "in clear to another host"),
    ("directory = \"store\"\nepoch_directory = \"epochs\"", "engine = \"redis\"\nwait_replicas = 1\nnodes = [\"redis://10.0.0.5\"]\n\
     epoch_nodes = [\"redis://10.0.0.6\"]\nepoch_password = \"env:SHOES_CREDENTIAL\"", "store.epoch_password", "in clear to another host"),
    ("", "[admin]\nlisten = \"0.0.0.0:9464\"", "admin.listen", "plain HTTP without `admin.tls`"),
];

#[test]
fn each_doubtful_setting_works_with_one_warning() {
    let root = workspace();
    write(root.path(), "sixteen", "sixteen bytes...");
    write(root.path(), "padded", " an old client's secret of 32 bytes or more\n");
    write(root.path(), "trailed", "an old client's secret of 32 bytes or more\n\n");
    let open = root.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (find, with, key, message) in CASES {
        let text = if find.is_empty() { format!("{LEAST}{with}") } else { LEAST.replace(find, with) };
        let config = parse(&text, root.path()).unwrap_or_else(|errors| panic!("{with}: {errors}"));
        let [warning] = config.warnings.as_slice() else { panic!("{with}: {:?}", config.warnings) };
        assert_eq!(&warning.key, key);
        assert!(warning.message.contains(message), "{}", warning.message);
    }
}

#[test]
fn what_is_near_a_doubtful_setting_is_not_warned_of() {
    let root = workspace();
    let store = "[store]\nengine = \"redis\"\nwait_replicas = 1\npassword = \"env:SHOES_CREDENTIAL\"";
    for (find, with) in [
        ("hosts = [\"pay.example.com\"]", "hosts = [\"localhost\", \"localhost:8443\"]".to_owned()),
        ("hosts = [\"pay.example.com\"]", "hosts = [\"localhost\"]\nlisten = \"127.0.0.1:443\"".to_owned()),
        (
            "[store]\ndirectory = \"store\"",
            format!("{store}\nnodes = [\"redis://127.0.0.1\", \"redis://[::1]:7\"]"),
        ),
        ("[store]\ndirectory = \"store\"", format!("{store}\nnodes = [\"rediss://10.0.0.5\"]")),
        (
            "[store]",
            "[admin]\nlisten = \"0.0.0.0:9464\"\n[admin.tls]\ncertificate_file = \"tls/admin.pem\"\n\
             key_file = \"tls/admin.key\"\n[store]"
                .to_owned(),
        ),
    ] {
        let config =
            parse(&LEAST.replace(find, &with), root.path()).unwrap_or_else(|e| panic!("{with}: {e}"));
        assert_eq!(config.warnings, [], "{with}");
    }
}

#[test]
fn a_file_or_variable_that_is_not_there_is_named() {
    let root = workspace();
    for (find, with, named) in [
        ("env:SHOES_CREDENTIAL", "env:BOOTS_CREDENTIAL", "variable BOOTS_CREDENTIAL is not set".to_owned()),
        ("env:SHOES_CREDENTIAL", "file:absent.txt", root.path().join("absent.txt").display().to_string()),
        ("tls/server.key", "tls/absent.key", root.path().join("tls/absent.key").display().to_string()),
        (
            "agents/shopper.pem",
            "agents/absent.pem",
            root.path().join("agents/absent.pem").display().to_string(),
        ),
    ] {
        let Err(errors) = parse(&LEAST.replace(find, with), root.path()) else { panic!("{with} works") };
        assert!(errors.to_string().contains(&named), "{errors}");
    }
}

#[test]
fn a_secret_behind_a_byte_order_mark_or_of_blanks_alone_is_refused() {
    let root = workspace();
    for (held, message) in [("\u{feff}a-credential\n", "byte order mark"), (" \n\n", "empty")] {
        write(root.path(), "marked", held);
        let text = LEAST.replace("env:SHOES_CREDENTIAL", "file:marked");
        let Err(errors) = parse(&text, root.path()) else { panic!("{message} works") };
        assert!(errors.to_string().contains(message), "{errors}");
    }
}

#[test]
fn a_configuration_is_one_immutable_snapshot_that_threads_share() {
    fn shared<T: Send + Sync>() {}
    shared::<Config>();
}
