//! The PROXY protocol, versions 1 and 2: how a load balancer tells who the client is.
//!
//! How a load balancer that passes TLS through tells who the client is. By hand, because it is small and
//! strictness matters: nothing optional is understood, nothing malformed is guessed at, and not a byte
//! more than the header is read. <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, Result as IoResult};
use tokio::net::TcpStream;

/// Section 2.2: the bytes a version 2 header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: the longest version 1 header, CRLF included.
const V1_MAX: usize = 107;
/// Section 2.1: the shortest, `PROXY UNKNOWN\r\n`.
const V1_MIN: usize = 15;
/// Addresses and TLVs of a version 2 header: far above what balancers send.
const V2_MAX: u16 = 2_048;

/// Why a header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProxyError {
    /// The connection does not begin with a header, and must.
    #[error("no PROXY header")]
    Missing,
    /// A header that is not well-formed, or of a kind that makes no sense here.
    #[error("malformed PROXY header")]
    Malformed,
    /// The connection ended within the header.
    #[error("the connection ended within the PROXY header")]
    Closed,
}

impl ProxyError {
    /// The metric's label.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Closed => "closed",
        }
    }
}

/// What a header says of the client: `None` when the proxy speaks for itself (a health check) or
/// does not know.
type Client = Option<SocketAddr>;

/// Reads the header a connection begins with, if it does. The caller has a deadline.
pub(super) async fn read(stream: &mut TcpStream, required: bool) -> Result<Client, ProxyError> {
    let mut first = [0];
    if stream.peek(&mut first).await.map_err(|_| ProxyError::Closed)? == 0 {
        return Err(ProxyError::Closed);
    }
    // A TLS handshake begins with 0x16, so one byte tells.
    match first {
        [b'P'] => parse_v1(&v1_line(stream).await.map_err(|_| ProxyError::Closed)?),
        [b'\r'] => read_v2(stream).await,
        _ if required => Err(ProxyError::Missing),
        _ => Ok(None),
    }
}

/// Reads up to the first line feed, or as many bytes as the longest line has.
async fn v1_line(stream: &mut TcpStream) -> IoResult<Vec<u8>> {
    let mut line = vec![0; V1_MIN];
    stream.read_exact(&mut line).await?;
    // What follows the line is TLS and must stay unread, so the rest is read byte by byte: at most
    // 92 times, once a connection.
    while line.len() < V1_MAX && line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

async fn read_v2(stream: &mut TcpStream) -> Result<Client, ProxyError> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.map_err(|_| ProxyError::Closed)?;
    let length = v2_length(&head)?;
    let mut rest = vec![0; usize::from(length)];
    stream.read_exact(&mut rest).await.map_err(|_| ProxyError::Closed)?;
    parse_v2(&head, &rest)
}

/// A whole header; `None` when it is none. For the fuzz target, which has no connection.
#[cfg(fuzzing)]
pub fn parse(header: &[u8]) -> Option<Option<SocketAddr>> {
    match header.split_first_chunk::<16>() {
        Some((head, rest)) if head.starts_with(&SIGNATURE) => {
            let length = v2_length(head).ok()?;
            parse_v2(head, rest.get(..usize::from(length))?).ok()
        }
        _ => parse_v1(header).ok(),
    }
}

/// Section 2.1: `PROXY TCP4 source destination source-port destination-port CRLF`.
fn parse_v1(line: &[u8]) -> Result<Client, ProxyError> {
    let text = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let text = text.strip_suffix("\r\n").filter(|text| text.is_ascii()).ok_or(ProxyError::Malformed)?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return Err(ProxyError::Malformed);
    }
    let source = match words.next() {
        // Whatever follows UNKNOWN is to be ignored.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => v1_addresses::<Ipv4Addr>(&mut words),
        Some("TCP6") => v1_addresses::<Ipv6Addr>(&mut words),
        _ => None,
    };
    source.filter(|_| words.next().is_none()).map(Some).ok_or(ProxyError::Malformed)
}

fn v1_addresses<'a, A>(words: &mut impl Iterator<Item = &'a str>) -> Option<SocketAddr>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let source: A = words.next()?.parse().ok()?;
    let _destination: A = words.next()?.parse().ok()?;
    let port = v1_port(words.next()?)?;
    v1_port(words.next()?)?;
    Some(client(source, port))
}

/// Decimal, without sign or leading zeros.
fn v1_port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}

fn client(source: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(source.into().to_canonical(), port)
}

/// Section 2.2: bytes 15 and 16 are the length of what follows.
fn v2_length(head: &[u8; 16]) -> Result<u16, ProxyError> {
    let [.., high, low] = head;
    let length = u16::from_be_bytes([*high, *low]);
    (head.starts_with(&SIGNATURE) && length <= V2_MAX).then_some(length).ok_or(ProxyError::Malformed)
}

