//! The operators' listener with TLS: whom it lets in, and that the commands for operators speak it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use countersign::app::{App, Source};
use countersign::config::Config;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::wire::PATIENCE;
use crate::world::child::LOOK_AGAIN;
use crate::world::*;

/// The listener's name in its certificate; its address is not there.
const NAME: &str = "admin.test";
/// What the gateway needs, and what operators do.
const TLS: &str = r#"
[health]
listen = "127.0.0.1:0"
[admin.tls]
certificate_file = "admin.pem"
key_file = "admin.key"
client_ca_file = "house.pem"
[admin.client]
ca_file = "house.pem"
name = "admin.test"
certificate_file = "operator.pem"
key_file = "operator.key"
"#;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority, its certificate in a file.
fn authority(directory: &Path, name: &str) -> Authority {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(directory.join(format!("{name}.pem")), authority.pem()).unwrap();
    authority
}

/// A certificate and its key in files.
fn issue(directory: &Path, by: &Authority, file: &str, name: &str) {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, by).unwrap();
    for (kind, text) in [("pem", leaf.pem()), ("key", key.serialize_pem())] {
        std::fs::write(directory.join(format!("{file}.{kind}")), text).unwrap();
    }
}

/// A gateway whose operators' listener speaks TLS, and that reads its file again when it is told to.
struct Guarded {
    world: World,
    app: App,
    file: PathBuf,
    house: Authority,
}

impl Guarded {
    async fn start() -> Self {
        let mut world = World::closed(Options::default()).await;
        let directory = world.directory.path().to_owned();
        let (house, other) = (authority(&directory, "house"), authority(&directory, "other"));
        issue(&directory, &house, "admin", NAME);
        issue(&directory, &house, "operator", "on-call");
        issue(&directory, &other, "stranger", "on-call");
        world.text.push_str(TLS);
        let file = directory.join("guarded.toml");
        std::fs::write(&file, &world.text).unwrap();
        let again = file.clone();
        let source = Source { read: Arc::new(move || Config::load(&again)), file: None };
        let (clock, log) = (Arc::clone(&world.gateway_clock), world.log.clone());
        let config = Config::load(&file).unwrap();
        let app = App::start_logging_to(config, Some(source), clock, log).await.unwrap();
        Self { world, app, file, house }
    }

    fn directory(&self) -> &Path {
        self.world.directory.path()
    }

    /// What a command says of it, with a configuration changed like this.
    async fn command(&self, arguments: &[&str], change: impl FnOnce(String) -> String) -> (bool, String) {
        let config = self.directory().join("theirs.toml");
        std::fs::write(&config, change(self.world.text.clone())).unwrap();
        let admin = self.app.admin_address().to_string();
        let mut words = arguments.to_vec();
        words.extend(["--config", config.to_str().unwrap(), "--admin", &admin]);
        let (content, out, errors) = told(&self.world.run(&words).await);
        (content, out + &errors)
    }

    /// Has the file read again, with this text in it.
    async fn reload_with(&self, text: &str) -> (bool, String) {
        std::fs::write(&self.file, text).unwrap();
        self.command(&["reload"], |text| text).await
    }

    /// A connection that shows this certificate, if any.
    fn connect(&self, certificate: Option<&str>) -> Connection {
        Connection::open(self.app.admin_address(), self.directory(), certificate)
    }

