//! From method and path to a [`Route`]: apart, because every byte here is a stranger's.

use http::Method;
use smallvec::SmallVec;

use super::{CartCall, CheckoutCall, Route, RouteError};
use crate::domain::id::{MerchantId, SessionId, TokenId};

impl Route {
    /// Reads a method and a path without query. `host_merchant` is the merchant that owns the
    /// authority the request was sent to: there paths stand without the `/m/{merchant}` prefix, and
    /// a prefix is 404.
    ///
    /// # Errors
    /// [`RouteError`]. Escapes, empty segments, parameters, backslashes and ids outside the path
    /// grammar are [`RouteError::NotFound`] (`src/acp/README.md`, "Names and heads").
    pub fn parse(
        method: &Method,
        path: &str,
        host_merchant: Option<&MerchantId>,
    ) -> Result<Self, RouteError> {
        if path.contains(['%', ';', '\\']) || path.contains("//") {
            return Err(RouteError::NotFound);
        }
        let segments: SmallVec<[&str; MAX_SEGMENTS + 1]> =
            path.strip_prefix('/').ok_or(RouteError::NotFound)?.splitn(MAX_SEGMENTS + 1, '/').collect();
        match (segments.as_slice(), host_merchant) {
            (["m", merchant, rest @ ..], None) => {
                let merchant = MerchantId::parse(merchant).ok_or(RouteError::NotFound)?;
                at_merchant(method, rest, &merchant)
            }
            ([".well-known", "acp.json"], merchant) => {
                only(method, &Method::GET, Self::Discovery { merchant: merchant.cloned() })
            }
            ([".well-known", name], _) => well_known(method, name),
            (["agentic_commerce", kind @ ("issued_tokens" | "granted_tokens"), rest @ ..], _) => {
                token_route(method, kind, rest)
            }
            (["agentic_commerce", "delegate_payment"], None) => {
                only(method, &Method::POST, Self::DelegatePayment { merchant: None })
            }
            (rest, Some(merchant)) => at_merchant(method, rest, merchant),
            (_, None) => Err(RouteError::NotFound),
        }
    }
}

/// The longest routed path: `/m/{merchant}/checkout_sessions/{id}/complete`.
const MAX_SEGMENTS: usize = 5;

/// Paths that belong to a merchant, after its prefix or on its host.
fn at_merchant(method: &Method, segments: &[&str], merchant: &MerchantId) -> Result<Route, RouteError> {
    let merchant = merchant.clone();
    match segments {
        ["agentic_commerce", "delegate_payment"] => {
            only(method, &Method::POST, Route::DelegatePayment { merchant: Some(merchant) })
        }
        ["checkout_sessions"] => {
            only(method, &Method::POST, Route::Checkout { merchant, call: CheckoutCall::Create })
        }
        ["checkout_sessions", id] => {
            let session = session_id(id)?;
            let call = match *method {
                Method::GET => CheckoutCall::Get { session },
                Method::POST => CheckoutCall::Update { session },
                _ => return Err(RouteError::MethodNotAllowed { allow: "GET, POST" }),
            };
            Ok(Route::Checkout { merchant, call })
        }
        ["checkout_sessions", id, "complete"] => {
            let call = CheckoutCall::Complete { session: session_id(id)? };
            only(method, &Method::POST, Route::Checkout { merchant, call })
        }
        ["checkout_sessions", id, "cancel"] => {
            let call = CheckoutCall::Cancel { session: session_id(id)? };
            only(method, &Method::POST, Route::Checkout { merchant, call })
        }
        ["carts"] => only(method, &Method::POST, Route::Cart { merchant, call: CartCall::Create }),
        ["carts", id] => {
            let cart = session_id(id)?;
            let call = match *method {
                Method::GET => CartCall::Get { cart },
                Method::PUT => CartCall::Update { cart },
                _ => return Err(RouteError::MethodNotAllowed { allow: "GET, PUT" }),
            };
            Ok(Route::Cart { merchant, call })
        }
        ["carts", id, "cancel"] => {
            let call = CartCall::Cancel { cart: session_id(id)? };
            only(method, &Method::POST, Route::Cart { merchant, call })
        }
        _ => Err(RouteError::NotFound),
    }
}

