//! What `countersign check` says of the machine and its certificates, and what `serve` refuses.

use std::path::PathBuf;
use std::process::{Command, Output};

use countersign::crypto::digest::sha256;
use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::world::*;

/// A world that is at rest, and what its configuration is changed to.
struct Case {
    world: World,
    text: String,
}

impl Case {
    async fn start() -> Self {
        let world = World::closed(Options::default()).await;
        let text = world.text.clone();
        Self { world, text }
    }

    /// With a certificate of its own for the listener, and its key.
    fn listener(mut self, names: &[&str], ends: OffsetDateTime) -> Self {
        let [certificate, key] = self.certificate("listener", names, ends);
        let replaced = |text: String, key: &str, path: &PathBuf| {
            let lines = text.lines().map(|line| match line.starts_with(&format!("{key} = ")) {
                true => format!("{key} = \"{}\"\n", path.display()),
                false => format!("{line}\n"),
            });
            lines.collect::<String>()
        };
        self.text = replaced(self.text, "certificate_file", &certificate);
        self.text = replaced(self.text, "key_file", &key);
        self
    }

    fn certificate(&self, name: &str, names: &[&str], ends: OffsetDateTime) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = ends;
        let certificate = parameters.self_signed(&key).unwrap().pem();
        [("pem", certificate), ("key", key.serialize_pem())].map(|(kind, text)| {
            let path = self.world.directory.path().join(format!("{name}.{kind}"));
            std::fs::write(&path, text).unwrap();
            path
        })
    }

    fn changed(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from} in\n{}", self.text);
        self.text = self.text.replacen(from, to, 1);
        self
    }

    fn command(&self, verb: &str) -> Command {
        let config = self.world.directory.path().join("checked.toml");
        std::fs::write(&config, &self.text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.arg(verb).arg("--config").arg(config);
        command
    }

    /// Whether `check` is content, and all it says.
    fn check(&self) -> (bool, String) {
        said(&self.command("check").output().unwrap())
    }
}

fn said(output: &Output) -> (bool, String) {
    let (content, out, err) = told(output);
    (content, out + &err)
}

fn in_days(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days)
}