/// Section 2.2: version and command, family and protocol, then addresses and TLVs. TLVs are not
/// looked at.
fn parse_v2(head: &[u8; 16], rest: &[u8]) -> Result<Client, ProxyError> {
    let [.., command, family, _, _] = head;
    match (command, family) {
        // LOCAL: the proxy's own connection, whatever the family says.
        (0x20, _) => Ok(None),
        // PROXY for a client of unspecified family: the proxy does not know.
        (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => v2_addresses::<4, Ipv4Addr>(rest),
        (0x21, 0x21) => v2_addresses::<16, Ipv6Addr>(rest),
        // Datagrams and UNIX sockets cannot be the client of a TCP listener.
        _ => Err(ProxyError::Malformed),
    }
}

/// Source address, destination address, source port, destination port.
fn v2_addresses<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(rest: &[u8]) -> Result<Client, ProxyError> {
    let read = || {
        let (source, rest) = rest.split_first_chunk::<N>()?;
        let (_destination, rest) = rest.split_first_chunk::<N>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (_destination_port, _tlvs) = rest.split_first_chunk::<2>()?;
        Some(client(A::from(*source), u16::from_be_bytes(*port)))
    };
    read().map(Some).ok_or(ProxyError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_1_names_the_client() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", Some("192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("[2001:db8::1]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 7 8\r\n", Some("192.0.2.1:7")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(parse_v1(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn version_1_is_read_strictly() {
        for line in [
            "",
            "PROXY\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443",
            "PROXY  TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +5632 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.01 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 198.51.100.2 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP6 2001:db8::1%eth0 2001:db8::2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        ] {
            assert_eq!(parse_v1(line.as_bytes()), Err(ProxyError::Malformed), "{line:?}");
        }
    }

    fn head(command: u8, family: u8, length: usize) -> [u8; 16] {
        let mut head = [0; 16];
        head[..12].copy_from_slice(&SIGNATURE);
        head[12] = command;
        head[13] = family;
        head[14..].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        head
    }

    #[test]
    fn version_2_of_other_kinds_is_refused_and_local_is_the_proxy_itself() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0, 7, 1, 187];
        assert_eq!(parse_v2(&head(0x21, 0x11, 12), &v4), Ok(Some(SocketAddr::from(([192, 0, 2, 1], 7)))));
        assert_eq!(parse_v2(&head(0x20, 0x11, 12), &v4), Ok(None));
        assert_eq!(parse_v2(&head(0x20, 0x00, 0), &[]), Ok(None));
        assert_eq!(parse_v2(&head(0x21, 0x00, 0), &[]), Ok(None));
        for (command, family) in
            [(0x21, 0x12), (0x21, 0x22), (0x21, 0x31), (0x22, 0x11), (0x11, 0x11), (0x21, 0x10)]
        {
            assert_eq!(
                parse_v2(&head(command, family, 12), &v4),
                Err(ProxyError::Malformed),
                "{command} {family}"
            );
        }
        assert_eq!(parse_v2(&head(0x21, 0x21, 12), &v4), Err(ProxyError::Malformed), "too short for IPv6");
        assert_eq!(v2_length(&head(0x21, 0x11, 2_049)), Err(ProxyError::Malformed), "bounded");
        let mut broken = head(0x21, 0x11, 12);
        broken[11] = b'\r';
        assert_eq!(v2_length(&broken), Err(ProxyError::Malformed), "the signature is compared whole");
    }

    proptest! {
        #[test]
        fn every_client_survives_version_1(source: SocketAddr, destination: SocketAddr) {
            let (IpAddr::V4(_), IpAddr::V4(_)) = (source.ip(), destination.ip()) else {
                prop_assume!(source.is_ipv6() && destination.is_ipv6());
                let line = format!("PROXY TCP6 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
                prop_assert!(line.len() <= V1_MAX);
                prop_assert_eq!(parse_v1(line.as_bytes()), Ok(Some(client(source.ip(), source.port()))));
                return Ok(());
            };
            let line = format!("PROXY TCP4 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
            prop_assert!(line.len() >= V1_MIN);
            prop_assert_eq!(parse_v1(line.as_bytes()), Ok(Some(source)));
        }

        #[test]
        fn every_client_survives_version_2_whatever_tlvs_follow(
            source: Ipv6Addr, destination: Ipv6Addr, port: u16, tlvs in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let rest = [&source.octets()[..], &destination.octets(), &port.to_be_bytes(), &[1, 187], &tlvs].concat();
            let head = head(0x21, 0x21, rest.len());
            prop_assert_eq!(v2_length(&head).map(usize::from), Ok(rest.len()));
            prop_assert_eq!(parse_v2(&head, &rest), Ok(Some(client(source, port))));
        }

        #[test]
        fn a_truncated_version_2_names_nobody(rest in proptest::collection::vec(any::<u8>(), 0..36)) {
            prop_assert_eq!(parse_v2(&head(0x21, 0x21, rest.len()), &rest), Err(ProxyError::Malformed));
        }

        #[test]
        fn no_bytes_make_it_panic(line: Vec<u8>, head: [u8; 16], rest: Vec<u8>) {
            let _ = parse_v1(&line);
            let _ = v2_length(&head);
            let _ = parse_v2(&head, &rest);
        }
    }
}
