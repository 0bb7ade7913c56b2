//! The quickstart's parties and the configuration that introduces them to the gateway.
//!
//! An ordinary file, written beside fresh keys and credentials, so that it can be read as an example.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates::{CertificateError, Certificates};
use super::shop::Shop;
use crate::config::{Config, ConfigErrors, overview};
use crate::crypto::digest::{hexadecimal, sha256};
use crate::crypto::random::{self, RandomUnavailable};
use crate::crypto::sign::{Algorithm, KeyRejected, SigningKey};
use crate::domain::secret::SecretString;
use crate::merchant::is_public;

/// Where who is on this machine calls from.
pub(crate) const LOOPBACK: &str = "127.0.0.0/8";

/// An agent: its name, credential and key.
pub struct AgentIdentity {
    /// Its name.
    pub id: String,
    /// Its bearer credential.
    pub credential: Arc<SecretString>,
    /// The key it signs with.
    pub key: Arc<SigningKey>,
    /// What signatures call the key: its JWK thumbprint.
    pub key_id: String,
    /// PKCS#8 PEM of the key.
    pub key_file: PathBuf,
}

/// A merchant: its name and the credentials between it and the gateway.
pub struct MerchantIdentity {
    /// Its name.
    pub id: String,
    /// What the gateway presents to it.
    pub credential: Arc<SecretString>,
    /// What it presents to the gateway.
    pub redeemer_credential: Arc<SecretString>,
}

/// Where the gateway is to listen.
#[derive(Clone, Debug)]
pub struct Place {
    /// For agents and merchants.
    pub listen: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// The gateway's name, with its port where it is not 443.
    pub authority: String,
}

/// The gateway cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file cannot be written.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// No randomness for keys and credentials.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// No randomness for a key pair.
    #[error("no key can be made")]
    Key(#[from] KeyRejected),
    /// No certificate can be made.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// What was written is not accepted.
    #[error("{0}")]
    Refused(#[from] ConfigErrors),
}

/// A directory that holds everything of one configuration, secrets in files of their own.
pub struct Workspace<'a>(pub &'a Path);

impl Workspace<'_> {
    /// Makes an agent.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn agent(&self, id: &str) -> Result<AgentIdentity, ConfigurationError> {
        let (key, pem) = SigningKey::generate(Algorithm::Ed25519)?;
        let key_file = self.write(&format!("{id}.pem"), &pem)?;
        let (key_id, key) = (key.public().thumbprint(), Arc::new(key));
        Ok(AgentIdentity { id: id.to_owned(), credential: new_credential()?, key, key_id, key_file })
    }

    /// Makes a merchant.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn merchant(&self, id: &str) -> Result<MerchantIdentity, ConfigurationError> {
        let (credential, redeemer_credential) = (new_credential()?, new_credential()?);
        self.write(&format!("{id}.credential"), credential.expose())?;
        Ok(MerchantIdentity { id: id.to_owned(), credential, redeemer_credential })
    }

    /// Makes the gateway's own keys: the configuration's section about them.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn keys(&self) -> Result<String, ConfigurationError> {
        let (_, signing) = SigningKey::generate(Algorithm::Ed25519)?;
        self.write("signing.pem", &signing)?;
        let mut text =
            "[keys]\nsigning = [{ id = \"signing-1\", secret = \"file:signing.pem\" }]\n".to_owned();
        for ring in ["sealing", "fingerprint", "card_fingerprint", "derivation"] {
            let secret = zeroize::Zeroizing::new(hexadecimal(&random::bytes::<32>()?));
            self.write(&format!("{ring}.key"), &secret)?;
            let id = ring.replace('_', "-");
            let _ = writeln!(text, "{ring} = [{{ id = \"{id}-1\", secret = \"file:{ring}.key\" }}]");
        }
        Ok(text)
    }

    /// Makes an operator: its credential, and the configuration's section about it.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn operator(&self) -> Result<(Arc<SecretString>, String), ConfigurationError> {
        let credential = new_credential()?;
        let digest = digest(&credential);
        let text = format!("\n[[admin.operators]]\nname = \"you\"\ncredentials = [\"{digest}\"]\n");
        Ok((credential, text))
    }

    /// Writes the configuration, with the gateway's `own` sections as they were made, and reads it as
    /// `serve` would. The file's path, and the result.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn configure(
        &self,
        place: &Place,
        certificates: &Certificates,
        own: &str,
        agents: &[AgentIdentity],
        merchants: &[(&MerchantIdentity, &Shop)],
    ) -> Result<(PathBuf, Config), ConfigurationError> {
        let mut text = place.section(certificates);
        text.push_str(own);
        for agent in agents {
            text.push_str(&agent.section());
        }
        for (merchant, shop) in merchants {
            let entry = MerchantEntry {
                id: &merchant.id,
                base_url: shop.base_url(),
                ca_file: Some(&certificates.authority_file),
                versions: &["2026-01-30", "2026-04-17"],
                honours_keys: true,
                is_test: true,
                redeemer: &merchant.redeemer_credential,
                network: LOOPBACK,
            };
            text.push_str(&entry.section());
        }
        self.configured(&text)
    }

    /// Writes a configuration, and reads it as `serve` would. The file's path, and the result.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn configured(&self, text: &str) -> Result<(PathBuf, Config), ConfigurationError> {
        let path = self.write("countersign.toml", text)?;
        let config = Config::load(&path)?;
        Ok((path, config))
    }

    /// Writes a file that its owner alone can read.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, ConfigurationError> {
        let path = self.0.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        match file.and_then(|mut file| file.write_all(content.as_bytes())) {
            Ok(()) => Ok(path),
            Err(reason) => Err(ConfigurationError::File { path, reason }),
        }
    }
}

