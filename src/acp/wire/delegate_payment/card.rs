//! `payment_method`: a card (rfc.delegate_payment §3.3, §7).
//!
//! Everything sensitive moves straight into types that cannot be printed.

use std::collections::BTreeMap;

use crate::acp::Settings;
use crate::acp::version::Version;
use crate::acp::wire::fields::{BY_MEANING, Fields, LONGEST_TEXT, word};
use crate::acp::wire::json::{Text, Value};
use crate::acp::wire::{Found, WireError};
use crate::domain::card::{Cvc, Pan};
use crate::domain::clock::Timestamp;
use crate::domain::secret::SecretString;

/// A card as the agent delegates it. Not printable, not cloneable.
pub struct CardData {
    /// The number.
    pub number: Pan,
    /// What kind of number it is.
    pub number_kind: NumberKind,
    /// 1 to 12.
    pub exp_month: Option<u8>,
    /// Four digits.
    pub exp_year: Option<u16>,
    /// The cardholder's name.
    pub holder_name: Option<SecretString>,
    /// The verification code. Perishable.
    pub cvc: Option<Cvc>,
    /// The one-time cryptogram of a network token. Perishable.
    pub cryptogram: Option<SecretString>,
    /// The electronic commerce indicator. Perishable.
    pub eci_value: Option<SecretString>,
    /// Which checks were made, as ACP names them.
    pub checks_performed: Vec<&'static str>,
    /// The issuer's number, at most 8 characters.
    pub iin: Option<String>,
    /// How the card is funded.
    pub funding: Funding,
    /// For display: the wallet it came from.
    pub display_wallet_type: Option<String>,
    /// For display: the brand.
    pub display_brand: Option<String>,
    /// For display: the last four digits.
    pub display_last4: Option<String>,
    /// Whether it is a virtual card.
    pub is_virtual: Option<bool>,
    /// The agent's notes.
    pub metadata: BTreeMap<String, String>,
}

/// What kind of number a card has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberKind {
    /// A funding card number.
    Fpan,
    /// A network token.
    NetworkToken,
}

impl NumberKind {
    const WORDS: [(&'static str, Self); 2] = [("fpan", Self::Fpan), ("network_token", Self::NetworkToken)];

    /// ACP's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fpan => "fpan",
            Self::NetworkToken => "network_token",
        }
    }
}

/// How a card is funded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Funding {
    /// Credit.
    Credit,
    /// Debit.
    Debit,
    /// Prepaid.
    Prepaid,
}

impl Funding {
    const WORDS: [(&'static str, Self); 3] =
        [("credit", Self::Credit), ("debit", Self::Debit), ("prepaid", Self::Prepaid)];

    /// ACP's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Debit => "debit",
            Self::Prepaid => "prepaid",
        }
    }
}

const KNOWN: [&str; 17] = [
    "type",
    "card_number_type",
    "number",
    "exp_month",
    "exp_year",
    "name",
    "cvc",
    "cryptogram",
    "eci_value",
    "checks_performed",
    "iin",
    "display_card_funding_type",
    "display_wallet_type",
    "display_brand",
    "display_last4",
    "virtual",
    "metadata",
];

const CHECKS: [(&str, &str); 4] = [("avs", "avs"), ("cvv", "cvv"), ("ani", "ani"), ("auth0", "auth0")];

/// The most bytes of a card as JSON, whatever is within its bounds: what is sealed is no longer.
const MOST_BYTES: usize = 16 << 10;
/// The most checks that are named.
const MOST_CHECKS: usize = 16;

