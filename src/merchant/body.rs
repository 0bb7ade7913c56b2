//! Taking in an answer's body, bounded in size and time, and decoded within the same bound.
//!
//! Bounded in size and time, a content coding removed within the same bound, so that neither an endless
//! answer nor a compressed bomb costs more than one answer may.

use std::io::Read;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt as _;
use hyper::body::Body;

use super::exchange::Lost;
use crate::domain::clock::Deadline;

/// Reads a whole body of at most `max` bytes by `deadline`.
///
/// # Errors
/// [`Lost`] says which bound it broke, or that it ended early.
pub(super) async fn collect(
    body: impl Body<Data = Bytes> + Unpin,
    max: usize,
    deadline: Deadline,
) -> Result<Bytes, Lost> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > max {
        return Err(Lost::TooLarge);
    }
    tokio::time::timeout_at(deadline.instant().into(), read(body, max)).await.unwrap_or(Err(Lost::SlowBody))
}

async fn read(mut body: impl Body<Data = Bytes> + Unpin, max: usize) -> Result<Bytes, Lost> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are dropped.
        let Ok(data) = frame.map_err(|_| Lost::Truncated)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > max {
            return Err(Lost::TooLarge);
        }
        // One frame, the usual case, is passed on uncopied.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// Removes the content coding: none or gzip, whose plain text is at most `max` bytes.
///
/// # Errors
/// [`Lost::Undecodable`] for another coding or broken gzip, [`Lost::TooLarge`] above the bound.
pub(super) fn decode(headers: &HeaderMap, body: Bytes, max: usize) -> Result<Bytes, Lost> {
    // A list, on one line or several, in which elements may be empty (RFC 9110 §5.6.1).
    let lines = headers.get_all(CONTENT_ENCODING).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let mut codings =
        elements.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(body),
        (Some(_), _) if body.is_empty() => Ok(body),
        (Some(coding), None) if is_gzip(coding) => inflate(&body, max),
        (Some(_), _) => Err(Lost::Undecodable),
    }
}

fn is_gzip(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

fn inflate(compressed: &[u8], max: usize) -> Result<Bytes, Lost> {
    let mut plain = Vec::new();
    // One byte more than allowed is enough to know; a bomb is never unfolded further.
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(compressed).take(bound).read_to_end(&mut plain).map_err(|_| Lost::Undecodable)?;
    if plain.len() > max { Err(Lost::TooLarge) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap().into()
    }

    fn decoded(codings: &[&'static str], body: Bytes, max: usize) -> Result<Bytes, Lost> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        decode(&headers, body, max)
    }

    #[test]
    fn gzip_is_decoded_up_to_the_bound_and_no_further() {
        let plain = vec![b'a'; 100_000];
        assert_eq!(decoded(&["gzip"], gzip(&plain), plain.len()), Ok(plain.clone().into()));
        assert_eq!(decoded(&["X-GZIP"], gzip(&plain), plain.len() - 1), Err(Lost::TooLarge));
    }

    #[test]
    fn an_uncoded_body_is_the_body() {
        for codings in [&[][..], &["identity"]] {
            assert_eq!(decoded(codings, Bytes::from_static(b"{}"), 2), Ok(Bytes::from_static(b"{}")));
        }
        assert_eq!(decoded(&["gzip"], Bytes::new(), 0), Ok(Bytes::new()));
    }

    #[test]
    fn another_coding_broken_gzip_or_two_codings_cannot_be_decoded() {
        let whole = gzip(b"{}");
        let cut = whole.slice(..whole.len() - 4);
        let trailing: Bytes = [&whole[..], b"tail"].concat().into();
        for (codings, body) in [
            (&["br"][..], whole.clone()),
            (&["gzip, gzip"], whole.clone()),
            (&["gzip", "gzip"], whole.clone()),
            (&["gzip"], Bytes::from_static(b"{}")),
            (&["gzip"], cut),
            (&["gzip"], trailing),
        ] {
            assert_eq!(decoded(codings, body, 100), Err(Lost::Undecodable), "{codings:?}");
        }
    }
}