impl Place {
    /// The configuration's sections about a gateway there, its keys and operators apart.
    pub(crate) fn section(&self, certificates: &Certificates) -> String {
        format!(
            r#"# Every key is explained in deploy/countersign.toml.
[server]
listen = "{listen}"
hosts = ["{authority}"]
tls = {{ certificate_file = {certificate}, key_file = {key} }}

[admin]
listen = "{admin}"

[store]
directory = "store"
epoch_directory = "epochs"
min_free_bytes = "16MiB"

[traces]
per_second = 1000

"#,
            listen = self.listen,
            authority = self.authority,
            certificate = quoted(&certificates.certificate_file),
            key = quoted(&certificates.key_file),
            admin = self.admin,
        )
    }
}

impl AgentIdentity {
    /// Its entry.
    pub(crate) fn section(&self) -> String {
        format!(
            r#"
[[agents]]
id = "{id}"
credentials = ["{digest}"]
keys = [{{ jwk = {{ kty = "OKP", crv = "Ed25519", x = {x} }} }}]
token_ceiling = [{{ amount = 100000, currency = "usd" }}]
"#,
            id = self.id,
            digest = digest(&self.credential),
            x = self.key.public().to_jwk().get("x").map(ToString::to_string).unwrap_or_default(),
        )
    }
}

/// A merchant's entry.
pub(crate) struct MerchantEntry<'a> {
    /// Who it is; its credential is in a file of that name.
    pub(crate) id: &'a str,
    /// Where it is.
    pub(crate) base_url: &'a str,
    /// Authorities trusted for it instead of the system's.
    pub(crate) ca_file: Option<&'a Path>,
    /// The versions it accepts.
    pub(crate) versions: &'a [&'a str],
    /// Whether it is said to honour idempotency keys.
    pub(crate) honours_keys: bool,
    /// Whether nothing that is ordered there is meant.
    pub(crate) is_test: bool,
    /// What it fetches cards with.
    pub(crate) redeemer: &'a SecretString,
    /// Where it calls from to do so.
    pub(crate) network: &'a str,
}

impl MerchantEntry<'_> {
    /// The entry, as it stands in a file.
    pub(crate) fn section(&self) -> String {
        let mut text = format!(
            "\n[[merchants]]\nid = \"{id}\"\nbase_url = {base_url}\n",
            id = self.id,
            base_url = toml::Value::String(self.base_url.to_owned()),
        );
        if let Some(authorities) = self.ca_file {
            let _ = writeln!(text, "ca_file = {}", quoted(authorities));
        }
        if is_local(self.base_url) {
            text.push_str("allow_private_addresses = true\n");
        }
        let versions: Vec<String> = self.versions.iter().map(|version| format!("\"{version}\"")).collect();
        let _ = write!(
            text,
            "credential = \"file:{id}.credential\"\nversions = [{versions}]\nidempotency = \"{keys}\"\n\
             redeemers = [{{ name = \"{id}\", credentials = [\"{digest}\"], networks = [\"{network}\"] }}]\n",
            id = self.id,
            versions = versions.join(", "),
            keys = if self.honours_keys { "keys" } else { "none" },
            digest = digest(self.redeemer),
            network = self.network,
        );
        if self.is_test {
            text.push_str("test = true\n");
        }
        text
    }
}

/// Whether a URL leads to this machine or a private network; plain http is spoken nowhere else.
fn is_local(url: &str) -> bool {
    let url: Option<http::Uri> = url.parse().ok();
    let host = url.as_ref().and_then(|url| url.host()).unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let is_plain = url.as_ref().is_some_and(|url| url.scheme() == Some(&http::uri::Scheme::HTTP));
    is_plain || host == "localhost" || address.is_some_and(|address| !is_public(address))
}

/// A path as a TOML string.
pub(crate) fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// What was given by reference, or a new one; whether it is new.
pub(crate) fn given(reference: Option<&str>) -> io::Result<(Arc<SecretString>, bool)> {
    match reference {
        Some(reference) => Ok((Arc::new(overview::secret(reference).map_err(io::Error::other)?), false)),
        None => Ok((new_credential().map_err(io::Error::other)?, true)),
    }
}

/// A new bearer credential.
pub(crate) fn new_credential() -> Result<Arc<SecretString>, RandomUnavailable> {
    Ok(Arc::new(SecretString::new(random::base62(32)?)))
}

/// A credential as a configuration names it.
pub(crate) fn digest(credential: &SecretString) -> String {
    format!("sha256:{}", hexadecimal(&sha256(&[credential.expose().as_bytes()])))
}
