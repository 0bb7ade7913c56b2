//! Reading an RFC 3339 date-time: exactly what section 5.6 allows, for every year it has.

use jiff::Span;
use jiff::civil::{Date, date};

/// Milliseconds since the Unix epoch; what is finer is dropped.
pub(super) fn read(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    byte(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    byte(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    // The note there allows a space for readability.
    byte(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2).filter(|hour| *hour < 24)?;
    byte(&mut rest, b":")?;
    let minute = number(&mut rest, 2).filter(|minute| *minute < 60)?;
    byte(&mut rest, b":")?;
    let second = number(&mut rest, 2).filter(|second| *second <= 60)?;
    let millis = fraction(&mut rest)?;
    let offset = offset(&mut rest)?;
    rest.is_empty().then_some(())?;

    let (year, month, day) = (i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let days = Date::new(year, month, day).ok()?.duration_since(EPOCH).as_hours() / 24;
    let minutes = days * 24 * 60 + hour * 60 + minute - offset;
    if second == 60 {
        is_leap_minute(minutes).then_some(())?;
    }
    // A leap second has no instant of its own: it is the second before.
    Some((minutes * 60 + second.min(59)) * 1000 + millis)
}

const EPOCH: Date = date(1970, 1, 1);

/// Whether the minute may have a sixty-first second: the last of a month in UTC (section 5.7).
fn is_leap_minute(minutes: i64) -> bool {
    let next = minutes + 1;
    let day = EPOCH.checked_add(Span::new().hours(0).days(next.div_euclid(24 * 60)));
    next.rem_euclid(24 * 60) == 0 && day.is_ok_and(|day| day.day() == 1)
}

/// Exactly so many digits.
fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (taken, behind) = rest.split_at_checked(digits)?;
    *rest = behind;
    taken.iter().try_fold(0, |number, digit| Some(number * 10 + value(*digit)?))
}

fn value(digit: u8) -> Option<i64> {
    digit.is_ascii_digit().then(|| i64::from(digit - b'0'))
}

/// One of these bytes.
fn byte(rest: &mut &[u8], wanted: &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    wanted.contains(first).then_some(*first)
}

/// Milliseconds of a fraction of any length; 0 where there is none.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let Some(behind) = rest.strip_prefix(b".") else { return Some(0) };
    let length = behind.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    (length > 0).then_some(())?;
    let millis = digits.iter().chain(&[b'0'; 3]).take(3);
    millis.copied().try_fold(0, |millis, digit| Some(millis * 10 + value(digit)?))
}

/// Minutes ahead of UTC.
fn offset(rest: &mut &[u8]) -> Option<i64> {
    let sign = match byte(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = number(rest, 2).filter(|hours| *hours < 24)?;
    byte(rest, b":")?;
    let minutes = number(rest, 2).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn oracle(text: &str) -> Option<i64> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
    }

    #[test]
    fn every_form_of_the_standard_is_read() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01 00:00:00.5z", 500),
            ("1969-12-31t23:59:59.999999999999Z", -1),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1969-12-31T23:30:00-00:30", 0),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("1990-12-31T15:59:60-08:00", 662_687_999_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn an_offset_that_is_none_is_refused_and_so_is_every_other_form() {
        for offset in [
            "",
            "+01",
            "+0100",
            "+1:00",
            "+01:0",
            "+24:00",
            "+01:60",
            "+01:00:00",
            "+25:59",
            "±01:00",
            "z01:00",
            "-",
            "Z ",
            " Z",
            "[UTC]",
            "Z[UTC]",
            "UTC",
            "\u{2212}01:00",
        ] {
            let text = format!("2026-01-02T03:04:05{offset}");
            assert_eq!(read(&text), None, "{text}");
        }
        for text in [
            "2026-01-02T03:04Z",
            "2026-01-02T03Z",
            "20260102T030405Z",
            "2026-01-02_03:04:05Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-1-02T03:04:05Z",
            "+002026-01-02T03:04:05Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:60:00Z",
            "2026-01-02T03:04:61Z",
            "2026-01-02T03:04:60Z",
            "2026-01-02T03:04:05,5Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T23:59:60Z",
            "２０26-01-02T03:04:05Z",
            "2026-W01-1T00:00:00Z",
            "2026-001T00:00:00Z",
            "-2026-01-02T03:04:05Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_date_time_is_read_as_an_independent_reader_reads_it(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-6][0-9]:[0-5][0-9](\\.[0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-6][0-9])"
        ) {
            prop_assert_eq!(read(&text), oracle(&text), "{}", text);
        }

        #[test]
        fn what_is_nearly_a_date_time_is_refused_as_by_an_independent_reader(
            text in "(2026|202|02026)-(0[1-9]|1|13)-(2[0-9]|3[01])[T](1[0-9]|2|24):?(59|5|60):(58|6|)([.,][0-9]{0,2})?(Z|[+-][0-9]{1,2}:?[0-9]{0,2}|\\[UTC\\]|)"
        ) {
            prop_assert_eq!(read(&text), oracle(&text), "{}", text);
        }
    }
}
