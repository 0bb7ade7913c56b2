//! Readers of authorities, base URLs and networks: where merchants are, and from where redeemers call.
//!
//! Apart from the other values because these rules keep requests from going astray.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use super::document::Value;
use super::report::Problem;
use crate::acp::authority::Authority;
use crate::domain::id::is_path_id;
use crate::merchant::is_public;

/// Base URLs of one merchant at most: each is tried within the deadline of one request.
const MOST_BASE_URLS: usize = 4;

/// An authority of ours, lower-case and without the default port of https.
pub(super) fn authority(value: &Value<'_>) -> Result<String, Problem> {
    Authority::parse(value.text()?)
        .map(|authority| authority.as_str().to_owned())
        .ok_or_else(|| "expected a host name with an optional port, such as \"pay.example.com\"".into())
}

/// As [`Authority`], which is what a request's authority is compared with; but 80 and not 443 is the
/// default port of http.
fn normal_authority(text: &str, scheme: &str) -> Option<String> {
    let default_port = if scheme == "https" { 443 } else { 80 };
    Some(Authority::parse_for(text, default_port)?.as_str().to_owned())
}

/// The base of somebody's URLs: `https` (or `http`), an authority and perhaps a path prefix,
/// without a trailing slash, user, query or fragment. Scheme and authority come out normalised
/// (RFC 3986 §6.2.2 and §6.2.3), as `@target-uri` is signed.
pub(super) fn base_url(value: &Value<'_>) -> Result<Uri, Problem> {
    const EXPECTED: &str = "expected a URL such as \"https://shop.example.com\" or \
                            \"https://shop.example.com/acp\", without user, query or fragment";
    parse_base_url(value.text()?).ok_or_else(|| EXPECTED.into())
}

/// One base URL, or several in the order in which they are tried.
pub(super) fn base_urls(value: &Value<'_>, allow_private_addresses: bool) -> Result<Vec<Uri>, Problem> {
    let mut urls: Vec<Uri> = Vec::new();
    for element in value.elements() {
        let url = base_url(&element)?;
        if let Some(problem) = address_problem(&url, allow_private_addresses) {
            return Err(problem.into());
        }
        if urls.contains(&url) {
            return Err("the same URL twice".into());
        }
        urls.push(url);
    }
    if urls.is_empty() || urls.len() > MOST_BASE_URLS {
        return Err(format!("expected a URL, or a list of up to {MOST_BASE_URLS}").into());
    }
    Ok(urls)
}

fn parse_base_url(text: &str) -> Option<Uri> {
    if text.contains(['?', '#', '@', '%', '\\']) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "https" | "http") {
        return None;
    }
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let authority = normal_authority(authority, &scheme)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if !path.is_empty() && !path.split('/').skip(1).all(is_path_id) {
        return None;
    }
    format!("{scheme}://{authority}{path}").parse().ok()
}

/// What a merchant's address asks of its configuration: `None` when all is well.
fn address_problem(url: &Uri, allow_private: bool) -> Option<&'static str> {
    let host = url.host().unwrap_or_default();
    let private = is_certainly_not_public(host);
    if private && !allow_private {
        return Some(
            "this address is not a public one: set `allow_private_addresses = true` if that is meant",
        );
    }
    let plain = url.scheme_str() == Some("http");
    (plain && !(allow_private && (private || is_local_name(host)))).then_some(
        "must be https; http is accepted only for a private, loopback or local name together with \
         `allow_private_addresses = true`",
    )
}

fn is_certainly_not_public(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse().is_ok_and(|address| !is_public(address))
}

/// Names that do not resolve on the public Internet: single labels, as container platforms give
/// out, and the domains reserved for private use (RFC 6762, RFC 8375, ICANN's `.internal`).
fn is_local_name(host: &str) -> bool {
    let ip_literal = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let reserved = [".internal", ".local", ".home.arpa", ".test"];
    !ip_literal && (!host.contains('.') || reserved.iter().any(|suffix| host.ends_with(suffix)))
}

/// A network whose word is taken: `too_wide` says why "anywhere" is refused.
pub(super) fn network(too_wide: &'static str) -> impl Fn(&Value<'_>) -> Result<IpNet, Problem> {
    move |value| {
        let text = value.text()?;
        let network: IpNet = text
            .parse()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| "expected a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"")?;
        match network {
            IpNet::V4(v4) if v4.prefix_len() < 8 => Err(too_wide.into()),
            IpNet::V6(v6) if v6.prefix_len() < 16 => Err(too_wide.into()),
            IpNet::V6(v6) if v6.network().to_ipv4_mapped().is_some() => {
                Err("write an IPv4 network as IPv4".into())
            }
            IpNet::V4(_) | IpNet::V6(_) => Ok(network.trunc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_normalised_and_carry_nothing_but_a_prefix() {
        let read = |text| parse_base_url(text).map(|url| url.to_string());
        assert_eq!(
            read("HTTPS://Shop.example.com:443/acp/"),
            Some("https://shop.example.com/acp".to_owned())
        );
        assert_eq!(read("http://127.0.0.1:9000"), Some("http://127.0.0.1:9000/".to_owned()));
        assert_eq!(read("http://shop:80/a"), Some("http://shop/a".to_owned()));
        assert_eq!(read("http://shop:443"), Some("http://shop:443/".to_owned()));
        for bad in [
            "shop.example.com",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a?x=1",
            "https://a#f",
            "https://a/../b",
            "https://a//b",
            "https://a/%2e",
            "https://a b",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn plain_http_and_private_addresses_need_to_be_meant() {
        let check = |url: &str, allow| address_problem(&url.parse().unwrap(), allow).is_none();
        for (url, without, with) in [
            ("https://shop.example.com", true, true),
            ("http://shop.example.com", false, false),
            ("http://93.184.216.34", false, false),
            ("https://10.0.0.1", false, true),
            ("http://127.0.0.1:9000", false, true),
            ("http://[::1]:9000", false, true),
            ("http://[::ffff:10.0.0.1]", false, true),
            ("http://localhost", false, true),
            ("http://merchant:9000", false, true),
            ("http://shop.internal", false, true),
        ] {
            assert_eq!((check(url, false), check(url, true)), (without, with), "{url}");
        }
    }
}
