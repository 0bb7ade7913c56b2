//! The queries of the operator's API. What is wrong with one is told as what was expected.

use crate::domain::id::{MerchantId, SessionId};
use crate::gateway::claims::ClaimQuery;

/// Claims in one list, by default and at most.
const CLAIMS: [usize; 2] = [100, 10_000];

/// Of `GET /claims`.
///
/// # Errors
/// What was expected.
pub(super) fn claims(text: &str) -> Result<ClaimQuery, &'static str> {
    let [default, most] = CLAIMS;
    let mut query = ClaimQuery { merchant: None, under_way: false, limit: default };
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let read = match name.as_ref() {
            "limit" => {
                let limit = Some(&value).filter(|value| !value.starts_with('+'));
                let limit = limit.and_then(|value| value.parse().ok());
                limit.filter(|limit| (1..=most).contains(limit)).map(|limit| query.limit = limit)
            }
            "merchant" => MerchantId::parse(&value).map(|merchant| query.merchant = Some(merchant)),
            "all" => value.parse().ok().map(|all| query.under_way = all),
            _ => None,
        };
        read.ok_or("Expected limit=1 to 10000, merchant=ID or all=true.")?;
    }
    Ok(query)
}

/// Of `POST /config/reload`: whether nothing is to be replaced.
///
/// # Errors
/// What was expected.
pub(super) fn try_out(text: &str) -> Result<bool, &'static str> {
    let mut try_out = false;
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        let read = if name == "try_out" { value.parse().ok() } else { None };
        try_out = read.ok_or("Expected try_out=true, or nothing.")?;
    }
    Ok(try_out)
}

/// Of `GET /claims/show`: which session, and at which merchant alone.
///
/// # Errors
/// What was expected.
pub(super) fn session(text: &str) -> Result<(Option<MerchantId>, SessionId), &'static str> {
    const EXPECTED: &str = "Expected session=ID, and merchant=ID or none.";
    let (mut merchant, mut session) = (None, None);
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        match name.as_ref() {
            "merchant" => merchant = Some(MerchantId::parse(&value).ok_or(EXPECTED)?),
            "session" => session = Some(SessionId::parse(&value).ok_or(EXPECTED)?),
            _ => return Err(EXPECTED),
        }
    }
    Ok((merchant, session.ok_or(EXPECTED)?))
}
