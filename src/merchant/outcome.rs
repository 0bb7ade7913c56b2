//! What an answer means: the outcome table of a complete, and the reading of a session.
//!
//! Apart from everything that moves bytes, so that the rows can be read and tested one by one.

use http::StatusCode;

use super::answer::clean_code;
use super::envelope::read_error;
use super::exchange::{Answer, Exchange, Lost};
use crate::acp::wire::session::SessionView;
use crate::domain::id::SessionId;
use crate::domain::session::Fruitless;
use crate::domain::session::Lifecycle;
pub use crate::domain::session::Outcome;
use crate::registry::MerchantIdempotency;

/// How a complete was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteReading {
    /// What it came to.
    pub outcome: Outcome,
    /// The session, where a 2xx showed this one.
    pub session: Option<SessionView>,
}

/// Whether somebody may have answered in the merchant's place: 421 says so (RFC 9110 §15.5.20), and
/// proxies and servers answer some statuses by themselves, with a page of theirs for a body.
pub fn is_not_the_merchants(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        421 => true,
        400 | 404 | 405 | 413 | 414 | 431 => read_error(&answer.body).is_none(),
        _ => false,
    }
}

/// The code of a merchant's error, where it is one that may be told.
pub fn told_code(answer: &Answer) -> Option<String> {
    clean_code(&read_error(&answer.body)?.code?)
}

/// Reads the answer to a complete of `session`, one row of the table an arm.
pub fn read_complete(
    exchange: &Exchange,
    session: &SessionId,
    idempotency: MerchantIdempotency,
) -> CompleteReading {
    let answer = match exchange {
        Exchange::Answered(answer) => answer,
        Exchange::NotSent(_) => return without_session(Outcome::NotCharged { recorded: false }),
        Exchange::Lost(_) => return without_session(Outcome::InDoubt),
    };
    if answer.status.is_success() {
        return read_success(answer, session);
    }
    without_session(match answer.status.as_u16() {
        // Our credential was refused: not the agent's doing, so it may try again with its key.
        401 | 403 => Outcome::NotCharged { recorded: false },
        // Whoever answered did nothing; whether the merchant did before, only its keys can tell.
        421 => match idempotency {
            MerchantIdempotency::Keys => Outcome::NotCharged { recorded: false },
            MerchantIdempotency::None => Outcome::InDoubt,
        },
        _ if is_not_the_merchants(answer) => Outcome::InDoubt,
        425 | 429 | 307 | 308 => Outcome::NotCharged { recorded: false },
        408 => Outcome::InDoubt,
        409 if is_in_flight(answer) => Outcome::InDoubt,
        // What cannot be as it is asked, of the session and not of the card.
        409 | 422 if !names_decline(&answer.body) => Outcome::Refused,
        400..=499 => Outcome::NotCharged { recorded: true },
        // 1xx, other redirects, 5xx, and what HTTP does not define.
        _ => Outcome::InDoubt,
    })
}

const fn without_session(outcome: Outcome) -> CompleteReading {
    CompleteReading { outcome, session: None }
}

fn read_success(answer: &Answer, session: &SessionId) -> CompleteReading {
    let Some(view) = session_view(answer, session) else {
        return without_session(Outcome::InDoubt);
    };
    let outcome = match view.lifecycle() {
        Lifecycle::Completed => Outcome::Charged,
        Lifecycle::Working => Outcome::Pending,
        Lifecycle::Closed | Lifecycle::Open => Outcome::NotCharged { recorded: true },
        Lifecycle::Unknown => Outcome::InDoubt,
    };
    CompleteReading { outcome, session: Some(view) }
}

/// Whether a 409 is ACP's `idempotency_in_flight` (rfc.agentic_checkout §6.4). Where it has no readable
/// code, the `Retry-After` decides that the same section demands with it and with no other conflict.
pub fn is_in_flight(answer: &Answer) -> bool {
    match read_error(&answer.body).and_then(|error| error.code) {
        Some(code) => code == "idempotency_in_flight",
        None => answer.headers.contains_key(http::header::RETRY_AFTER),
    }
}

