//! A session's total, in every shape merchants give it. Apart because this number decides what may be
//! charged: whatever leaves a doubt is no total.

use crate::acp::wire::json::{Object, Value};
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::domain::session::SessionTotal;

/// A session's total: the entry of type `total` (`src/acp/README.md`, "Totals"), never a sum of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// The one total, in the settlement and perhaps a presentment currency.
    Known(SessionTotal),
    /// None is shown, or no currency.
    Missing,
    /// More than one and they differ, or one that cannot be an amount.
    Conflicting,
}

/// Why there is no total.
enum Unusable {
    Missing,
    Conflicting,
}

impl Total {
    /// Reads the total of a session.
    pub(super) fn of_session(session: &Object<'_>) -> Self {
        match read_total(session) {
            Ok(total) => Self::Known(total),
            Err(Unusable::Missing) => Self::Missing,
            Err(Unusable::Conflicting) => Self::Conflicting,
        }
    }
}

fn read_total(session: &Object<'_>) -> Result<SessionTotal, Unusable> {
    let totals = session.present("totals").ok_or(Unusable::Missing)?;
    let (amount, presentment_amount, own_currency) = match totals.array() {
        Some(entries) => only_total(&entries)?,
        None => total_of_object(totals)?,
    };
    let currency = match (currency_of(session, "currency")?, own_currency) {
        (Some(session), Some(own)) if session != own => return Err(Unusable::Conflicting),
        (session, own) => session.or(own).ok_or(Unusable::Missing)?,
    };
    let presentment = currency_of(session, "presentment_currency")?
        .filter(|presentment| *presentment != currency)
        .zip(presentment_amount)
        .map(|(currency, amount)| Money { amount, currency });
    Ok(SessionTotal { settlement: Money { amount, currency }, presentment })
}

type Entry = (MinorUnits, Option<MinorUnits>, Option<Currency>);

/// The entry of type `total`; several are one if they agree.
fn only_total(entries: &[Value<'_>]) -> Result<Entry, Unusable> {
    let mut found: Option<Entry> = None;
    for entry in entries {
        let entry = entry.object().ok_or(Unusable::Conflicting)?;
        if entry.get("type").and_then(Value::text).is_none_or(|kind| kind.as_str() != "total") {
            continue;
        }
        let read = amounts(&entry)?;
        if found.is_some_and(|found| found != read) {
            return Err(Unusable::Conflicting);
        }
        found = Some(read);
    }
    found.ok_or(Unusable::Missing)
}

/// The dialect `totals: {"total": 430, …}` or `{"total": {"amount": 430}, …}`, perhaps with a
/// currency inside.
fn total_of_object(totals: Value<'_>) -> Result<Entry, Unusable> {
    let totals = totals.object().ok_or(Unusable::Conflicting)?;
    let total = totals.present("total").ok_or(Unusable::Missing)?;
    let (amount, presentment, inner) = match total.object() {
        Some(entry) => amounts(&entry)?,
        None => (minor_units(total)?, None, None),
    };
    match (currency_of(&totals, "currency")?, inner) {
        (Some(outer), Some(inner)) if outer != inner => Err(Unusable::Conflicting),
        (outer, inner) => Ok((amount, presentment, outer.or(inner))),
    }
}

fn amounts(entry: &Object<'_>) -> Result<Entry, Unusable> {
    let amount = minor_units(entry.get("amount").ok_or(Unusable::Conflicting)?)?;
    let presentment = entry.present("presentment_amount").map(minor_units).transpose()?;
    Ok((amount, presentment, currency_of(entry, "currency")?))
}

fn minor_units(value: Value<'_>) -> Result<MinorUnits, Unusable> {
    let units = value.integer().and_then(|units| u64::try_from(units).ok()).and_then(MinorUnits::new);
    units.ok_or(Unusable::Conflicting)
}

fn currency_of(object: &Object<'_>, name: &str) -> Result<Option<Currency>, Unusable> {
    let Some(value) = object.present(name) else { return Ok(None) };
    let currency = value.text().and_then(|text| Currency::parse(text.as_str()));
    currency.map(Some).ok_or(Unusable::Conflicting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acp::wire::session::SessionView;

    fn view(body: &str) -> SessionView {
        SessionView::read(body.as_bytes()).unwrap()
    }

    fn money(amount: u64, currency: &str) -> Money {
        Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse(currency).unwrap() }
    }

    fn total(rest: &str) -> Total {
        view(&format!(r#"{{"id":"cs_1","currency":"USD",{rest}}}"#)).total
    }

    #[test]
    fn the_total_is_the_entry_of_that_type_in_the_sessions_currency() {
        let known = Total::Known(SessionTotal { settlement: money(430, "usd"), presentment: None });
        for totals in [
            r#""totals":[{"type":"subtotal","amount":1},{"type":"total","display_text":"T","amount":430}]"#,
            r#""totals":[{"type":"total","amount":430.0},{"type":"total","amount":430}]"#,
            r#""totals":{"currency":"usd","subtotal":1,"total":430}"#,
            r#""totals":{"total":{"amount":430,"currency":"usd"}}"#,
        ] {
            assert_eq!(total(totals), known, "{totals}");
        }
    }

    #[test]
    fn a_total_that_is_absent_is_missing_and_one_that_is_doubtful_conflicts() {
        for totals in [r#""totals":[]"#, r#""x":1"#, r#""totals":null"#, r#""totals":{"subtotal":1}"#] {
            assert_eq!(total(totals), Total::Missing, "{totals}");
        }
        for totals in [
            r#""totals":[{"type":"total","amount":1},{"type":"total","amount":2}]"#,
            r#""totals":[{"type":"total","amount":-1}]"#,
            r#""totals":[{"type":"total","amount":1.5}]"#,
            r#""totals":[{"type":"total","amount":"1"}]"#,
            r#""totals":[{"type":"total","amount":9007199254740992}]"#,
            r#""totals":[{"type":"total","amount":1,"amount":2}]"#,
            r#""totals":[{"type":"total"}]"#,
            r#""totals":[7,{"type":"total","amount":1}]"#,
            r#""totals":{"total":1,"currency":"eur"}"#,
            r#""totals":{"total":{"amount":1,"currency":"eur"}}"#,
            r#""totals":5"#,
        ] {
            assert_eq!(total(totals), Total::Conflicting, "{totals}");
        }
        let without_currency = view(r#"{"totals":[{"type":"total","amount":1}]}"#);
        assert_eq!(without_currency.total, Total::Missing);
    }

    #[test]
    fn an_allowance_meets_the_amount_of_its_own_currency_and_no_conversion() {
        let session = view(
            r#"{"currency":"usd","presentment_currency":"EUR","exchange_rate":0.9,
                "totals":[{"type":"total","amount":1000,"presentment_amount":900}]}"#,
        );
        let in_currency = |code: &str| session.total_in(Currency::parse(code).unwrap());
        assert_eq!(in_currency("usd"), Some(money(1000, "usd")));
        assert_eq!(in_currency("eur"), Some(money(900, "eur")));
        assert_eq!(in_currency("gbp"), None);
    }
}
