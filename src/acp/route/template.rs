//! What every request to an operation looks like, whichever session or token it is about.

use super::{CartCall, CheckoutCall, Route};

impl Route {
    /// Its method, and its path with the names of its parts in place of what they are; without a merchant
    /// prefix.
    pub const fn template(&self) -> (&'static str, &'static str) {
        match self {
            Self::DelegatePayment { .. } => ("POST", "/agentic_commerce/delegate_payment"),
            Self::IssuedToken { .. } => ("GET", "/agentic_commerce/issued_tokens/{id}"),
            Self::RevokeToken { .. } => ("POST", "/agentic_commerce/issued_tokens/{id}/revoke"),
            Self::GrantedToken { .. } => ("GET", "/agentic_commerce/granted_tokens/{id}"),
            Self::RedeemToken { .. } => ("POST", "/agentic_commerce/granted_tokens/{id}/redeem"),
            Self::Checkout { call, .. } => match call {
                CheckoutCall::Create => ("POST", "/checkout_sessions"),
                CheckoutCall::Get { .. } => ("GET", "/checkout_sessions/{id}"),
                CheckoutCall::Update { .. } => ("POST", "/checkout_sessions/{id}"),
                CheckoutCall::Complete { .. } => ("POST", "/checkout_sessions/{id}/complete"),
                CheckoutCall::Cancel { .. } => ("POST", "/checkout_sessions/{id}/cancel"),
            },
            Self::Cart { call, .. } => match call {
                CartCall::Create => ("POST", "/carts"),
                CartCall::Get { .. } => ("GET", "/carts/{id}"),
                CartCall::Update { .. } => ("PUT", "/carts/{id}"),
                CartCall::Cancel { .. } => ("POST", "/carts/{id}/cancel"),
            },
            Self::Discovery { .. } => ("GET", "/.well-known/acp.json"),
            Self::Jwks => ("GET", "/.well-known/jwks.json"),
            Self::SignatureDirectory => ("GET", "/.well-known/http-message-signatures-directory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::domain::id::MerchantId;

    #[test]
    fn a_template_with_its_parts_filled_in_is_a_request_to_its_route() {
        let merchant = MerchantId::parse("shop").unwrap();
        let token = "vt_abcdefghij0123456789012345678901";
        for (method, path) in [
            ("POST", "/agentic_commerce/delegate_payment"),
            ("GET", "/agentic_commerce/issued_tokens/{id}"),
            ("POST", "/agentic_commerce/issued_tokens/{id}/revoke"),
            ("GET", "/agentic_commerce/granted_tokens/{id}"),
            ("POST", "/agentic_commerce/granted_tokens/{id}/redeem"),
            ("POST", "/checkout_sessions"),
            ("GET", "/checkout_sessions/{id}"),
            ("POST", "/checkout_sessions/{id}"),
            ("POST", "/checkout_sessions/{id}/complete"),
            ("POST", "/checkout_sessions/{id}/cancel"),
            ("POST", "/carts"),
            ("GET", "/carts/{id}"),
            ("PUT", "/carts/{id}"),
            ("POST", "/carts/{id}/cancel"),
            ("GET", "/.well-known/acp.json"),
            ("GET", "/.well-known/jwks.json"),
            ("GET", "/.well-known/http-message-signatures-directory"),
        ] {
            let named = Method::from_bytes(method.as_bytes()).unwrap();
            let route = Route::parse(&named, &path.replace("{id}", token), Some(&merchant)).unwrap();
            assert_eq!(route.template(), (method, path));
            assert_eq!(route.canonical_path().replace(token, "{id}"), path);
            assert_eq!(route.method(), named);
        }
    }
}
