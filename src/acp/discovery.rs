//! `/.well-known/acp.json` (rfc.discovery §4): what a host of ours serves.
//!
//! Apart from the routes because it must never say more than that: no merchant's name, no provider,
//! no key.

use bytes::Bytes;
use serde::Serialize;

use super::authority::Authority;
use super::version::Version;

/// `Cache-Control` of the document (rfc.discovery §10).
pub const CACHE_CONTROL: &str = "public, max-age=3600";

/// A service a host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Checkout sessions.
    Checkout,
    /// Minting tokens.
    DelegatePayment,
    /// Carts.
    Carts,
}

/// The document of a host. On a shared host `services` is delegate_payment alone, and `authority`
/// is that host's; on a merchant's host both are the merchant's. `versions` come in any order and
/// are listed oldest first (`src/acp/README.md`, "Versions"). `None` without a version: then nothing is
/// served, and 404 says so.
pub fn document(
    authority: &Authority,
    versions: impl IntoIterator<Item = Version>,
    services: impl IntoIterator<Item = Service>,
) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Document<'a> {
        protocol: Protocol,
        api_base_url: String,
        transports: &'a [&'static str],
        capabilities: Capabilities,
    }
    #[derive(Serialize)]
    struct Protocol {
        name: &'static str,
        version: &'static str,
        supported_versions: Vec<&'static str>,
    }
    #[derive(Serialize)]
    struct Capabilities {
        services: Vec<Service>,
    }

    let mut versions: Vec<Version> = versions.into_iter().collect();
    versions.sort_unstable();
    versions.dedup();
    let mut services: Vec<Service> = services.into_iter().collect();
    services.sort_unstable();
    services.dedup();
    let document = Document {
        protocol: Protocol {
            name: "acp",
            version: versions.last()?.as_str(),
            supported_versions: versions.iter().map(|version| version.as_str()).collect(),
        },
        api_base_url: format!("https://{authority}"),
        transports: &["rest"],
        capabilities: Capabilities { services },
    };
    serde_json::to_vec(&document).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed_oldest_first_and_the_last_is_the_current_one() {
        let authority = Authority::parse("shop.example:8443").unwrap();
        let versions = [Version::V2026_04_17, Version::V2025_09_29];
        let document = document(&authority, versions, [Service::Carts, Service::Checkout]).unwrap();
        let expected = serde_json::json!({
            "protocol": {
                "name": "acp", "version": "2026-04-17",
                "supported_versions": ["2025-09-29", "2026-04-17"]
            },
            "api_base_url": "https://shop.example:8443",
            "transports": ["rest"],
            "capabilities": { "services": ["checkout", "carts"] }
        });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&document).unwrap(), expected);
    }

    #[test]
    fn a_host_that_serves_no_version_has_no_document() {
        let authority = Authority::parse("shop.example").unwrap();
        assert_eq!(document(&authority, [], [Service::Checkout]), None);
    }
}
