//! Which requests are traced that did not fail, as `OTEL_TRACES_SAMPLER` says.

use crate::telemetry::trace::TraceParent;

/// Settles of a request, before it is known how it ends, whether it is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Whether the flag of a parent that counts decides.
    by_parent: bool,
    /// Of all numbers of 64 bits, those below this.
    below: u64,
}

impl Default for Sampler {
    /// `parentbased_always_on`.
    fn default() -> Self {
        Self { by_parent: true, below: u64::MAX }
    }
}

impl Sampler {
    /// Reads the sampler's name and its argument.
    ///
    /// # Errors
    /// The wrong one of the two, and what was expected.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Self, (&'static str, &'static str)> {
        let (by_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let below = match root {
            "always_on" => u64::MAX,
            "always_off" => 0,
            "traceidratio" => threshold(argument.unwrap_or("1")).ok_or((
                "OTEL_TRACES_SAMPLER_ARG",
                "expected a number from 0 to 1, with up to nine decimals",
            ))?,
            _ => {
                let expected = "expected \"always_on\", \"always_off\" or \"traceidratio\", alone or behind \
                                \"parentbased_\"";
                return Err(("OTEL_TRACES_SAMPLER", expected));
            }
        };
        Ok(Self { by_parent, below })
    }

    /// Whether a request is traced whose parent counts.
    pub(in crate::telemetry) fn honours(&self, parent: &TraceParent) -> bool {
        if self.by_parent {
            return parent.is_sampled();
        }
        let mut last = [0; 8];
        last.iter_mut().zip(parent.trace_id().bytes().into_iter().skip(8)).for_each(|(to, from)| *to = from);
        self.is_below(u64::from_be_bytes(last))
    }

    /// Whether a request without a parent is traced, by a random number.
    pub(in crate::telemetry) const fn takes(&self, number: u64) -> bool {
        self.is_below(number)
    }

    const fn is_below(&self, number: u64) -> bool {
        self.below == u64::MAX || number < self.below
    }
}

/// A ratio as a part of all numbers of 64 bits.
fn threshold(ratio: &str) -> Option<u64> {
    const NINE: u32 = 9;
    let (whole, decimals) = ratio.split_once('.').unwrap_or((ratio, ""));
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 9 || ratio.len() > 16 {
        return None;
    }
    let scale = 10_u64.pow(NINE);
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let billionths = whole.checked_mul(scale)?.checked_add(format!("{decimals:0<9}").parse().ok()?)?;
    match billionths {
        0 => Some(0),
        part if part < scale => Some((u64::MAX / scale).saturating_mul(part)),
        part if part == scale => Some(u64::MAX),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOT_SAMPLED: &[u8] = b"00-0af7651916cd43dd0000000000000001-b7ad6b7169203331-00";

    #[test]
    fn each_standard_sampler_does_what_its_name_says() {
        let parents = [SAMPLED, NOT_SAMPLED].map(|text| TraceParent::parse(text).unwrap());
        for (name, argument, honoured, taken) in [
            ("always_on", None, [true, true], true),
            ("always_off", None, [false, false], false),
            ("parentbased_always_on", None, [true, false], true),
            ("parentbased_always_off", None, [true, false], false),
            ("parentbased_traceidratio", Some("0.5"), [true, false], true),
            ("traceidratio", Some("0.25"), [false, true], true),
            ("traceidratio", Some("0"), [false, false], false),
            ("traceidratio", Some("1.0"), [true, true], true),
            ("traceidratio", None, [true, true], true),
        ] {
            let sampler = Sampler::parse(name, argument).unwrap();
            assert_eq!(parents.map(|parent| sampler.honours(&parent)), honoured, "{name}");
            assert_eq!(sampler.takes(u64::MAX / 5), taken, "{name}");
        }
        let quarter = Sampler::parse("parentbased_traceidratio", Some("0.25")).unwrap();
        assert!(!quarter.takes(u64::MAX / 3) && quarter.takes(0));
        for (name, argument) in [
            ("sometimes", None),
            ("parentbased_", None),
            ("traceidratio", Some("1.1")),
            ("traceidratio", Some("-1")),
            ("traceidratio", Some("half")),
            ("traceidratio", Some("0.0000000001")),
        ] {
            assert!(Sampler::parse(name, argument).is_err(), "{name} {argument:?}");
        }
    }
}
