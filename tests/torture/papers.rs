//! The client certificates one merchant redeems with.
//!
//! The first ends while agents buy, and the second is in use by then. From its end on, nobody who shows
//! the first may be believed, neither on a connection that was opened before nor on a resumed session.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use countersign::crypto::digest::sha256;
use countersign::domain::secret::SecretString;
use countersign::quickstart::certificates::Certificates;
use countersign::quickstart::client::{Client, Http};
use http_body_util::Full;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::notebook::Notebook;
use crate::town::{AUTHORITY, Town};

/// How long before the first certificate's end the second is in use.
const OVERLAP: Duration = Duration::from_secs(3);
/// Certificates end at whole seconds, and a second may have begun already.
const A_LITTLE: Duration = Duration::from_millis(1_500);
/// How long a gateway may take to answer at all: it may be killed or paused.
const ANSWERED_WITHIN: Duration = Duration::from_secs(150);

/// The certificates.
pub struct Papers {
    /// PEM: the authority that the gateway trusts clients of.
    pub authority_file: PathBuf,
    /// As the merchant's entry has them.
    pub fingerprints: [String; 2],
    first: ClientConfig,
    second: ClientConfig,
    ends: SystemTime,
}

fn since_1970(when: SystemTime) -> Duration {
    when.duration_since(UNIX_EPOCH).unwrap()
}

impl Papers {
    /// Certificates of which the first is good for so long.
    pub fn make(directory: &Path, server: &Certificates, life: Duration) -> Self {
        let now = SystemTime::now();
        let ends = UNIX_EPOCH + Duration::from_secs(since_1970(now + life).as_secs());
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let authority_file = directory.join("clients.pem");
        std::fs::write(&authority_file, authority.pem()).unwrap();
        let leaf = |until: SystemTime| {
            let mut leaf = CertificateParams::new(vec!["narrow.test".to_owned()]).unwrap();
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            leaf.not_before = date_time_ymd(1970, 1, 1) + since_1970(now - Duration::from_secs(3600));
            leaf.not_after = date_time_ymd(1970, 1, 1) + since_1970(until);
            let key = KeyPair::generate().unwrap();
            let certificate = leaf.signed_by(&key, &authority).unwrap();
            let digest = sha256(&[certificate.der()]);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let certified =
                CertifiedKey::from_der(vec![certificate.der().clone()], private, &default_provider());
            let mut tls = server.client().unwrap();
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified.unwrap()));
            (format!("sha256:{hex}"), tls)
        };
        let (one, first) = leaf(ends);
        let (other, second) = leaf(now + Duration::from_secs(86_400));
        Self { authority_file, fingerprints: [one, other], first, second, ends }
    }

    /// The certificate to redeem with now.
    pub fn in_use(&self) -> ClientConfig {
        if SystemTime::now() + OVERLAP < self.ends { self.first.clone() } else { self.second.clone() }
    }

    /// Looks, when the first certificate has ended, whether anybody still believes it.
    pub async fn watch(&self, town: &Town, credential: &SecretString, notebook: &Notebook) {
        let gateway = town.agents[0][0].settings().address;
        // Sessions are resumed from what this configuration keeps, whichever client it is.
        let kept = Client::new(gateway, self.first.clone(), Http::Two);
        if SystemTime::now() + A_LITTLE < self.ends {
            let before = status(&kept, credential).await;
            if SystemTime::now() < self.ends && before == Some(401) {
                notebook.odd("a client certificate that is good was refused".to_owned());
            }
        }
        let left = self.ends.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left.saturating_sub(OVERLAP)).await;
        town.meet(0);
        let left = self.ends.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left + A_LITTLE).await;
        let resumed = Client::new(gateway, self.first.clone(), Http::Two);
        for (client, how) in [(kept, "a kept connection"), (resumed, "a resumed session")] {
            // No answer is no belief either: such a connection may be closed.
            if let Some(status) = status(&client, credential).await
                && status != 401
            {
                notebook.odd(format!("{how} was answered {status} after its client certificate's end"));
            }
        }
    }
}

/// How a look at a token that nobody has is answered: 401 to whom the gateway does not believe.
/// `None` when it is not.
async fn status(client: &Client, credential: &SecretString) -> Option<u16> {
    let uri = format!("https://{AUTHORITY}/agentic_commerce/granted_tokens/vt_{}", "0".repeat(32));
    let end = Instant::now() + ANSWERED_WITHIN;
    let mut tries = 0;
    while Instant::now() < end && tries < 5 {
        let request = http::Request::get(&uri)
            .header(http::header::AUTHORIZATION, format!("Bearer {}", credential.expose()))
            .body(Full::<Bytes>::default())
            .unwrap();
        match tokio::time::timeout(ANSWERED_WITHIN, client.send(request)).await {
            Ok(Ok(answer)) if answer.status.as_u16() < 500 => return Some(answer.status.as_u16()),
            Ok(Err(_)) => tries += 1,
            Ok(Ok(_)) | Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    None
}