    /// Waits until so many handshakes are counted as failed for their certificates: who is turned away
    /// hears it first.
    async fn until_turned_away(&self, count: usize) {
        let line = format!("countersign_handshake_failures_total{{reason=\"certificate\"}} {count}\n");
        let until = Instant::now() + PATIENCE;
        while !self.app.metrics_text().contains(&line) {
            assert!(Instant::now() < until, "{}", self.app.metrics_text());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn open(address: SocketAddr, directory: &Path, certificate: Option<&str>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(directory.join("house.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let [chain, key] = ["pem", "key"].map(|kind| directory.join(format!("{name}.{kind}")));
                let chain = vec![CertificateDer::from_pem_file(chain).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        let connection = ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self(StreamOwned::new(connection, stream))
    }

    /// The head of the answer to a GET; what it holds is read.
    fn get(&mut self, path: &str) -> std::io::Result<String> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n").as_bytes())?;
        let (mut text, mut part) = (String::new(), [0; 4096]);
        loop {
            let read = self.0.read(&mut part)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            text.push_str(std::str::from_utf8(&part[..read]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return Ok(head.to_owned());
            }
        }
    }

    fn status(&mut self, path: &str) -> Option<u16> {
        self.get(path).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// The certificate that the listener showed.
    fn shown(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_shows_a_certificate_of_the_authority_is_let_in_and_a_credential_is_asked_for_all_the_same()
{
    let guarded = Guarded::start().await;
    let mut operator = guarded.connect(Some("operator"));
    assert_eq!(operator.status("/readyz"), Some(200));
    assert_eq!(operator.status("/metrics"), Some(200), "on the same connection");
    assert_eq!(operator.status("/claims"), Some(401), "a certificate is no credential");
    for (failed, nobody) in [None, Some("stranger")].into_iter().enumerate() {
        assert_eq!(guarded.connect(nobody).status("/livez"), None, "{nobody:?}");
        guarded.until_turned_away(failed + 1).await;
    }
    // Without TLS there is no answer at all.
    let mut plain = TcpStream::connect(guarded.app.admin_address()).unwrap();
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: admin\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    guarded.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_for_operators_speak_tls_as_the_configuration_or_arguments_say() {
    let guarded = Guarded::start().await;
    let list = ["claims", "list"];
    let (content, said) = guarded.command(&list, |text| text).await;
    assert!(content && said == "no claim is in doubt or pending\n", "{said}");
    let (content, said) =
        guarded.command(&["suspend", "agent", "alpha", "--why", "it loops"], |text| text).await;
    assert!(content && said == "agent alpha: suspended\n", "{said}");

    // By arguments, which win. The gateway's own files are not looked for.
    let bare = |text: String| {
        let text = text.replace(TLS, "\n[admin.tls]\ncertificate_file = \"a\"\nkey_file = \"b\"\n");
        assert!(!text.contains("admin.client"));
        text
    };
    let path = |name: &str| guarded.directory().join(name).display().to_string();
    let [ca, pem, key] = ["house.pem", "operator.pem", "operator.key"].map(path);
    let arguments = ["--admin-ca", &ca, "--admin-name", NAME];
    let own = ["--admin-certificate", &pem, "--admin-key", &key];
    let (content, said) = guarded.command(&[&list[..], &arguments, &own].concat(), bare).await;
    assert!(content, "{said}");

    for (arguments, change, expected) in [
        (vec![], bare as fn(String) -> String, "tls unknown issuer: `admin.client.ca_file` or --admin-ca"),
        (vec!["--admin-ca", &ca], bare, "tls wrong name: `admin.client.name` or --admin-name"),
        (
            arguments.to_vec(),
            bare,
            "tls client certificate: it lets in who shows a certificate of its authority",
        ),
        (
            vec![],
            |text| text.replace("operator.pem", "stranger.pem"),
            "operator.key: this key does not belong",
        ),
        (vec![], |text| text.replace("operator.", "stranger."), "tls client certificate"),
        (vec![], |text| text.replace("operator.pem", "absent.pem"), "absent.pem: No such file"),
        (vec![], |text| text.replace("house.pem", "operator.key"), "operator.key: no certificate in it"),
        (vec![], |text| text.replace(TLS, ""), "does its configuration say whether it speaks TLS there?"),
        (vec!["--admin-certificate", &pem], bare, "--admin-key"),
    ] {
        let (content, said) = guarded.command(&[&list[..], &arguments].concat(), change).await;
        assert!(!content && said.contains(expected), "{expected}: {said}");
    }
    guarded.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_drops_no_connection_and_an_authority_that_goes_takes_its_clients_along() {
    let guarded = Guarded::start().await;
    let text = guarded.world.text.clone();
    let mut kept = guarded.connect(Some("operator"));
    assert_eq!(kept.status("/livez"), Some(200));
    issue(guarded.directory(), &guarded.house, "admin", NAME);
    let (content, said) = guarded.reload_with(&text).await;
    assert!(content && said == "applied\n  ~ [admin]\n", "{said}");
    assert_eq!(kept.status("/livez"), Some(200));
    let mut new = guarded.connect(Some("operator"));
    assert_eq!(new.status("/livez"), Some(200));
    assert_ne!(new.shown(), kept.shown());

    // Another listener wants another process.
    let moved = text.replace("[health]\nlisten = \"127.0.0.1:0\"", "[health]\nlisten = \"127.0.0.1:1\"");
    let (content, said) = guarded.reload_with(&moved).await;
    assert!(!content && said.contains("[health]: only a restart changes it"), "{said}");
    // That TLS is there at all is the listener's, and stays for as long as it listens.
    let (content, said) = guarded.reload_with(&text.replace(TLS, "")).await;
    assert!(!content && said.contains("[admin.tls]: only a restart brings it or takes it away"), "{said}");
    let elsewhere = text.replace("client_ca_file = \"house.pem\"", "client_ca_file = \"other.pem\"");
    let (content, said) = guarded.reload_with(&elsewhere).await;
    assert!(content, "{said}");
    let refused = kept.get("/livez").unwrap();
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("connection: close"), "{refused}");
    assert_eq!(guarded.connect(Some("operator")).status("/livez"), None);
    assert_eq!(
        guarded.connect(Some("stranger")).status("/livez"),
        Some(200),
        "the authority that counts now"
    );
    guarded.app.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_that_have_no_certificate_are_answered_on_a_listener_of_their_own_and_nothing_else_is() {
    let guarded = Guarded::start().await;
    let health = guarded.app.health_address().unwrap();
    let status = |path: &str| {
        let mut stream = TcpStream::connect(health).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: health\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!([status("/livez"), status("/readyz")], ["200", "200"]);
    for path in ["/metrics", "/claims", "/suspensions", "/config/reload"] {
        assert_eq!(status(path), "404", "{path}");
    }
    assert_eq!(guarded.connect(Some("operator")).status("/readyz"), Some(200), "where they were, too");
    guarded.app.shutdown().await;
    assert!(TcpStream::connect(health).is_err());
}
