//! The one authority a request is addressed to. HTTP lets a request name it twice; two names that
//! differ are an attack on routing and on signatures, so they are refused.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, Uri};

/// A host and optional port: lower-case, without the default port 443.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority(Arc<str>);

/// The request names no authority, an unreadable one, or two that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request must name one valid authority")]
pub struct BadAuthority;

impl Authority {
    /// The authority of a request: HTTP/2's `:authority` or HTTP/1.1's absolute form (both stand in
    /// the URI) and `Host` must agree wherever both are present (RFC 9112 §3.2, RFC 9113 §8.3.1).
    ///
    /// # Errors
    /// [`BadAuthority`] when there is none, more than one `Host`, or a disagreement.
    pub fn of_request(uri: &Uri, headers: &HeaderMap) -> Result<Self, BadAuthority> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().map(|value| value.to_str().map_err(|_| BadAuthority)).transpose()?;
        if hosts.next().is_some() {
            return Err(BadAuthority);
        }
        let host = host.map(|text| Self::parse(text).ok_or(BadAuthority)).transpose()?;
        let target =
            uri.authority().map(|text| Self::parse(text.as_str()).ok_or(BadAuthority)).transpose()?;
        match (target, host) {
            (Some(target), Some(host)) if target == host => Ok(target),
            (Some(_), Some(_)) | (None, None) => Err(BadAuthority),
            (Some(only), None) | (None, Some(only)) => Ok(only),
        }
    }

    /// Reads and normalises `host` or `host:port`; `None` for user information, an empty host, and
    /// anything outside a registered name or an IP literal.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_for(text, 443)
    }

    /// The same where another port than 443 goes without saying.
    pub fn parse_for(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host_is_valid = match in_brackets {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                (1..=253).contains(&host.len())
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if !host_is_valid {
            return None;
        }
        let is_lower = !host.bytes().any(|b| b.is_ascii_uppercase());
        let host = if is_lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) };
        match port {
            Some(port) if port != default_port => Some(Self(format!("{host}:{port}").into())),
            _ => Some(Self(host.into())),
        }
    }

    /// As shared text.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The authority as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Host and port; the host keeps its brackets. A port is digits that make 1 to 65535; none at all is the
/// default's too (RFC 3986 §3.2.3).
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_host = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = text.get(after_host..)?.find(':') else {
        return Some((text, None));
    };
    let (host, port) = text.split_at_checked(after_host + colon)?;
    let digits = port.strip_prefix(':')?;
    if digits.is_empty() {
        return Some((host, None));
    }
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = digits.parse().ok().filter(|port| all_digits && *port != 0)?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(uri: &str, hosts: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        Authority::of_request(&uri.parse().unwrap(), &headers).ok().map(|authority| authority.to_string())
    }

    #[test]
    fn host_and_target_must_agree_once_normalised() {
        assert_eq!(of("/x", &["Pay.Example"]), Some("pay.example".into()));
        assert_eq!(of("https://PAY.example:443/x", &["pay.example"]), Some("pay.example".into()));
        assert_eq!(of("https://pay.example/x", &[]), Some("pay.example".into()));
        assert_eq!(of("https://pay.example/x", &["other.example"]), None);
        assert_eq!(of("https://pay.example/x", &["pay.example:8443"]), None);
        assert_eq!(of("/x", &["pay.example", "pay.example"]), None);
        assert_eq!(of("/x", &[]), None);
    }

    #[test]
    fn the_default_port_is_dropped_and_another_is_kept() {
        assert_eq!(of("/", &["a.example:443"]), Some("a.example".into()));
        assert_eq!(of("/", &["a.example:8443"]), Some("a.example:8443".into()));
        assert_eq!(of("/", &["[::1]:8443"]), Some("[::1]:8443".into()));
        assert_eq!(of("/", &["127.0.0.1:08443"]), Some("127.0.0.1:8443".into()));
        assert_eq!(of("/", &["127.0.0.1:0000008443"]), Some("127.0.0.1:8443".into()));
        assert_eq!(of("/", &["a.example:"]), Some("a.example".into()));
        assert_eq!(Authority::parse_for("a.example:080", 80).unwrap().as_str(), "a.example");
        assert_eq!(Authority::parse_for("a.example:443", 80).unwrap().as_str(), "a.example:443");
    }

    #[test]
    fn what_is_not_a_plain_authority_is_refused() {
        for text in [
            "",
            ":443",
            "a.example:+80",
            "a.example:0",
            "a.example:65536",
            "u@a.example",
            "a b",
            "[::1",
            "[x]",
            "a:1:2",
            "a/b",
            "a%20b",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    /// Host and port as an independent reader has them.
    fn oracle(text: &str) -> Option<(String, u16)> {
        let url = url::Url::parse(&format!("https://{text}")).ok()?;
        let named = url.host_str().map(str::to_owned)?;
        let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        url.port_or_known_default().filter(|port| plain && *port != 0).map(|port| (named, port))
    }

    proptest! {
        #[test]
        fn an_authority_is_read_as_an_independent_reader_reads_it(
            host in "([a-zA-Z][a-z0-9]{0,3}(-[a-z]{1,2})?(\\.[a-z]{2,3}){0,2}|10\\.0\\.0\\.[1-9]|\\[[0-9a-f:]{0,6}\\])",
            port in "(:[0-9]{0,6}|:[+-]?[0-9]{1,4}|)",
        ) {
            let text = format!("{host}{port}");
            let ours = Authority::parse(&text).map(|authority| {
                let (host, port) = split_port(authority.as_str()).unwrap();
                let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                    Some(address) => format!("[{}]", address.parse::<std::net::Ipv6Addr>().unwrap()),
                    None => host.to_owned(),
                };
                (host, port.unwrap_or(443))
            });
            prop_assert_eq!(ours, oracle(&text), "{}", text);
        }

        #[test]
        fn any_text_is_refused_or_normalised_for_good(text in "\\PC{0,64}") {
            if let Some(authority) = Authority::parse(&text) {
                prop_assert_eq!(Authority::parse(authority.as_str()), Some(authority));
            }
        }
    }
}
