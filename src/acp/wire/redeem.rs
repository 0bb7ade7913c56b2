//! The body of a redeem, our own operation.

use super::WireError;
use super::fields::Fields;
use super::json::Document;
use crate::domain::id::{ClaimId, SessionId};
use crate::domain::money::{Currency, MinorUnits, Money};

/// A request to exchange a token for its card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemRequest {
    /// The `Idempotency-Key` the merchant received on complete.
    pub claim: ClaimId,
    /// The session being completed.
    pub session: SessionId,
    /// What will be charged.
    pub amount: Money,
}

impl RedeemRequest {
    /// Reads `{claim, checkout_session_id, amount, currency}`; nothing else may stand in it.
    ///
    /// # Errors
    /// [`WireError`]: structural, or semantic for an amount that is none.
    pub fn read(body: &[u8]) -> Result<Self, WireError> {
        let document = Document::of_body(body)
            .ok_or_else(|| WireError::structural("The body must be one JSON object.", "$"))?;
        let fields =
            Fields::open(document.value(), "$", &["claim", "checkout_session_id", "amount", "currency"])?;
        let not_an_id = |name| WireError::structural("This is not an id.", fields.at(name));
        let claim = ClaimId::parse(fields.text("claim", 128)?.as_str());
        let session = SessionId::parse(fields.text("checkout_session_id", 128)?.as_str());
        let currency = Currency::parse(fields.text("currency", 3)?.as_str());
        let amount = fields.required("amount")?.integer();
        let amount =
            amount.ok_or_else(|| WireError::structural("This must be an integer.", fields.at("amount")))?;
        let amount = u64::try_from(amount).ok().and_then(MinorUnits::new);
        Ok(Self {
            claim: claim.ok_or_else(|| not_an_id("claim"))?,
            session: session.ok_or_else(|| not_an_id("checkout_session_id"))?,
            amount: Money {
                currency: currency.ok_or_else(|| {
                    WireError::structural("This must be three letters.", fields.at("currency"))
                })?,
                amount: amount.ok_or_else(|| {
                    WireError::semantic("This must be from 0 to 2^53 - 1 minor units.", fields.at("amount"))
                })?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<RedeemRequest, String> {
        RedeemRequest::read(body.as_bytes()).map_err(|error| error.param)
    }

    #[test]
    fn a_redeem_names_claim_session_and_amount() {
        let read =
            read(r#"{"claim":"c-1","checkout_session_id":"cs_1","amount":430,"currency":"USD"}"#).unwrap();
        assert_eq!((read.claim.as_str(), read.session.as_str()), ("c-1", "cs_1"));
        assert_eq!(read.amount.to_string(), "430 usd");
    }

    #[test]
    fn each_fault_names_its_place() {
        for (body, param) in [
            ("[]", "$"),
            (r#"{"claim":"c","checkout_session_id":"s","amount":1,"currency":"usd","x":1}"#, "$"),
            (r#"{"checkout_session_id":"s","amount":1,"currency":"usd"}"#, "$.claim"),
            (r#"{"claim":"a/b","checkout_session_id":"s","amount":1,"currency":"usd"}"#, "$.claim"),
            (
                r#"{"claim":"c","checkout_session_id":"..","amount":1,"currency":"usd"}"#,
                "$.checkout_session_id",
            ),
            (r#"{"claim":"c","checkout_session_id":"s","amount":-1,"currency":"usd"}"#, "$.amount"),
            (r#"{"claim":"c","checkout_session_id":"s","amount":1.5,"currency":"usd"}"#, "$.amount"),
            (r#"{"claim":"c","checkout_session_id":"s","amount":1,"currency":"us"}"#, "$.currency"),
        ] {
            assert_eq!(read(body), Err(param.to_owned()), "{body}");
        }
    }
}
