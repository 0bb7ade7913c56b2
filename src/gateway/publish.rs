//! What anyone may read: discovery and our public keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::parts::Identities;
use super::refusal::{Internal, Refusal};
use super::reply::Reply;
use crate::acp::authority::Authority;
use crate::acp::discovery::{self, Service};
use crate::acp::version::Version;
use crate::crypto::jwks;
use crate::domain::id::MerchantId;

/// Keys may be kept for an hour: a new one is published that long before it signs.
pub(crate) const KEY_SET_MAX_AGE: Duration = Duration::from_secs(3600);
const KEYS_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// The flow of what anyone may read.
pub(super) struct Published {
    pub identities: Arc<Identities>,
}

impl Published {
    /// `/.well-known/acp.json` of this host.
    pub(super) fn discovery(
        &self,
        merchant: Option<&MerchantId>,
        authority: &Authority,
    ) -> Result<Reply, Refusal> {
        // On the shared host nothing tells which merchants exist.
        let body = match merchant.map(|id| self.identities.merchant(id)).transpose()? {
            None => discovery::document(authority, Version::NEWEST_FIRST, [Service::DelegatePayment]),
            Some(merchant) => {
                let versions = merchant.versions.iter().filter_map(|text| Version::parse(text));
                let services = [Service::Checkout, Service::DelegatePayment, Service::Carts];
                discovery::document(authority, versions, services)
            }
        };
        let body = body.ok_or(Refusal::NotFound)?;
        let json = HeaderValue::from_static("application/json");
        Ok(Reply::bytes(StatusCode::OK, json, body, "published")
            .with(CACHE_CONTROL, HeaderValue::from_static(discovery::CACHE_CONTROL)))
    }

    /// The public keys of countersignatures and grants.
    pub(super) fn jwks(&self) -> Result<Reply, Refusal> {
        self.keys(jwks::JWKS_MEDIA_TYPE)
    }

    /// The same keys, as a directory of HTTP message signatures.
    pub(super) fn signature_directory(&self) -> Result<Reply, Refusal> {
        self.keys(jwks::DIRECTORY_MEDIA_TYPE)
    }

    fn keys(&self, media_type: &'static str) -> Result<Reply, Refusal> {
        let document = serde_json::to_vec(&jwks::document(&self.identities.rings.signing))
            .map_err(|_| Refusal::Internal(Internal::NotWritten))?;
        let media_type = HeaderValue::from_static(media_type);
        Ok(Reply::bytes(StatusCode::OK, media_type, Bytes::from(document), "published")
            .with(CACHE_CONTROL, KEYS_CACHE))
    }
}