fn well_known(method: &Method, name: &str) -> Result<Route, RouteError> {
    match name {
        "jwks.json" => only(method, &Method::GET, Route::Jwks),
        "http-message-signatures-directory" => only(method, &Method::GET, Route::SignatureDirectory),
        _ => Err(RouteError::NotFound),
    }
}

/// The agent's and the merchant's side of a token. An id we cannot have minted is unknown.
fn token_route(method: &Method, kind: &str, rest: &[&str]) -> Result<Route, RouteError> {
    let id = rest.first().and_then(|id| TokenId::parse_minted(id)).ok_or(RouteError::NotFound);
    match (kind, rest) {
        ("issued_tokens", [_]) => only(method, &Method::GET, Route::IssuedToken { token: id? }),
        ("issued_tokens", [_, "revoke"]) => only(method, &Method::POST, Route::RevokeToken { token: id? }),
        ("granted_tokens", [_]) => only(method, &Method::GET, Route::GrantedToken { token: id? }),
        ("granted_tokens", [_, "redeem"]) => only(method, &Method::POST, Route::RedeemToken { token: id? }),
        _ => Err(RouteError::NotFound),
    }
}

fn session_id(text: &str) -> Result<SessionId, RouteError> {
    SessionId::parse(text).ok_or(RouteError::NotFound)
}

