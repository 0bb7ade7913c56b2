//! `delegate_payment`: the request that turns a card and an allowance into a token, and its answer.
//!
//! rfc.delegate_payment §3 and §4; where it and the schemas differ, `src/acp/README.md`, "Cards".

mod answer;
mod card;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::BTreeMap;

use zeroize::Zeroizing;

pub use answer::minted;
pub use card::{CardData, Funding, NumberKind};
pub use vault::{VaultJson, VaultJsonError, merge_vault_json};

use super::fields::{BY_MEANING, Fields, LONGEST_TEXT};
use super::json::{Document, Text, Value};
use super::{Found, Mistakes, WireError};
use crate::acp::Settings;
use crate::acp::version::Version;
use crate::domain::clock::Timestamp;
use crate::domain::money::{Currency, MinorUnits};

/// A request to mint a token. Not printable: it holds a card.
pub struct DelegatePayment {
    /// The card.
    pub card: CardData,
    /// What the token may be spent on.
    pub allowance: RequestedAllowance,
    /// Where the card's bills go.
    pub billing_address: Option<BillingAddress>,
    /// What the agent's own fraud checks say; at least one before 2026-04-17.
    pub risk_signals: Vec<RiskSignal>,
    /// Echoed in the answer.
    pub metadata: BTreeMap<String, String>,
}

/// What a token shall be spent on, in the agent's words. `reason` has one value, `one_time`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedAllowance {
    /// At least 1.
    pub max_amount: MinorUnits,
    /// Of what.
    pub currency: Currency,
    /// Which checkout session, as the agent names it.
    pub checkout_session_id: String,
    /// Which merchant, as the agent names it: our id or one of the merchant's own, at most 256
    /// characters.
    pub merchant_id: String,
    /// After now.
    pub expires_at: Timestamp,
}

/// A billing address. Not printable.
pub struct BillingAddress {
    /// At most 256 characters.
    pub name: Zeroizing<String>,
    /// At most 60 characters.
    pub line_one: Zeroizing<String>,
    /// At most 60 characters.
    pub line_two: Option<Zeroizing<String>>,
    /// At most 60 characters.
    pub city: Zeroizing<String>,
    /// At most 512 characters, which is our own bound.
    pub state: Zeroizing<String>,
    /// Two characters.
    pub country: String,
    /// At most 20 characters.
    pub postal_code: Zeroizing<String>,
}

/// One of the agent's own fraud signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiskSignal {
    /// About what.
    pub kind: RiskKind,
    /// How bad, on the agent's own scale.
    pub score: i64,
    /// What the agent recommends.
    pub action: RiskAction,
}

/// What a risk signal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskKind {
    /// Stolen cards being tried out.
    CardTesting,
}

/// What an agent recommends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RiskAction {
    /// It was blocked.
    Blocked,
    /// Somebody should look.
    ManualReview,
    /// It is fine.
    Authorized,
}

impl DelegatePayment {
    /// Reads a request of any version. `now` decides what has expired.
    ///
    /// # Errors
    /// [`Mistakes`]: structural where the schema is not met, semantic where a card or an allowance of the
    /// right shape is not valid (`src/acp/README.md`, "Errors"). A structural one anywhere comes before any
    /// semantic one.
    pub fn read(
        body: &[u8],
        version: Version,
        now: Timestamp,
        settings: &Settings,
    ) -> Result<Self, Mistakes> {
        let document = Document::of_body(body)
            .ok_or_else(|| WireError::structural("The body must be one JSON object.", "$"))?;
        let mut found = Found::default();
        let read = Self::find(document.value(), version, now, settings, &mut found);
        match (read, found.mistakes()) {
            (_, Some(mistakes)) => Err(mistakes),
            (Some(read), None) => Ok(read),
            (None, None) => Err(WireError::structural("The body must be one JSON object.", "$").into()),
        }
    }

    /// Everything is read before anything counts, so that all mistakes are found. `None` only beside one.
    fn find(
        value: Value<'_>,
        version: Version,
        now: Timestamp,
        settings: &Settings,
        found: &mut Found,
    ) -> Option<Self> {
        let known = ["payment_method", "allowance", "billing_address", "risk_signals", "metadata"];
        let fields = Fields::open_finding(value, "$", &known, found)?;
        let card = found.take(fields.required("payment_method"));
        let card = card.and_then(|card| CardData::find(card, version, now, settings, found));
        let allowance = found.take(fields.required("allowance"));
        let allowance = allowance.and_then(|allowance| RequestedAllowance::find(allowance, now, found));
        let billing_address = match fields.get("billing_address") {
            Some(address) => BillingAddress::find(address, found).map(Some),
            None => Some(None),
        };
        let risk_signals = found.take(fields.required("risk_signals"));
        let risk_signals = risk_signals.and_then(|signals| find_risk_signals(signals, version, found));
        let metadata = found.take(fields.map("metadata"));
        Some(Self {
            card: card?,
            allowance: allowance?,
            billing_address: billing_address?,
            risk_signals: risk_signals?,
            metadata: metadata?,
        })
    }
}

