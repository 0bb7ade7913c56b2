//! The quickstart's parties and the configuration that introduces them to the gateway.
//!
//! An ordinary file, written beside fresh keys and credentials, so that it can be read as an example.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificates::Certificates;
use super::shop::Shop;
use crate::config::{Config, ConfigErrors};
use crate::crypto::digest::{hexadecimal, sha256};
use crate::crypto::random::{self, RandomUnavailable};
use crate::crypto::sign::{Algorithm, KeyRejected, SigningKey};
use crate::domain::secret::SecretString;

/// An agent: its name, credential and key.
pub struct AgentIdentity {
    /// Its name.
    pub id: &'static str,
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
    pub id: &'static str,
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
    pub fn agent(&self, id: &'static str) -> Result<AgentIdentity, ConfigurationError> {
        let (key, pem) = SigningKey::generate(Algorithm::Ed25519)?;
        let key_file = self.write(&format!("{id}.pem"), &pem)?;
        let (key_id, key) = (key.public().thumbprint(), Arc::new(key));
        Ok(AgentIdentity { id, credential: credential()?, key, key_id, key_file })
    }

    /// Makes a merchant.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn merchant(&self, id: &'static str) -> Result<MerchantIdentity, ConfigurationError> {
        let (credential, redeemer_credential) = (credential()?, credential()?);
        self.write(&format!("{id}.credential"), credential.expose())?;
        Ok(MerchantIdentity { id, credential, redeemer_credential })
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
        let credential = credential()?;
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
        let mut text = about_gateway(place, certificates);
        text.push_str(own);
        for agent in agents {
            text.push_str(&about_agent(agent));
        }
        for (merchant, shop) in merchants {
            text.push_str(&about_merchant(merchant, shop, &certificates.authority_file));
        }
        let path = self.write("countersign.toml", &text)?;
        let config = Config::load(&path)?;
        Ok((path, config))
    }

    /// Writes a file that its owner alone can read.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<PathBuf, ConfigurationError> {
        let path = self.0.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        match file.and_then(|mut file| file.write_all(content.as_bytes())) {
            Ok(()) => Ok(path),
            Err(reason) => Err(ConfigurationError::File { path, reason }),
        }
    }
}

fn about_gateway(place: &Place, certificates: &Certificates) -> String {
    format!(
        r#"# Written by `countersign quickstart`. Every key is explained in deploy/countersign.toml.
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

"#,
        listen = place.listen,
        authority = place.authority,
        certificate = quoted(&certificates.certificate_file),
        key = quoted(&certificates.key_file),
        admin = place.admin,
    )
}

fn about_agent(agent: &AgentIdentity) -> String {
    format!(
        r#"
[[agents]]
id = "{id}"
credentials = ["{digest}"]
keys = [{{ jwk = {{ kty = "OKP", crv = "Ed25519", x = {x} }} }}]
token_ceiling = [{{ amount = 100000, currency = "usd" }}]
"#,
        id = agent.id,
        digest = digest(&agent.credential),
        x = agent.key.public().to_jwk().get("x").map(ToString::to_string).unwrap_or_default(),
    )
}

fn about_merchant(merchant: &MerchantIdentity, shop: &Shop, authority_file: &Path) -> String {
    format!(
        r#"
[[merchants]]
id = "{id}"
base_url = "{base_url}"
ca_file = {ca_file}
allow_private_addresses = true
credential = "file:{id}.credential"
versions = ["2026-01-30", "2026-04-17"]
idempotency = "keys"
redeemers = [{{ name = "{id}", credentials = ["{digest}"], networks = ["127.0.0.0/8"] }}]
"#,
        id = merchant.id,
        base_url = shop.base_url(),
        ca_file = quoted(authority_file),
        digest = digest(&merchant.redeemer_credential),
    )
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn credential() -> Result<Arc<SecretString>, RandomUnavailable> {
    Ok(Arc::new(SecretString::new(random::base62(32)?)))
}

fn digest(credential: &SecretString) -> String {
    format!("sha256:{}", hexadecimal(&sha256(&[credential.expose().as_bytes()])))
}
