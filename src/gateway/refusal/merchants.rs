//! What an agent is told where the merchant was not reached, did not answer, or answered what is no use.
//!
//! What of it is at fault, and never a byte of it.

use std::borrow::Cow;

use http::StatusCode;

use crate::acp::problem::{Problem, ProblemKind};
use crate::merchant::{InvalidAnswer, Lost, NotSent};

const REPEAT: &str = "repeat the request with the same Idempotency-Key.";

pub(super) fn not_sent(reason: NotSent, code: &'static str) -> Problem {
    if matches!(reason, NotSent::Timeout(_)) {
        return upstream_problem(
            StatusCode::GATEWAY_TIMEOUT,
            code,
            "The merchant could not be connected to in time; nothing was sent.",
        );
    }
    let message = "The merchant could not be reached; nothing was sent.";
    upstream_problem(StatusCode::BAD_GATEWAY, code, message)
}

pub(super) fn lost(reason: Lost, code: &'static str) -> Problem {
    match reason {
        Lost::Timeout | Lost::SlowBody => {
            let message = format!("The merchant did not answer in time; {REPEAT}");
            upstream_problem(StatusCode::GATEWAY_TIMEOUT, code, message)
        }
        Lost::Misplaced => {
            let message = format!("The merchant's answer is about another session; {REPEAT}");
            upstream_problem(StatusCode::BAD_GATEWAY, code, message)
        }
        Lost::Reset
        | Lost::Alerted(_)
        | Lost::Malformed
        | Lost::Truncated
        | Lost::TooLarge
        | Lost::Undecodable => {
            let message = format!("There is no whole answer: {reason}; {REPEAT}");
            upstream_problem(StatusCode::BAD_GATEWAY, code, message)
        }
    }
}

pub(super) fn invalid_answer(invalid: InvalidAnswer, code: &'static str) -> Problem {
    let message = format!("{}; {REPEAT}", invalid.told());
    upstream_problem(StatusCode::BAD_GATEWAY, code, message)
}

pub(super) fn ownership_conflict(code: &'static str) -> Problem {
    let message = "The merchant answered with an id it must not use.";
    upstream_problem(StatusCode::BAD_GATEWAY, code, message)
}

fn upstream_problem(
    status: StatusCode,
    code: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Problem {
    Problem::new(status, ProblemKind::ProcessingError, code, message)
}

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::*;
    use crate::merchant::Stage;

    #[test]
    fn no_answer_is_502_or_504() {
        for (refusal, status) in [
            (Refusal::NotSent(NotSent::Refused), StatusCode::BAD_GATEWAY),
            (Refusal::NotSent(NotSent::NotBuilt), StatusCode::BAD_GATEWAY),
            (Refusal::NotSent(NotSent::Timeout(Stage::Connect)), StatusCode::GATEWAY_TIMEOUT),
            (Refusal::Lost(Lost::Timeout), StatusCode::GATEWAY_TIMEOUT),
            (Refusal::Lost(Lost::Truncated), StatusCode::BAD_GATEWAY),
        ] {
            assert_eq!(refusal.problem().status, status, "{refusal:?}");
        }
    }
}
