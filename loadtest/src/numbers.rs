//! Conversions between counts and measures: the one place that rounds.
#![allow(clippy::as_conversions, reason = "statistics round, and say so by coming here")]

use std::time::Duration;

/// A count as a measure. Exact up to 2^53.
pub const fn real(count: u64) -> f64 {
    count as f64
}

/// A length as a measure.
pub const fn size(count: usize) -> f64 {
    count as f64
}

/// A measure rounded to a count; negative ones and NaN to zero.
pub const fn whole(measure: f64) -> u64 {
    measure.round() as u64
}

/// A measure rounded to a length.
pub const fn length(measure: f64) -> usize {
    measure.round() as usize
}

/// Whole microseconds, at least one: what histograms count in.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Microseconds with their fraction.
pub fn fine_micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The middle of some measures; of an even number the mean of both middles. NaN for none.
pub fn median(measures: &[f64]) -> f64 {
    quantile(measures, 0.5)
}

/// The `share` quantile, interpolated linearly. NaN for no measures.
pub fn quantile(measures: &[f64], share: f64) -> f64 {
    let mut sorted = measures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * size(last);
    let (low, part) = (place.floor(), place.fract());
    let at = |index: f64| sorted.get(length(index)).copied().unwrap_or(f64::NAN);
    if part == 0.0 { at(low) } else { at(low) * (1.0 - part) + at(low + 1.0) * part }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[10.0, 20.0, 30.0], 0.25), 15.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(median(&[]).is_nan());
    }
}
