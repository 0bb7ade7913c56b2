//! The routes of the operator's API, and the role that each takes.

use http::StatusCode;

use super::answers::{Refused, invalid};
use crate::acp::problem::Problem;
use crate::registry::Role;

/// A route and the one method it takes.
#[derive(Clone, Copy)]
pub(super) enum Route {
    Claims,
    Show,
    Resolve,
    Reload,
    Suspensions,
    Suspend { resumed: bool },
    Backup,
    Accept,
    Replicas,
    Convert,
}

/// Where a request goes.
///
/// # Errors
/// There is no such path, or it takes another method.
pub(super) fn route(head: &http::request::Parts) -> Result<Route, Refused> {
    let (route, allow) = match head.uri.path() {
        "/claims" => (Route::Claims, "GET"),
        "/claims/show" => (Route::Show, "GET"),
        "/claims/resolve" => (Route::Resolve, "POST"),
        "/suspensions" if head.method == http::Method::POST => (Route::Suspend { resumed: false }, "POST"),
        "/suspensions" => (Route::Suspensions, "GET"),
        "/suspensions/resume" => (Route::Suspend { resumed: true }, "POST"),
        "/config/reload" => (Route::Reload, "POST"),
        "/store/backup" => (Route::Backup, "POST"),
        "/store/accept" => (Route::Accept, "POST"),
        "/store/replicas" => (Route::Replicas, "GET"),
        "/store/convert" => (Route::Convert, "POST"),
        _ => return Err(Refused { allow: None, problem: Box::new(Problem::not_found()) }),
    };
    if head.method.as_str() == allow {
        return Ok(route);
    }
    let mut refused =
        invalid(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This path takes another method.");
    refused.allow = Some(allow);
    Err(refused)
}

/// The role that a request takes.
pub(super) const fn needed(route: Route) -> Role {
    match route {
        Route::Claims | Route::Show | Route::Suspensions | Route::Replicas => Role::Read,
        Route::Resolve => Role::Resolve,
        Route::Suspend { .. } => Role::Suspend,
        // Also to try one out: that runs the programs that print secrets.
        Route::Reload | Route::Backup | Route::Accept | Route::Convert => Role::All,
    }
}

/// How a role is written.
pub(super) const fn word(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Resolve => "resolve",
        Role::Suspend => "suspend",
        Role::All => "all",
    }
}
