//! Checkout sessions before money moves: created, changed, read, refused, canceled.

use std::io;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method};

use crate::acp::header::API_VERSION;
use crate::acp::version::Version;
use crate::acp::wire::session::{SessionStatus, SessionView};
use crate::conformance::caller::new_key;
use crate::conformance::report::Level::{Must, Should};
use crate::conformance::report::{Case, Met, Report, otherwise, skipped};
use crate::conformance::shopper::{Shopper, flat, told};
use crate::quickstart::client::Answer;

const CREATE: Case = Case {
    name: "create",
    level: Must,
    expected: "201 and a session with an id (rfc.agentic_checkout §4.1)",
};
const READY: Case = Case {
    name: "ready",
    level: Must,
    expected: "with an address and a way to send it, ready_for_payment and one total in the currency",
};
const READ: Case = Case { name: "read", level: Must, expected: "200, the same session and total" };
const CANCEL: Case = Case { name: "cancel", level: Must, expected: "200 and canceled" };
const CANCEL_AGAIN: Case =
    Case {
        name: "cancel_again", level: Should, expected: "405: it is canceled (rfc.agentic_checkout §4.5)"
    };
const UNKNOWN: Case = Case { name: "unknown_session", level: Must, expected: "404 and a flat error" };
const BROKEN: Case = Case {
    name: "error_shape",
    level: Must,
    expected: "to a body that is no JSON 400 and a flat error: type, code, message (rfc.agentic_checkout §3.1)",
};
const CREDENTIAL: Case =
    Case { name: "credential", level: Must, expected: "to another bearer credential 401 and a flat error" };
const VERSION_MISSING: Case =
    Case { name: "version_missing", level: Must, expected: "without API-Version 400 and a flat error" };
const VERSION_UNKNOWN: Case = Case {
    name: "version_unknown",
    level: Must,
    expected: "to API-Version 1999-01-01 400 and a flat error (rfc.agentic_checkout §2.1)",
};
const VERSIONS_TOLD: Case = Case {
    name: "versions_told",
    level: Should,
    expected: "with that error supported_versions, the newest first, the one that is used among them",
};
const VERSIONS: Case =
    Case { name: "versions", level: Must, expected: "201 in every other version that its entry lists" };