/// Whether an answer says that the card was declined: ACP's `payment_declined`, or a provider's
/// `card_declined`, as a code anywhere in it.
pub fn names_decline(body: &[u8]) -> bool {
    let mut windows = std::str::from_utf8(body).unwrap_or("").match_indices("_declined\"");
    windows.any(|(at, _)| {
        body.get(..at).is_some_and(|before| before.ends_with(b"\"payment") || before.ends_with(b"\"card"))
    })
}

/// What a read of a session showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReading {
    /// This session.
    Session(SessionView),
    /// The merchant itself says that it does not have it: 404 or 410.
    Missing,
    /// Neither: an error, no answer, another session's id, or nothing readable. It is no evidence.
    Unreadable,
}

/// Reads the answer to a GET, update or cancel of `session`.
pub fn read_session(exchange: &Exchange, session: &SessionId) -> SessionReading {
    let Some(answer) = exchange.answer() else { return SessionReading::Unreadable };
    match answer.status {
        StatusCode::NOT_FOUND | StatusCode::GONE if !is_not_the_merchants(answer) => SessionReading::Missing,
        status if status.is_success() => {
            session_view(answer, session).map_or(SessionReading::Unreadable, SessionReading::Session)
        }
        _ => SessionReading::Unreadable,
    }
}

/// What came of a request that brought no evidence.
pub fn fruitless(exchange: &Exchange) -> Fruitless {
    match exchange {
        Exchange::NotSent(_) => Fruitless::NotSent,
        Exchange::Lost(Lost::Misplaced) => Fruitless::Misplaced,
        Exchange::Lost(_) => Fruitless::Lost,
        Exchange::Answered(answer) if answer.status.is_success() || is_not_the_merchants(answer) => {
            Fruitless::Unreadable(answer.status.as_u16())
        }
        Exchange::Answered(answer) => Fruitless::Refused(answer.status.as_u16()),
    }
}

