//! The grant: a JWT that states a token's allowance to its merchant.
//!
//! Signed once when the token is minted and sent with each complete. Worth nothing alone: a merchant
//! accepts it only covered by a countersignature, with itself as `aud` and the token of the body as
//! `jti`.

use serde::Serialize;

use super::countersign::Countersigner;
use crate::crypto::jwt::{self, JwtError};
use crate::domain::allowance::Allowance;
use crate::domain::clock::Timestamp;
use crate::domain::id::TokenId;

/// The `typ` of a grant (RFC 8725 §3.11).
pub const TYP: &str = "payment-grant+jwt";

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    jti: &'a str,
    iat: i64,
    exp: i64,
    allowance: AllowanceClaim<'a>,
}

/// The allowance in ACP's words (`delegate_payment`), amounts in minor units.
#[derive(Serialize)]
struct AllowanceClaim<'a> {
    reason: &'static str,
    max_amount: u64,
    currency: &'a str,
    checkout_session_id: &'a str,
    merchant_id: &'a str,
    expires_at: String,
}

/// Signs the grant of a token.
///
/// # Errors
/// [`JwtError::NotSigned`] without randomness.
pub fn mint(
    countersigner: &Countersigner,
    token: &TokenId,
    allowance: &Allowance,
    now: Timestamp,
) -> Result<String, JwtError> {
    let (kid, key) = countersigner.current();
    let claims = Claims {
        iss: countersigner.issuer(),
        aud: allowance.merchant.as_str(),
        sub: allowance.agent.as_str(),
        jti: token.as_str(),
        iat: now.unix_seconds(),
        // Rounded down: never in force when the token is not.
        exp: allowance.expires_at.unix_seconds(),
        allowance: AllowanceClaim {
            reason: "one_time",
            max_amount: allowance.cap.amount.get(),
            currency: allowance.cap.currency.as_str(),
            checkout_session_id: allowance.session.as_str(),
            merchant_id: allowance.merchant.as_str(),
            expires_at: allowance.expires_at.to_rfc3339(),
        },
    };
    jwt::sign(key, kid, TYP, &claims)
}