/// The route, if the method is the one it has.
fn only(method: &Method, allowed: &Method, route: Route) -> Result<Route, RouteError> {
    if method == allowed {
        return Ok(route);
    }
    let allow = if *allowed == Method::GET { "GET" } else { "POST" };
    Err(RouteError::MethodNotAllowed { allow })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::acp::version::Version;

    const TOKEN: &str = "vt_abcdefghij0123456789012345678901";

    fn merchant() -> MerchantId {
        MerchantId::parse("acme").unwrap()
    }

    /// The same operation by prefix and by host, and what it is called.
    #[test]
    fn every_operation_is_reached_by_prefix_and_by_host() {
        let table = [
            ("POST", "/agentic_commerce/delegate_payment", "delegate_payment"),
            ("POST", "/checkout_sessions", "checkout_create"),
            ("GET", "/checkout_sessions/cs_1", "checkout_get"),
            ("POST", "/checkout_sessions/cs_1", "checkout_update"),
            ("POST", "/checkout_sessions/cs_1/complete", "checkout_complete"),
            ("POST", "/checkout_sessions/cs_1/cancel", "checkout_cancel"),
            ("POST", "/carts", "cart_create"),
            ("GET", "/carts/c.1", "cart_get"),
            ("PUT", "/carts/c.1", "cart_update"),
            ("POST", "/carts/c.1/cancel", "cart_cancel"),
        ];
        for (method, path, label) in table {
            let method: Method = method.parse().unwrap();
            let by_host = Route::parse(&method, path, Some(&merchant())).unwrap();
            let by_prefix = Route::parse(&method, &format!("/m/acme{path}"), None).unwrap();
            assert_eq!(by_host, by_prefix);
            assert_eq!(by_host.label(), label);
            assert_eq!(*by_host.canonical_path(), *path);
            assert_eq!(by_host.method(), method);
            assert_eq!(by_host.merchant(), Some(&merchant()));
            let on_both = Route::parse(&method, &format!("/m/acme{path}"), Some(&merchant()));
            assert_eq!(on_both, Err(RouteError::NotFound), "a prefix on a merchant's host");
        }
    }

    #[test]
    fn routes_without_a_merchant_stand_at_the_root_of_every_host() {
        let table = [
            ("GET", format!("/agentic_commerce/issued_tokens/{TOKEN}"), "issued_token"),
            ("POST", format!("/agentic_commerce/issued_tokens/{TOKEN}/revoke"), "revoke_token"),
            ("GET", format!("/agentic_commerce/granted_tokens/{TOKEN}"), "granted_token"),
            ("POST", format!("/agentic_commerce/granted_tokens/{TOKEN}/redeem"), "redeem_token"),
            ("GET", "/.well-known/acp.json".into(), "discovery"),
            ("GET", "/.well-known/jwks.json".into(), "jwks"),
            ("GET", "/.well-known/http-message-signatures-directory".into(), "signature_directory"),
        ];
        for (method, path, label) in table {
            let method: Method = method.parse().unwrap();
            for host in [None, Some(merchant())] {
                let route = Route::parse(&method, &path, host.as_ref()).unwrap();
                assert_eq!(route.label(), label);
                assert_eq!(*route.canonical_path(), *path);
                assert_eq!(route.method(), method);
            }
            assert_eq!(Route::parse(&method, &format!("/m/acme{path}"), None), Err(RouteError::NotFound));
        }
    }

    #[test]
    fn only_a_merchants_host_is_named_by_discovery() {
        let at = |host| Route::parse(&Method::GET, "/.well-known/acp.json", host).unwrap();
        assert_eq!(at(None).merchant(), None);
        assert_eq!(at(Some(&merchant())).merchant(), Some(&merchant()));
    }

    #[test]
    fn what_a_path_could_hide_is_not_found() {
        for path in [
            "",
            "checkout_sessions",
            "/",
            "/checkout_sessions/",
            "/checkout_sessions/cs_1/",
            "/checkout_sessions//complete",
            "//checkout_sessions",
            "/checkout_sessions/%63s_1",
            "/checkout_sessions/cs_1;a=b",
            "/checkout_sessions/a\\b",
            "/checkout_sessions/..",
            "/checkout_sessions/.",
            "/checkout_sessions/cs 1",
            "/checkout_sessions/cs_1/complete/x",
            "/Checkout_sessions",
            "/agentic_commerce/issued_tokens",
            "/agentic_commerce/issued_tokens/spt_123",
            "/agentic_commerce/delegate_payment/x",
            "/.well-known/other",
        ] {
            let parsed = Route::parse(&Method::POST, path, Some(&merchant()));
            assert_eq!(parsed, Err(RouteError::NotFound), "{path}");
        }
        for path in [
            "/m",
            "/m/",
            "/m/acme",
            "/m/../carts",
            "/m/acme/",
            "/m/a%62/carts",
            "/checkout_sessions",
            "/carts/c",
        ] {
            let parsed = Route::parse(&Method::POST, path, None);
            assert_eq!(parsed, Err(RouteError::NotFound), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_what_is_allowed() {
        let allow = |method: Method, path: &str| match Route::parse(&method, path, Some(&merchant())) {
            Err(RouteError::MethodNotAllowed { allow }) => allow,
            other => panic!("{other:?}"),
        };
        assert_eq!(allow(Method::DELETE, "/checkout_sessions/cs_1"), "GET, POST");
        assert_eq!(allow(Method::POST, "/carts/c_1"), "GET, PUT");
        assert_eq!(allow(Method::GET, "/checkout_sessions"), "POST");
        assert_eq!(allow(Method::HEAD, "/.well-known/acp.json"), "GET");
    }

    #[test]
    fn money_routes_need_a_key_in_every_version_and_mutations_from_2026_04_17() {
        let route = |method: &str, path: &str| {
            Route::parse(&method.parse().unwrap(), path, Some(&merchant())).unwrap()
        };
        let complete = route("POST", "/checkout_sessions/cs_1/complete");
        assert!(complete.is_money());
        assert!(Version::NEWEST_FIRST.iter().all(|version| complete.needs_idempotency_key(*version)));
        for (method, path) in
            [("POST", "/checkout_sessions"), ("POST", "/checkout_sessions/cs_1"), ("PUT", "/carts/c")]
        {
            let route = route(method, path);
            assert!(route.is_mutation() && !route.is_money());
            assert!(route.needs_idempotency_key(Version::V2026_04_17));
            assert!(!route.needs_idempotency_key(Version::V2026_01_30));
        }
        assert!(!route("GET", "/carts/c").needs_idempotency_key(Version::V2026_04_17));
    }

    proptest! {
        #[test]
        fn any_path_is_refused_or_rebuilt_as_it_came(path in "/?([a-z_]{0,12}|m|checkout_sessions|carts|cancel|complete|\\PC{0,6})(/([A-Za-z0-9._~%;-]{0,8}|cancel|complete)){0,5}", by_host: bool) {
            let host = by_host.then(merchant);
            for method in [Method::GET, Method::POST, Method::PUT] {
                if let Ok(route) = Route::parse(&method, &path, host.as_ref()) {
                    let prefix = if by_host { String::new() } else {
                        route.merchant().map(|merchant| format!("/m/{merchant}")).unwrap_or_default()
                    };
                    prop_assert_eq!(format!("{prefix}{}", route.canonical_path()), path.clone());
                    prop_assert_eq!(route.method(), method);
                }
            }
        }
    }
}
