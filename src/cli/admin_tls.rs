//! TLS towards an admin listener: whom the commands for operators believe, and what they show.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::CommandError;
use crate::config::overview::AdminClient;
use crate::crypto::certificate::of_pem_file;

const NO_CERTIFICATE: &str = "no certificate in it; expected PEM with \"BEGIN CERTIFICATE\"";
const NO_KEY: &str = "no private key in it; expected unencrypted PEM with \"BEGIN PRIVATE KEY\", \
                      \"BEGIN EC PRIVATE KEY\" or \"BEGIN RSA PRIVATE KEY\"";

/// How a connection to an admin listener is protected.
pub(super) struct AdminTls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl AdminTls {
    /// As a configuration or arguments say; the files are read now. A listener that has no other name is
    /// known by its address.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn new(client: &AdminClient, address: IpAddr) -> Result<Self, CommandError> {
        let mut roots = RootCertStore::empty();
        match &client.ca {
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(path) => {
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|_| unusable(path, "TLS cannot use a certificate in it"))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_protocol_versions(&[&TLS13]).with_root_certificates(roots);
        let config = match client.certificate.as_deref().zip(client.key.as_deref()) {
            None => builder.with_no_client_auth(),
            Some((certificate, path)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(path).map_err(|_| unusable(path, NO_KEY))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| unusable(path, "this key does not belong to the operator's certificate"))?
            }
        };
        let name = client.name.clone().unwrap_or_else(|| ServerName::from(address));
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The handshake's.
    pub(super) async fn protect(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CommandError> {
    let found = of_pem_file(path);
    if found.is_empty() { Err(unusable(path, NO_CERTIFICATE)) } else { Ok(found) }
}

/// What cannot be opened is told as that.
fn unusable(path: &Path, expected: &'static str) -> CommandError {
    match std::fs::File::open(path) {
        Err(source) => CommandError::File { path: path.to_owned(), source },
        Ok(_) => CommandError::Key { path: path.to_owned(), expected },
    }
}