impl RequestedAllowance {
    fn find(value: Value<'_>, now: Timestamp, found: &mut Found) -> Option<Self> {
        let known = ["reason", "max_amount", "currency", "checkout_session_id", "merchant_id", "expires_at"];
        let fields = Fields::open_finding(value, "$.allowance", &known, found)?;
        let reason = found.take(fields.word("reason", &[("one_time", ())]));
        let max_amount = found.take(fields.integer("max_amount").and_then(|amount| {
            let amount = u64::try_from(amount).ok().and_then(MinorUnits::new);
            amount.filter(|amount| *amount > MinorUnits::ZERO).ok_or_else(|| {
                WireError::semantic("This must be from 1 to 2^53 - 1 minor units.", fields.at("max_amount"))
            })
        }));
        let currency = found.take(fields.text("currency", BY_MEANING).and_then(|text| {
            let is_lower_case = text.as_str().bytes().all(|b| b.is_ascii_lowercase());
            Currency::parse(text.as_str()).filter(|_| is_lower_case).ok_or_else(|| {
                WireError::structural("This must be three lower-case letters.", fields.at("currency"))
            })
        }));
        let checkout_session_id = found.take(fields.text("checkout_session_id", BY_MEANING));
        let merchant_id = found.take(fields.text("merchant_id", 256));
        let expires_at = found.take(fields.text("expires_at", 64).and_then(|text| {
            let expires_at = Timestamp::parse_rfc3339(text.as_str()).ok_or_else(|| {
                WireError::structural("This must be an RFC 3339 date and time.", fields.at("expires_at"))
            })?;
            // Invalid at and after expiry (rfc.delegate_payment §2.5).
            if now < expires_at { Ok(expires_at) } else { Err(expired(expires_at, now, &fields)) }
        }));
        reason?;
        Some(Self {
            max_amount: max_amount?,
            currency: currency?,
            checkout_session_id: checkout_session_id?.to_owned(),
            merchant_id: merchant_id?.to_owned(),
            expires_at: expires_at?,
        })
    }
}

/// Both clocks are told: only one of them is wrong.
fn expired(expires_at: Timestamp, now: Timestamp, fields: &Fields<'_>) -> WireError {
    let message = format!(
        "This must lie in the future: it is {} s behind our time, which is {}.",
        now.since(expires_at).as_millis().div_ceil(1000),
        now.to_rfc3339()
    );
    WireError::semantic(message, fields.at("expires_at"))
}

impl BillingAddress {
    fn find(value: Value<'_>, found: &mut Found) -> Option<Self> {
        let known = ["name", "line_one", "line_two", "city", "state", "country", "postal_code"];
        let fields = Fields::open_finding(value, "$.billing_address", &known, found)?;
        let name = found.take(fields.text("name", 256));
        let line_one = found.take(fields.text("line_one", 60));
        let line_two = found.take(fields.optional_text("line_two", 60));
        let city = found.take(fields.text("city", 60));
        let state = found.take(fields.text("state", LONGEST_TEXT));
        let country = found.take(fields.text("country", 2).and_then(|text| {
            let fits = text.as_str().chars().count() == 2;
            let wrong = || WireError::structural("This must be two characters.", fields.at("country"));
            if fits { Ok(text) } else { Err(wrong()) }
        }));
        let postal_code = found.take(fields.text("postal_code", 20));
        let wiped = |text: Text<'_>| Zeroizing::new(text.to_owned());
        Some(Self {
            name: wiped(name?),
            line_one: wiped(line_one?),
            line_two: line_two?.map(wiped),
            city: wiped(city?),
            state: wiped(state?),
            country: country?.to_owned(),
            postal_code: wiped(postal_code?),
        })
    }
}

fn find_risk_signals(value: Value<'_>, version: Version, found: &mut Found) -> Option<Vec<RiskSignal>> {
    let path = "$.risk_signals";
    let elements = value.array().ok_or_else(|| WireError::structural("This must be an array.", path));
    let elements = found.take(elements)?;
    if elements.is_empty() && version.requires_risk_signals() {
        found.add(WireError::structural("At least one risk signal is required.", path));
    }
    let mut signals = Vec::with_capacity(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let known = ["type", "score", "action"];
        let Some(fields) = Fields::open_finding(element, format!("{path}[{index}]"), &known, found) else {
            continue;
        };
        let kind = found.take(fields.word("type", &[("card_testing", RiskKind::CardTesting)]));
        let score = found.take(fields.integer("score"));
        let action = found.take(fields.word(
            "action",
            &[
                ("blocked", RiskAction::Blocked),
                ("manual_review", RiskAction::ManualReview),
                ("authorized", RiskAction::Authorized),
            ],
        ));
        if let (Some(kind), Some(score), Some(action)) = (kind, score, action) {
            signals.push(RiskSignal { kind, score, action });
        }
    }
    Some(signals)
}