impl CardData {
    /// Reads `payment_method`, all of it whatever is wrong with a part.
    pub(super) fn find(
        value: Value<'_>,
        version: Version,
        now: Timestamp,
        settings: &Settings,
        found: &mut Found,
    ) -> Option<Self> {
        let fields = Fields::open_finding(value, "$.payment_method", &KNOWN, found)?;
        let card_type = found.take(fields.word("type", &[("card", ())]));
        let number_kind = found.take(fields.word("card_number_type", &NumberKind::WORDS));
        let number = found.take(fields.text("number", BY_MEANING));
        let number = number.zip(number_kind).and_then(|(number, kind)| {
            let number = match kind {
                NumberKind::Fpan => Pan::parse_fpan(number.as_str()),
                NumberKind::NetworkToken => Pan::parse_network_token(number.as_str()),
            };
            found.take(
                number
                    .ok_or_else(|| WireError::semantic("The card number is not valid.", fields.at("number"))),
            )
        });
        let exp_month = found.take(meaning(&fields, "exp_month", 2, "This must be 01 to 12.", month));
        let exp_year = found.take(meaning(&fields, "exp_year", 4, "This must be four digits.", year));
        if has_expired(exp_month.flatten(), exp_year.flatten(), now) {
            found.add(WireError::semantic("The card has expired.", fields.at("exp_year")));
        }
        let holder_name = found.take(fields.optional_text("name", LONGEST_TEXT));
        let cvc = found.take(meaning(&fields, "cvc", 4, "This must be 3 or 4 digits.", Cvc::parse));
        let cryptogram = found.take(fields.optional_text("cryptogram", LONGEST_TEXT));
        let eci_value = found.take(fields.optional_text("eci_value", 2));
        let checks_performed = found.take(checks_performed(&fields));
        // 6 or 8 by version and file; the wider one everywhere (`src/acp/README.md`, "Cards").
        let iin = found.take(fields.optional_text("iin", 8));
        let funding = found.take(fields.word("display_card_funding_type", &Funding::WORDS));
        let display_wallet_type = found.take(fields.optional_text("display_wallet_type", LONGEST_TEXT));
        let display_brand = found.take(fields.optional_text("display_brand", LONGEST_TEXT));
        let display_last4 = found.take(display_last4(&fields, version));
        let metadata = found.take(fields.map("metadata"));
        let is_virtual = found.take(is_virtual(&fields, settings));
        if value.raw().len() > MOST_BYTES {
            found.add(WireError::structural("This is longer than 16 KiB.", "$.payment_method"));
        }
        card_type?;
        let secret = |text: Text<'_>| SecretString::new(text.to_owned());
        let shown = |text: Text<'_>| text.to_owned();
        Some(Self {
            number: number?,
            number_kind: number_kind?,
            exp_month: exp_month?,
            exp_year: exp_year?,
            holder_name: holder_name?.map(secret),
            cvc: cvc?,
            cryptogram: cryptogram?.map(secret),
            eci_value: eci_value?.map(secret),
            checks_performed: checks_performed?,
            iin: iin?.map(shown),
            funding: funding?,
            display_wallet_type: display_wallet_type?.map(shown),
            display_brand: display_brand?.map(shown),
            display_last4: display_last4?.map(shown),
            is_virtual: is_virtual?,
            metadata: metadata?,
        })
    }
}

/// An optional text of at most `longest` characters that must mean something.
fn meaning<T>(
    fields: &Fields<'_>,
    name: &'static str,
    longest: usize,
    message: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, WireError> {
    let Some(text) = fields.optional_text(name, longest)? else { return Ok(None) };
    read(text.as_str()).map(Some).ok_or_else(|| WireError::semantic(message, fields.at(name)))
}

fn display_last4<'a>(fields: &Fields<'a>, version: Version) -> Result<Option<Text<'a>>, WireError> {
    let text = fields.optional_text("display_last4", 4)?;
    let four_digits = |text: &Text<'_>| {
        let text = text.as_str();
        text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit())
    };
    if version.exact_last4() && text.as_ref().is_some_and(|text| !four_digits(text)) {
        return Err(WireError::structural("This must be four digits.", fields.at("display_last4")));
    }
    Ok(text)
}

fn checks_performed(fields: &Fields<'_>) -> Result<Vec<&'static str>, WireError> {
    let Some(value) = fields.get("checks_performed") else { return Ok(Vec::new()) };
    let structural = |message| WireError::structural(message, fields.at("checks_performed"));
    let checks: Option<Vec<_>> =
        value.array().and_then(|checks| checks.into_iter().map(|check| word(check, &CHECKS)).collect());
    let checks = checks.ok_or_else(|| structural("This must be an array of defined checks."))?;
    if checks.len() > MOST_CHECKS {
        return Err(structural("This may have 16 elements."));
    }
    Ok(checks)
}

/// Optional in the schema, required in rfc.delegate_payment §3.3: by configuration.
fn is_virtual(fields: &Fields<'_>, settings: &Settings) -> Result<Option<bool>, WireError> {
    let Some(value) = fields.get("virtual") else {
        return if settings.require_virtual { fields.required("virtual").map(|_| None) } else { Ok(None) };
    };
    let flag = value.boolean();
    flag.map(Some).ok_or_else(|| WireError::structural("This must be true or false.", fields.at("virtual")))
}

fn month(text: &str) -> Option<u8> {
    let is_plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|month| is_plain && (1..=12).contains(month))
}

fn year(text: &str) -> Option<u16> {
    let is_plain = text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// A card is good through the last day of its month, wherever on earth that day ends last (UTC-12).
/// Without both month and year nothing is known.
fn has_expired(month: Option<u8>, year: Option<u16>, now: Timestamp) -> bool {
    let (Some(month), Some(year)) = (month, year) else { return false };
    let (year, month) = if month == 12 { (year.saturating_add(1), 1) } else { (year, month + 1) };
    Timestamp::parse_rfc3339(&format!("{year:04}-{month:02}-01T00:00:00-12:00")).is_some_and(|end| now >= end)
}
