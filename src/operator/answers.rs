//! Answers of the operator's API: bodies, and refusals on their way out.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::reload::NotReloaded;
use crate::acp::problem::{Problem, ProblemKind};
use crate::domain::clock::Timestamp;
use crate::domain::session::ResolveRefusal;
use crate::gateway::claims::NotResolved;
use crate::records::StoreError;
use crate::storage::backup::BackupError;

/// A refusal on its way out.
pub(super) struct Refused {
    /// The method that is taken, where it was another.
    pub(super) allow: Option<&'static str>,
    /// What is told.
    pub(super) problem: Box<Problem>,
}

pub(super) fn invalid(status: StatusCode, code: &'static str, message: &'static str) -> Refused {
    Refused { allow: None, problem: Box::new(Problem::invalid_request(status, code, message)) }
}

pub(super) fn bad_query(expected: &'static str) -> Refused {
    invalid(StatusCode::BAD_REQUEST, "invalid_query", expected)
}

pub(super) fn internal(message: &'static str) -> Refused {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refused { allow: None, problem: Box::new(Problem::processing_error(status, message)) }
}

pub(super) fn of_store(error: StoreError) -> Refused {
    let (code, retry_after) = match error {
        StoreError::Unavailable | StoreError::NoSpace => ("store_unavailable", Some(5)),
        StoreError::Changed => ("store_changed", None),
        StoreError::Unacknowledged => ("store_unacknowledged", Some(1)),
        StoreError::Corrupt => ("store_corrupt", None),
    };
    let mut problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::ServiceUnavailable,
        code,
        format!("Nothing can be said now: {error}."),
    );
    problem.retry_after = retry_after;
    Refused { allow: None, problem: Box::new(problem) }
}

pub(super) fn not_resolved(why: &NotResolved, now: Timestamp) -> Refused {
    match why {
        NotResolved::SessionUnknown => invalid(
            StatusCode::NOT_FOUND,
            "checkout_session_not_found",
            "There is no such checkout session at this merchant.",
        ),
        NotResolved::Refused(ResolveRefusal::NotOpen) => invalid(
            StatusCode::CONFLICT,
            "claim_not_open",
            "This claim is not open any more, and did not end like that: list the claims again.",
        ),
        NotResolved::Refused(ResolveRefusal::AttemptOutstanding { until }) => {
            let left = until.since(now).as_secs().saturating_add(1);
            let mut refused = invalid(
                StatusCode::CONFLICT,
                "attempt_outstanding",
                "The merchant's answer to this claim may still arrive: wait for it.",
            );
            refused.problem.retry_after = u32::try_from(left).ok();
            refused
        }
        NotResolved::Store(error) => of_store(*error),
    }
}

/// Each reason stands on a line of the message.
pub(super) fn not_reloaded(why: &NotReloaded) -> Refused {
    let (status, told) = match why {
        NotReloaded::NoSource => (StatusCode::NOT_IMPLEMENTED, "This gateway was not started from a file."),
        NotReloaded::Mistakes(_) => (StatusCode::UNPROCESSABLE_ENTITY, "What ran before goes on. Mistakes:"),
        NotReloaded::Refused(_) => (StatusCode::CONFLICT, "What ran before goes on, because:"),
    };
    let lines: Vec<&str> = std::iter::once(told).chain(why.reasons().iter().map(String::as_str)).collect();
    let problem = Problem::new(status, ProblemKind::InvalidRequest, why.as_str(), lines.join("\n"));
    Refused { allow: None, problem: Box::new(problem) }
}

pub(super) fn of_backup(error: &BackupError) -> Refused {
    let (status, code) = match error {
        BackupError::Exists { .. } => (StatusCode::CONFLICT, "directory_exists"),
        BackupError::Inside { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "directory_refused"),
        BackupError::Interrupted => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        BackupError::Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
        BackupError::Directory(_) | BackupError::Open(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed")
        }
    };
    let kind =
        if status.is_server_error() { ProblemKind::ProcessingError } else { ProblemKind::InvalidRequest };
    // It names paths of this machine, to an operator of this machine.
    Refused { allow: None, problem: Box::new(Problem::new(status, kind, code, error.to_string())) }
}

pub(super) fn refusal(refused: Refused) -> Response<Full<Bytes>> {
    let Refused { allow, problem } = refused;
    let mut response = respond(problem.status, problem.body());
    let headers = response.headers_mut();
    if let Some(method) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(method));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(body) {
        Ok(body) => respond(status, body.into()),
        Err(_) => refusal(internal("The answer cannot be written.")),
    }
}

fn respond(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
