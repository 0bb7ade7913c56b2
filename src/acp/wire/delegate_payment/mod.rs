//! `delegate_payment`: the request that turns a card and an allowance into a token, and its answer
//! (DP §3, §4; `acp/protocol.md` §4).

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

use super::WireError;
use super::fields::{BY_MEANING, Fields, LONGEST_TEXT};
use super::json::{Document, Value};
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
    /// [`WireError`]: structural where the schema is not met, semantic where a card or an
    /// allowance of the right shape is not valid (`acp/protocol.md` §4.3). A structural fault
    /// anywhere comes before a semantic one.
    pub fn read(
        body: &[u8],
        version: Version,
        now: Timestamp,
        settings: &Settings,
    ) -> Result<Self, WireError> {
        let document = Document::of_body(body)
            .ok_or_else(|| WireError::structural("The body must be one JSON object.", "$"))?;
        let fields = Fields::open(
            document.value(),
            "$",
            &["payment_method", "allowance", "billing_address", "risk_signals", "metadata"],
        )?;
        let payment_method = fields.required("payment_method")?;
        let allowance = fields.required("allowance")?;
        let risk_signals = risk_signals(fields.required("risk_signals")?, version)?;
        let metadata = fields.map("metadata")?;
        let billing_address = fields.get("billing_address").map(BillingAddress::read).transpose()?;
        // Both are read before either's meaning counts, so that a fault of shape comes first.
        let card = CardData::read(payment_method, version, now, settings);
        let allowance = RequestedAllowance::read(allowance, now);
        let (card, allowance) = match (card, allowance) {
            (Ok(card), Ok(allowance)) => (card, allowance),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
            (Err(card), Err(allowance)) => {
                return Err(
                    if allowance.fault == super::Fault::Structural && card.fault != allowance.fault {
                        allowance
                    } else {
                        card
                    },
                );
            }
        };
        Ok(Self { card, allowance, billing_address, risk_signals, metadata })
    }
}

impl RequestedAllowance {
    fn read(value: Value<'_>, now: Timestamp) -> Result<Self, WireError> {
        let known = ["reason", "max_amount", "currency", "checkout_session_id", "merchant_id", "expires_at"];
        let fields = Fields::open(value, "$.allowance", &known)?;
        let structural = |message, name| WireError::structural(message, fields.at(name));
        fields.word("reason", &[("one_time", ())])?;
        let max_amount = fields.required("max_amount")?.integer();
        let max_amount = max_amount.ok_or_else(|| structural("This must be an integer.", "max_amount"))?;
        let currency = fields.text("currency", BY_MEANING)?;
        let is_lower_case = currency.as_str().bytes().all(|b| b.is_ascii_lowercase());
        let currency = Currency::parse(currency.as_str())
            .filter(|_| is_lower_case)
            .ok_or_else(|| structural("This must be three lower-case letters.", "currency"))?;
        let checkout_session_id = fields.text("checkout_session_id", BY_MEANING)?.to_owned();
        let merchant_id = fields.text("merchant_id", 256)?.to_owned();
        let expires_at = Timestamp::parse_rfc3339(fields.text("expires_at", 64)?.as_str())
            .ok_or_else(|| structural("This must be an RFC 3339 date and time.", "expires_at"))?;

        let semantic = |message, name| WireError::semantic(message, fields.at(name));
        let max_amount = u64::try_from(max_amount)
            .ok()
            .and_then(MinorUnits::new)
            .filter(|amount| *amount > MinorUnits::ZERO)
            .ok_or_else(|| semantic("This must be from 1 to 2^53 - 1 minor units.", "max_amount"))?;
        // Invalid at and after expiry (DP §2.5).
        if now >= expires_at {
            return Err(semantic("This must lie in the future.", "expires_at"));
        }
        Ok(Self { max_amount, currency, checkout_session_id, merchant_id, expires_at })
    }
}

impl BillingAddress {
    fn read(value: Value<'_>) -> Result<Self, WireError> {
        let known = ["name", "line_one", "line_two", "city", "state", "country", "postal_code"];
        let fields = Fields::open(value, "$.billing_address", &known)?;
        let text = |name, longest| Ok(Zeroizing::new(fields.text(name, longest)?.to_owned()));
        let country = fields.text("country", 2)?.to_owned();
        if country.chars().count() != 2 {
            return Err(WireError::structural("This must be two characters.", fields.at("country")));
        }
        Ok(Self {
            name: text("name", 256)?,
            line_one: text("line_one", 60)?,
            line_two: fields.optional_text("line_two", 60)?.map(|line| Zeroizing::new(line.to_owned())),
            city: text("city", 60)?,
            state: text("state", LONGEST_TEXT)?,
            country,
            postal_code: text("postal_code", 20)?,
        })
    }
}

fn risk_signals(value: Value<'_>, version: Version) -> Result<Vec<RiskSignal>, WireError> {
    let path = "$.risk_signals";
    let elements = value.array().ok_or_else(|| WireError::structural("This must be an array.", path))?;
    if elements.is_empty() && version.requires_risk_signals() {
        return Err(WireError::structural("At least one risk signal is required.", path));
    }
    let signals = elements.into_iter().enumerate().map(|(index, element)| {
        let fields = Fields::open(element, format!("{path}[{index}]"), &["type", "score", "action"])?;
        Ok(RiskSignal {
            kind: fields.word("type", &[("card_testing", RiskKind::CardTesting)])?,
            score: fields
                .required("score")?
                .integer()
                .ok_or_else(|| WireError::structural("This must be an integer.", fields.at("score")))?,
            action: fields.word(
                "action",
                &[
                    ("blocked", RiskAction::Blocked),
                    ("manual_review", RiskAction::ManualReview),
                    ("authorized", RiskAction::Authorized),
                ],
            )?,
        })
    });
    signals.collect()
}