/// Creates a session; nothing where that does not succeed.
pub(super) async fn opening(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<Option<Answer>> {
    let created = shopper.create().await.and_then(|answer| match answer.text("/id") {
        Some(_) if answer.status == 201 => Ok(answer),
        Some(_) | None => otherwise(told(&answer)),
    });
    match created {
        Ok(answer) => {
            report.note(CREATE, Ok(told(&answer)))?;
            Ok(Some(answer))
        }
        Err(unmet) => {
            report.note(CREATE, Err(unmet))?;
            Ok(None)
        }
    }
}

/// Makes it ready, reads it, cancels it.
pub(super) async fn changing(shopper: &Shopper, created: &Answer, report: &mut Report<'_>) -> io::Result<()> {
    let (basket, updated) = match shopper.ready(created).await {
        Ok(ready) => ready,
        Err(unmet) => return report.note(READY, Err(unmet)).map(|_| ()),
    };
    let total = format!("{} {}", basket.total.amount.get(), basket.total.currency.as_str());
    report.note(READY, Ok(format!("{}, total {total}", told(&updated))))?;
    let read = shopper.look_at(&basket.session).await.and_then(|answer| {
        let view = SessionView::read(&answer.body).ok().filter(|_| answer.status == 200);
        let same = view.is_some_and(|view| {
            view.id.is_some_and(|id| id.as_str() == basket.session)
                && view.status == SessionStatus::ReadyForPayment
                && view.total.eq(&SessionView::read(&updated.body).map_or(view.total, |seen| seen.total))
        });
        if same { Ok(told(&answer)) } else { otherwise(told(&answer)) }
    });
    report.note(READ, read)?;
    let canceled = cancel(shopper, &basket.session).await.and_then(|answer| {
        let is_canceled = answer.status == 200 && answer.text("/status").as_deref() == Some("canceled");
        if is_canceled { Ok(told(&answer)) } else { otherwise(told(&answer)) }
    });
    let again = match &canceled {
        Ok(_) => cancel(shopper, &basket.session).await.and_then(|answer| flat(&answer, &[405])),
        Err(_) => skipped("it is not canceled"),
    };
    report.note(CANCEL, canceled)?;
    report.note(CANCEL_AGAIN, again).map(|_| ())
}

async fn cancel(shopper: &Shopper, session: &str) -> Result<Answer, crate::conformance::report::Unmet> {
    let (path, key) = (format!("/checkout_sessions/{session}/cancel"), new_key()?);
    shopper.caller.send(shopper.caller.request(Method::POST, &path, Bytes::new(), Some(&key))?).await
}

/// What it must refuse.
pub(super) async fn refusing(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    let missing = shopper.look_at("cs_nobody_has_created_this").await;
    report.note(UNKNOWN, missing.and_then(|answer| flat(&answer, &[404])))?;
    report.note(BROKEN, broken(shopper).await)?;
    report.note(CREDENTIAL, another_credential(shopper).await)?;
    report.note(VERSION_MISSING, without_version(shopper).await)?;
    let unknown = unknown_version(shopper).await;
    let told =
        unknown.as_ref().map_or_else(|_| skipped("there is no answer"), |answer| lists(shopper, answer));
    report.note(VERSION_UNKNOWN, unknown.and_then(|answer| flat(&answer, &[400])))?;
    report.note(VERSIONS_TOLD, told)?;
    report.note(VERSIONS, other_versions(shopper).await).map(|_| ())
}

async fn broken(shopper: &Shopper) -> Met {
    let key = new_key()?;
    let request = shopper.caller.request(Method::POST, "/checkout_sessions", "{\"items\":", Some(&key))?;
    flat(&shopper.caller.send(request).await?, &[400])
}

async fn another_credential(shopper: &Shopper) -> Met {
    let (body, key) = (shopper.checkout(shopper.caller.version).to_string(), new_key()?);
    let mut request = shopper.caller.request(Method::POST, "/checkout_sessions", body, Some(&key))?;
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer not-the-credential"));
    flat(&shopper.caller.send(request).await?, &[401, 403])
}

/// Our signature covers the header: who judges that first may refuse it for that.
async fn without_version(shopper: &Shopper) -> Met {
    let (body, key) = (shopper.checkout(shopper.caller.version).to_string(), new_key()?);
    let mut request = shopper.caller.request(Method::POST, "/checkout_sessions", body, Some(&key))?;
    request.headers_mut().remove(API_VERSION);
    flat(&shopper.caller.send(request).await?, &[400, 401, 403])
}

async fn unknown_version(shopper: &Shopper) -> Result<Answer, crate::conformance::report::Unmet> {
    let (body, key) = (shopper.checkout(shopper.caller.version).to_string(), new_key()?);
    let (method, path) = (Method::POST, "/checkout_sessions");
    let request = shopper.caller.request_in("1999-01-01", method, path, body, Some(&key))?;
    shopper.caller.send(request).await
}

fn lists(shopper: &Shopper, answer: &Answer) -> Met {
    let body = answer.json();
    let listed = body.get("supported_versions").and_then(|listed| listed.as_array());
    let Some(listed) = listed else { return otherwise("no supported_versions") };
    let listed: Vec<&str> = listed.iter().filter_map(|version| version.as_str()).collect();
    let told = listed.join(", ");
    let has_ours = listed.contains(&shopper.caller.version.as_str());
    // Their names are dates.
    let is_newest_first = listed.is_sorted_by(|one, other| one > other);
    if has_ours && is_newest_first { Ok(told) } else { otherwise(told) }
}

async fn other_versions(shopper: &Shopper) -> Met {
    let listed = shopper.caller.merchant.versions.iter().filter_map(|version| Version::parse(version));
    let others: Vec<Version> = listed.filter(|version| *version != shopper.caller.version).collect();
    if others.is_empty() {
        return skipped("it lists one version");
    }
    for version in &others {
        let (body, key) = (shopper.checkout(*version).to_string(), new_key()?);
        let (method, path) = (Method::POST, "/checkout_sessions");
        let request = shopper.caller.request_in(version.as_str(), method, path, body, Some(&key))?;
        let answer = shopper.caller.send(request).await?;
        if answer.status != 201 {
            return otherwise(format!("in {}: {}", version.as_str(), told(&answer)));
        }
    }
    Ok(others.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", "))
}