/// Every name that the world's gateway has.
const NAMES: [&str; 2] = [GATEWAY, SHOP_HOST];

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_good_for_long_and_names_its_hosts_is_not_spoken_of() {
    let case = Case::start().await.listener(&NAMES, in_days(15));
    let (content, said) = case.check();
    assert!(content && said.contains("the configuration is fine"), "{said}");
    assert!(!said.contains("certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_certificate_has_expired_is_refused_by_check_and_by_serve() {
    let case = Case::start().await.listener(&NAMES, in_days(-1));
    let (content, checked) = case.check();
    assert!(
        !content && checked.contains("server.tls.certificate_file: this certificate has expired"),
        "{checked}"
    );
    assert!(!checked.contains("warning: this certificate"), "{checked}");
    // Serve says the same, and ends.
    let (content, served) = said(&case.command("serve").output().unwrap());
    assert_eq!((content, served), (false, checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_within_two_weeks_is_warned_of() {
    let case = Case::start().await.listener(&NAMES, in_days(13));
    let (content, said) = case.check();
    assert!(content, "{said}");
    assert!(
        said.contains("server.tls.certificate_file: warning: this certificate expires in 12 days"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_the_certificate_does_not_name_are_warned_of_where_they_stand() {
    let case = Case::start().await.listener(&["elsewhere.test"], in_days(100));
    let (content, said) = case.check();
    assert!(content, "{said}");
    assert!(said.contains("server.hosts: warning: 1 of 1 are not named by the certificate"), "{said}");
    assert!(said.contains("merchants[0].hosts: warning: 1 of 1 are not named by the certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_towards_merchants_and_their_authorities_are_judged_and_stop_nothing() {
    let case = Case::start().await.listener(&NAMES, in_days(100));
    let [old, key] = case.certificate("client", &["gateway"], in_days(-2));
    let [authority, _] = case.certificate("authority", &["authority"], in_days(-2));
    let lines = format!(
        "client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\nca_file = \"{}\"\n",
        old.display(),
        key.display(),
        authority.display()
    );
    let before = case.text.lines().find(|line| line.starts_with("ca_file = ")).unwrap().to_owned();
    let case = case.changed(&format!("{before}\n"), &lines);
    let (content, said) = case.check();
    assert!(content, "{said}");
    assert!(said.contains("client_certificate_file: warning: this certificate has expired"), "{said}");
    assert!(said.contains("ca_file: warning: an authority of this file has expired"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_authorities_is_refused_where_a_merchant_needs_them() {
    let case = Case::start().await;
    let line = case.text.lines().find(|line| line.starts_with("ca_file = ")).unwrap().to_owned();
    let case = case.changed(&format!("{line}\n"), "");
    let empty = case.world.directory.path().join("none.pem");
    std::fs::write(&empty, "").unwrap();
    let mut all = Vec::new();
    for verb in ["check", "serve"] {
        let mut command = case.command(verb);
        command.env("SSL_CERT_FILE", &empty).env("SSL_CERT_DIR", case.world.directory.path().join("none"));
        let (content, said) = said(&command.output().unwrap());
        assert!(
            !content && said.contains("no certificate authorities to verify a merchant by"),
            "{verb}: {said}"
        );
        all.push(said);
    }
    assert_eq!(all[0], all[1], "both refuse the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_files_for_the_connections_are_told() {
    let case = Case::start().await;
    let mut limited = Command::new("sh");
    let inner = case.command("check");
    let line = std::iter::once(inner.get_program()).chain(inner.get_args());
    let line: Vec<_> = line.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    limited.arg("-c").arg(format!("ulimit -n 700; exec {}", line.join(" ")));
    let (content, told) = said(&limited.output().unwrap());
    assert!(content, "{told}");
    assert!(told.contains("accepts 350 connections") && told.contains("raise nofile"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_digest_of_a_credential_and_a_line_end_is_told_by_check_and_in_the_log() {
    let case = Case::start().await;
    let credential = case.world.operator.expose().to_owned();
    let digest = |text: &str| -> String {
        sha256(&[text.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (right, wrong) = (digest(&credential), digest(&format!("{credential}\n")));
    let mut case = case.changed(&right, &wrong);
    let mut command = case.command("check");
    let (content, told) =
        said(&command.env("COUNTERSIGN_OPERATOR_CREDENTIAL", &credential).output().unwrap());
    assert!(
        content && told.contains("admin.operators: warning: a digest here is that of the credential"),
        "{told}"
    );
    case.world.text = case.text.clone();
    case.world.open().await;
    assert_eq!(case.world.operate("GET /claims", None).await.status, 401);
    until_logged(&case.world, &[r#""event":"operator_refused""#, r#""line_end":true"#]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_of_an_agents_credential_and_a_line_end_is_told_once_when_it_is_refused() {
    let mut world = World::start().await;
    let credential = world.alpha().settings().credential.expose().to_owned();
    world.close().await;
    let text = world.text.clone();
    let case = Case { world, text };
    let digest = |text: &str| -> String {
        sha256(&[text.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let (right, wrong) = (digest(&credential), digest(&format!("{credential}\r\n")));
    let mut case = case.changed(&right, &wrong);
    case.world.text = case.text.clone();
    case.world.open().await;
    let alpha = case.world.alpha();
    for _ in 0..3 {
        let answer = alpha.get("/m/lamps/checkout_sessions/cs_1").send().await.unwrap();
        assert_eq!(answer.status, 401);
    }
    until_logged(&case.world, &[r#""event":"credential_digest_with_line_end""#, r#""id":"alpha""#]).await;
    // Behind a later line of the log there is no second.
    case.world.close().await;
    let log = case.world.log.text();
    assert_eq!(log.matches("credential_digest_with_line_end").count(), 1, "{log}");
    assert!(!log.contains(&credential));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_when_each_certificate_ends() {
    let case = Case::start().await;
    let (listener, client) = (in_days(40), in_days(50));
    let case = case.listener(&NAMES, listener);
    let [certificate, key] = case.certificate("client", &["gateway"], client);
    let lines = format!(
        "client_certificate_file = \"{}\"\nclient_key_file = \"{}\"\nallow_private_addresses = true\n",
        certificate.display(),
        key.display()
    );
    let mut case = case.changed("allow_private_addresses = true\n", &lines);
    let admins = in_days(60);
    let [certificate, key] = case.certificate("admin", &["admin"], admins);
    let tls = format!(
        "\n[admin.tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    case.world.text = case.text.clone() + &tls;
    case.world.open().await;
    let text = case.world.app().metrics_text();
    for (labels, ends) in [
        ("merchant=\"\",use=\"listener\"", listener),
        ("merchant=\"\",use=\"admin\"", admins),
        ("merchant=\"lamps\",use=\"client\"", client),
    ] {
        let ends = ends.unix_timestamp();
        let line = format!("countersign_certificate_expiry_timestamp_seconds{{{labels}}} {ends}\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

async fn until_logged(world: &World, words: &[&str]) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !world.log.text().lines().any(|line| words.iter().all(|word| line.contains(word))) {
        assert!(std::time::Instant::now() < deadline, "{words:?} in {}", world.log.text());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
