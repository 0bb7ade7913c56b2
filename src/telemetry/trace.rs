//! W3C Trace Context, of which `traceparent` is read strictly.
//!
//! Reads `traceparent` strictly, so that only hexadecimal digits can travel on or reach the log.
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;

/// A valid `traceparent`. Displays as the header value of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    parent_id: SpanId,
    flags: u8,
}

/// The flag of a trace that is kept.
const SAMPLED: u8 = 1;

/// A trace id; displays as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// A span's id; displays as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// An id of random bytes; never all zero, which is none.
    pub fn of(mut bytes: [u8; 16]) -> Self {
        if bytes == [0; 16] {
            bytes = [1; 16];
        }
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// An id by its number; never zero, which is none.
    pub const fn of(number: u64) -> Self {
        Self(if number == 0 { u64::MAX } else { number }.to_be_bytes())
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl TraceParent {
    /// Reads a header value. `None` when it is malformed, or has an all-zero id: the request is then
    /// treated as if it had no trace (W3C Trace Context 3.2.2.3-3.2.2.4). A version later than 00 is
    /// read by its first four fields (ibid. "Versioning of traceparent").
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(55)?;
        let version: [u8; 1] = hexadecimal(known.get(..2)?)?;
        let trace_id: [u8; 16] = hexadecimal(known.get(3..35)?)?;
        let parent_id: [u8; 8] = hexadecimal(known.get(36..52)?)?;
        let [flags] = hexadecimal(known.get(53..)?)?;
        let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        let end = match version {
            [0x00] => rest.is_empty(),
            [0xff] => false,
            _ => rest.is_empty() || rest.first() == Some(&b'-'),
        };
        (dashes && end && trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self {
            trace_id: TraceId(trace_id),
            parent_id: SpanId(parent_id),
            flags,
        })
    }

    /// What is told to whoever is asked in the course of a span of ours.
    pub const fn ours(trace_id: TraceId, span: SpanId, is_sampled: bool) -> Self {
        Self { trace_id, parent_id: span, flags: if is_sampled { SAMPLED } else { 0 } }
    }

    /// The span that asks.
    pub const fn parent_id(&self) -> SpanId {
        self.parent_id
    }

    /// Whether who asks may have kept it (W3C Trace Context 3.2.2.5.1).
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The id of the whole trace.
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }
}

/// Lower-case hexadecimal digits, exactly two a byte.
fn hexadecimal<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(out)
}

fn write_hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hexadecimal(f, &self.0)
    }
}

impl serde::Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.trace_id)?;
        write_hexadecimal(f, &self.parent_id.0)?;
        write!(f, "-{:02x}", self.flags)
    }
}

#[cfg(test)]
#[allow(clippy::string_slice)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_specifications_example_is_read_and_written_back() {
        let read = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(read.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(read.to_string(), GOOD);
    }

    #[test]
    fn a_later_version_is_read_by_its_first_fields() {
        let later = format!("cc{}-what-the-future-will-be-like", &GOOD[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()).unwrap().to_string(), GOOD);
    }

    #[test]
    fn what_the_specification_calls_invalid_is_refused() {
        for bad in [
            "".to_owned(),
            GOOD.to_uppercase(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            GOOD[..54].to_owned(),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}.more", &GOOD[2..]),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("0af7", "0ag7"),
            GOOD.replace("0af7", "é7"),
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_valid_value_survives_reading_and_writing(
            trace in "[0-9a-f]{31}[1-9a-f]", parent in "[1-9a-f][0-9a-f]{15}", flags in "[0-9a-f]{2}",
        ) {
            let text = format!("00-{trace}-{parent}-{flags}");
            prop_assert_eq!(TraceParent::parse(text.as_bytes()).unwrap().to_string(), text);
        }

        #[test]
        fn a_changed_byte_is_refused_or_stays_hexadecimal(at in 0_usize..55, byte: u8) {
            let mut value = GOOD.as_bytes().to_vec();
            value[at] = byte;
            if let Some(read) = TraceParent::parse(&value) {
                prop_assert!(read.to_string().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')));
                prop_assert!([2, 35, 52].contains(&at) == (byte == b'-'));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(value: Vec<u8>) {
            let _ = TraceParent::parse(&value);
        }
    }
}