/// Reads the session that an answer shows; `None` when it is no session, or not this one.
pub fn session_view(answer: &Answer, session: &SessionId) -> Option<SessionView> {
    SessionView::of(answer.json()?).ok().filter(|view| view.id.as_ref() == Some(session))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::merchant::exchange::NotSent;
    use crate::merchant::handshake::TlsFailure;

    const RECORDED: Outcome = Outcome::NotCharged { recorded: true };
    const TLS: NotSent = NotSent::Tls(TlsFailure::UnknownIssuer);
    const NOT_RECORDED: Outcome = Outcome::NotCharged { recorded: false };

    fn session() -> SessionId {
        SessionId::parse("cs_1").unwrap()
    }

    fn answered(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Exchange {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        Exchange::Answered(Answer::new(
            StatusCode::from_u16(status).unwrap(),
            Some("application/json".into()),
            map,
            Bytes::copy_from_slice(body.as_bytes()),
            Duration::ZERO,
        ))
    }

    fn outcome(status: u16, body: &str) -> Outcome {
        at(&answered(status, &[], body), MerchantIdempotency::None)
    }

    fn at(exchange: &Exchange, idempotency: MerchantIdempotency) -> Outcome {
        read_complete(exchange, &session(), idempotency).outcome
    }

    fn with_status(status: &str) -> String {
        format!(r#"{{"id":"cs_1","status":"{status}"}}"#)
    }

    #[test]
    fn a_2xx_that_shows_this_session_completed_or_with_an_order_is_charged() {
        assert_eq!(outcome(200, &with_status("completed")), Outcome::Charged);
        assert_eq!(outcome(201, r#"{"id":"cs_1","order":{"id":"o"}}"#), Outcome::Charged);
        let pending = r#"{"id":"cs_1","status":"in_progress","order":{"checkout_session_id":"cs_1"}}"#;
        assert_eq!(outcome(200, pending), Outcome::Charged);
    }

    #[test]
    fn a_2xx_that_shows_it_under_way_is_pending() {
        for status in ["pending_approval", "complete_in_progress", "in_progress"] {
            assert_eq!(outcome(200, &with_status(status)), Outcome::Pending, "{status}");
        }
    }

    #[test]
    fn a_2xx_with_another_known_status_and_no_order_is_not_charged_and_recorded() {
        for status in [
            "incomplete",
            "not_ready_for_payment",
            "requires_escalation",
            "authentication_required",
            "ready_for_payment",
            "canceled",
            "expired",
        ] {
            assert_eq!(outcome(200, &with_status(status)), RECORDED, "{status}");
            let null_order = format!(r#"{{"id":"cs_1","status":"{status}","order":null}}"#);
            assert_eq!(outcome(200, &null_order), RECORDED, "{status}");
        }
    }

    #[test]
    fn a_4xx_is_not_charged_and_recorded() {
        for status in [400, 402, 404, 405, 410, 451] {
            let error = r#"{"type":"invalid_request","code":"x"}"#;
            for body in [error.to_owned(), format!(r#"{{"error":{error}}}"#), r#"{"detail":"x"}"#.to_owned()]
            {
                assert_eq!(outcome(status, &body), RECORDED, "{status}");
            }
        }
        for status in [402, 410, 451] {
            assert_eq!(outcome(status, "<html>"), RECORDED, "{status}");
        }
    }

    #[test]
    fn a_conflict_or_what_cannot_be_is_an_attempt_at_the_card_only_where_it_names_a_decline() {
        for status in [409, 422] {
            for body in ["", "<html>", r#"{"type":"invalid_request","code":"out_of_stock"}"#] {
                assert_eq!(outcome(status, body), Outcome::Refused, "{status} {body}");
            }
            for code in ["payment_declined", "card_declined"] {
                let body = format!(r#"{{"error":{{"code":"{code}"}}}}"#);
                assert_eq!(outcome(status, &body), RECORDED, "{status} {code}");
            }
        }
    }

    #[test]
    fn what_a_proxy_answers_in_the_merchants_place_is_in_doubt() {
        for status in [400, 404, 405, 413, 414, 431] {
            for body in ["", "<html>", "{}", "[]", r#"{"status":404}"#, r#"{"error":null}"#] {
                assert_eq!(outcome(status, body), Outcome::InDoubt, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_misdirected_request_was_not_acted_on_where_keys_are_honoured_and_is_in_doubt_elsewhere() {
        for body in ["", "<html>", r#"{"type":"invalid_request","code":"x"}"#] {
            let misdirected = answered(421, &[], body);
            assert_eq!(at(&misdirected, MerchantIdempotency::Keys), NOT_RECORDED);
            assert_eq!(at(&misdirected, MerchantIdempotency::None), Outcome::InDoubt);
        }
    }

    #[test]
    fn a_refusal_before_the_business_logic_is_not_charged_and_not_recorded() {
        for status in [401, 403, 425, 429, 307, 308] {
            assert_eq!(outcome(status, ""), NOT_RECORDED, "{status}");
        }
        for reason in [NotSent::Refused, NotSent::StreamRefused, NotSent::Unwritten, TLS] {
            assert_eq!(at(&Exchange::NotSent(reason), MerchantIdempotency::None), NOT_RECORDED);
        }
    }

    #[test]
    fn what_says_nothing_certain_is_in_doubt() {
        for status in [101, 300, 301, 302, 303, 304, 408, 500, 502, 503, 504, 599, 600, 999] {
            assert_eq!(outcome(status, &with_status("completed")), Outcome::InDoubt, "{status}");
        }
        for reason in [Lost::Timeout, Lost::Reset, Lost::Truncated, Lost::TooLarge, Lost::Undecodable] {
            assert_eq!(at(&Exchange::Lost(reason), MerchantIdempotency::Keys), Outcome::InDoubt);
        }
    }

    #[test]
    fn a_409_in_flight_is_in_doubt_in_every_envelope() {
        let flat = r#"{"type":"invalid_request","code":"idempotency_in_flight","message":"wait"}"#;
        for body in [flat.to_owned(), format!(r#"{{"error":{flat}}}"#), format!(r#"{{"detail":{flat}}}"#)] {
            assert_eq!(outcome(409, &body), Outcome::InDoubt, "{body}");
        }
        let unreadable = answered(409, &[("retry-after", "1")], "<html>");
        assert_eq!(at(&unreadable, MerchantIdempotency::Keys), Outcome::InDoubt);
        let conflict = answered(409, &[("retry-after", "1")], r#"{"code":"idempotency_conflict"}"#);
        assert_eq!(at(&conflict, MerchantIdempotency::Keys), Outcome::Refused);
    }

    #[test]
    fn a_2xx_that_cannot_be_read_or_is_anothers_is_in_doubt() {
        for body in [
            "",
            "<html>",
            "null",
            "[]",
            r#"["cs_1","completed",null]"#,
            r#"{"id":"cs_1"}"#,
            r#"{"status":"completed"}"#,
            r#"{"id":"cs_2","status":"completed"}"#,
            r#"{"id":"cs_2","status":"ready_for_payment"}"#,
            r#"{"id":"cs_1","status":"shipped"}"#,
            r#"{"id":"cs_1","status":"ready_for_payment","status":"completed"}"#,
            r#"{"id":"cs_1","status":"ready_for_payment","order":true}"#,
            r#"{"id":"cs_1","status":"completed","order":{"checkout_session_id":"cs_2"}}"#,
            r#"{"id":"cs_1","status":"completed"#,
        ] {
            assert_eq!(outcome(200, body), Outcome::InDoubt, "{body}");
        }
    }

    #[test]
    fn what_brings_no_evidence_is_told_apart() {
        let unknown = r#"{"type":"invalid_request","code":"not_found"}"#;
        for (exchange, came) in [
            (Exchange::NotSent(TLS), Fruitless::NotSent),
            (Exchange::Lost(Lost::Timeout), Fruitless::Lost),
            (Exchange::Lost(Lost::Misplaced), Fruitless::Misplaced),
            (answered(200, &[], "<html>"), Fruitless::Unreadable(200)),
            (answered(404, &[], "<html>"), Fruitless::Unreadable(404)),
            (answered(404, &[], unknown), Fruitless::Refused(404)),
            (answered(400, &[], unknown), Fruitless::Refused(400)),
            (answered(500, &[], ""), Fruitless::Refused(500)),
        ] {
            assert_eq!(fruitless(&exchange), came, "{exchange:?}");
        }
    }

    #[test]
    fn only_a_readable_answer_about_this_session_is_evidence() {
        let read = |exchange: &Exchange| match read_session(exchange, &session()) {
            SessionReading::Session(view) => Ok(view.lifecycle()),
            SessionReading::Missing => Err("missing"),
            SessionReading::Unreadable => Err("unreadable"),
        };
        assert_eq!(read(&answered(200, &[], &with_status("expired"))), Ok(Lifecycle::Closed));
        assert_eq!(read(&answered(200, &[], &with_status("completed"))), Ok(Lifecycle::Completed));
        assert_eq!(read(&answered(200, &[], &with_status("odd"))), Ok(Lifecycle::Unknown));
        let unknown = r#"{"type":"invalid_request","code":"not_found"}"#;
        assert_eq!(read(&answered(404, &[], unknown)), Err("missing"));
        assert_eq!(read(&answered(410, &[], "")), Err("missing"));
        assert_eq!(read(&answered(404, &[], "<html>")), Err("unreadable"));
        for (status, body) in
            [(200, "{}"), (200, r#"{"id":"cs_2","status":"completed"}"#), (500, ""), (302, ""), (403, "")]
        {
            assert_eq!(read(&answered(status, &[], body)), Err("unreadable"), "{status}");
        }
        assert_eq!(read(&Exchange::Lost(Lost::Timeout)), Err("unreadable"));
    }
}
