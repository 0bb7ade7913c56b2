//! Which operation a method and path name.
//!
//! One closed enum, so that a new operation is a to-do list from the compiler. Paths go upstream only as
//! rebuilt from here, never as they came.

mod parse;
mod template;

use std::sync::Arc;

use http::Method;
use smallvec::SmallVec;

use super::problem::ErrorDialect;
use super::version::Version;
use crate::domain::id::{MerchantId, SessionId, TokenId};

/// An operation of the public listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /agentic_commerce/delegate_payment`: mint a token.
    DelegatePayment {
        /// Named by the path prefix or the host; otherwise `allowance.merchant_id` alone says.
        merchant: Option<MerchantId>,
    },
    /// `GET /agentic_commerce/issued_tokens/{id}`: the agent's view of its token.
    IssuedToken {
        /// Which token.
        token: TokenId,
    },
    /// `POST /agentic_commerce/issued_tokens/{id}/revoke`.
    RevokeToken {
        /// Which token.
        token: TokenId,
    },
    /// `GET /agentic_commerce/granted_tokens/{id}`: the merchant's view of a token granted to it.
    GrantedToken {
        /// Which token.
        token: TokenId,
    },
    /// `POST /agentic_commerce/granted_tokens/{id}/redeem`: exchange it for the card.
    RedeemToken {
        /// Which token.
        token: TokenId,
    },
    /// A call of ACP's checkout.
    Checkout {
        /// Whose checkout.
        merchant: MerchantId,
        /// Which call.
        call: CheckoutCall,
    },
    /// A call of ACP's carts.
    Cart {
        /// Whose cart.
        merchant: MerchantId,
        /// Which call.
        call: CartCall,
    },
    /// `GET /.well-known/acp.json`.
    Discovery {
        /// The merchant whose host was asked; none on a shared host.
        merchant: Option<MerchantId>,
    },
    /// `GET /.well-known/jwks.json`.
    Jwks,
    /// `GET /.well-known/http-message-signatures-directory`.
    SignatureDirectory,
}

impl Route {
    /// The checkout session it names.
    pub const fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Checkout {
                call:
                    CheckoutCall::Get { session }
                    | CheckoutCall::Update { session }
                    | CheckoutCall::Complete { session }
                    | CheckoutCall::Cancel { session },
                ..
            } => Some(session),
            Self::Checkout { call: CheckoutCall::Create, .. }
            | Self::Cart { .. }
            | Self::DelegatePayment { .. }
            | Self::IssuedToken { .. }
            | Self::RevokeToken { .. }
            | Self::GrantedToken { .. }
            | Self::RedeemToken { .. }
            | Self::Discovery { .. }
            | Self::Jwks
            | Self::SignatureDirectory => None,
        }
    }

    /// The payment token it names.
    pub const fn token(&self) -> Option<&TokenId> {
        match self {
            Self::IssuedToken { token }
            | Self::RevokeToken { token }
            | Self::GrantedToken { token }
            | Self::RedeemToken { token } => Some(token),
            Self::DelegatePayment { .. }
            | Self::Checkout { .. }
            | Self::Cart { .. }
            | Self::Discovery { .. }
            | Self::Jwks
            | Self::SignatureDirectory => None,
        }
    }
}

/// A call of ACP's checkout (rfc.agentic_checkout §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckoutCall {
    /// `POST /checkout_sessions`
    Create,
    /// `GET /checkout_sessions/{id}`
    Get {
        /// Which session.
        session: SessionId,
    },
    /// `POST /checkout_sessions/{id}`
    Update {
        /// Which session.
        session: SessionId,
    },
    /// `POST /checkout_sessions/{id}/complete`
    Complete {
        /// Which session.
        session: SessionId,
    },
    /// `POST /checkout_sessions/{id}/cancel`
    Cancel {
        /// Which session.
        session: SessionId,
    },
}

/// A call of ACP's carts (rfc.cart §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CartCall {
    /// `POST /carts`
    Create,
    /// `GET /carts/{id}`
    Get {
        /// Which cart.
        cart: SessionId,
    },
    /// `PUT /carts/{id}`: full replacement.
    Update {
        /// Which cart.
        cart: SessionId,
    },
    /// `POST /carts/{id}/cancel`
    Cancel {
        /// Which cart.
        cart: SessionId,
    },
}

/// Why a method and path name no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Nothing lives at that path.
    #[error("nothing is served at this path")]
    NotFound,
    /// Something does, but not for that method.
    #[error("the method is not allowed on this path")]
    MethodNotAllowed {
        /// The value of `Allow`.
        allow: &'static str,
    },
}

impl Route {
    /// Its name in metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::DelegatePayment { .. } => "delegate_payment",
            Self::IssuedToken { .. } => "issued_token",
            Self::RevokeToken { .. } => "revoke_token",
            Self::GrantedToken { .. } => "granted_token",
            Self::RedeemToken { .. } => "redeem_token",
            Self::Checkout { call, .. } => match call {
                CheckoutCall::Create => "checkout_create",
                CheckoutCall::Get { .. } => "checkout_get",
                CheckoutCall::Update { .. } => "checkout_update",
                CheckoutCall::Complete { .. } => "checkout_complete",
                CheckoutCall::Cancel { .. } => "checkout_cancel",
            },
            Self::Cart { call, .. } => match call {
                CartCall::Create => "cart_create",
                CartCall::Get { .. } => "cart_get",
                CartCall::Update { .. } => "cart_update",
                CartCall::Cancel { .. } => "cart_cancel",
            },
            Self::Discovery { .. } => "discovery",
            Self::Jwks => "jwks",
            Self::SignatureDirectory => "signature_directory",
        }
    }

    /// Whether money can move or a card can enter or leave: delegate_payment, complete, revoke,
    /// redeem (`src/acp/README.md`, "Money routes").
    pub const fn is_money(&self) -> bool {
        match self {
            Self::DelegatePayment { .. } | Self::RevokeToken { .. } | Self::RedeemToken { .. } => true,
            Self::Checkout { call, .. } => matches!(call, CheckoutCall::Complete { .. }),
            Self::IssuedToken { .. }
            | Self::GrantedToken { .. }
            | Self::Cart { .. }
            | Self::Discovery { .. }
            | Self::Jwks
            | Self::SignatureDirectory => false,
        }
    }

    /// Whether it changes anything: every POST and PUT.
    pub const fn is_mutation(&self) -> bool {
        match self {
            Self::DelegatePayment { .. } | Self::RevokeToken { .. } | Self::RedeemToken { .. } => true,
            Self::Checkout { call, .. } => !matches!(call, CheckoutCall::Get { .. }),
            Self::Cart { call, .. } => !matches!(call, CartCall::Get { .. }),
            Self::IssuedToken { .. }
            | Self::GrantedToken { .. }
            | Self::Discovery { .. }
            | Self::Jwks
            | Self::SignatureDirectory => false,
        }
    }

    /// Whether it is served to anyone, without credential and without `API-Version`.
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Discovery { .. } | Self::Jwks | Self::SignatureDirectory)
    }

    /// The method it is called with.
    pub const fn method(&self) -> Method {
        match self {
            Self::Cart { call: CartCall::Update { .. }, .. } => Method::PUT,
            _ if self.is_mutation() => Method::POST,
            _ => Method::GET,
        }
    }

    /// The merchant named by prefix or host.
    pub const fn merchant(&self) -> Option<&MerchantId> {
        match self {
            Self::DelegatePayment { merchant } | Self::Discovery { merchant } => merchant.as_ref(),
            Self::Checkout { merchant, .. } | Self::Cart { merchant, .. } => Some(merchant),
            Self::IssuedToken { .. }
            | Self::RevokeToken { .. }
            | Self::GrantedToken { .. }
            | Self::RedeemToken { .. }
            | Self::Jwks
            | Self::SignatureDirectory => None,
        }
    }

    /// The path without a merchant prefix: the same through host and prefix, and what is appended
    /// to a merchant's base URL.
    pub fn canonical_path(&self) -> Arc<str> {
        let parts = match self {
            Self::DelegatePayment { .. } => ["/agentic_commerce/delegate_payment", "", ""],
            Self::IssuedToken { token } => ["/agentic_commerce/issued_tokens/", token.as_str(), ""],
            Self::RevokeToken { token } => ["/agentic_commerce/issued_tokens/", token.as_str(), "/revoke"],
            Self::GrantedToken { token } => ["/agentic_commerce/granted_tokens/", token.as_str(), ""],
            Self::RedeemToken { token } => ["/agentic_commerce/granted_tokens/", token.as_str(), "/redeem"],
            Self::Checkout { call, .. } => match call {
                CheckoutCall::Create => ["/checkout_sessions", "", ""],
                CheckoutCall::Get { session } | CheckoutCall::Update { session } => {
                    ["/checkout_sessions/", session.as_str(), ""]
                }
                CheckoutCall::Complete { session } => ["/checkout_sessions/", session.as_str(), "/complete"],
                CheckoutCall::Cancel { session } => ["/checkout_sessions/", session.as_str(), "/cancel"],
            },
            Self::Cart { call, .. } => match call {
                CartCall::Create => ["/carts", "", ""],
                CartCall::Get { cart } | CartCall::Update { cart } => ["/carts/", cart.as_str(), ""],
                CartCall::Cancel { cart } => ["/carts/", cart.as_str(), "/cancel"],
            },
            Self::Discovery { .. } => ["/.well-known/acp.json", "", ""],
            Self::Jwks => ["/.well-known/jwks.json", "", ""],
            Self::SignatureDirectory => ["/.well-known/http-message-signatures-directory", "", ""],
        };
        // On the stack, so that it is memory of its own only once.
        let mut path: SmallVec<[u8; 160]> = SmallVec::new();
        parts.iter().for_each(|part| path.extend_from_slice(part.as_bytes()));
        String::from_utf8_lossy(&path).as_ref().into()
    }

    /// Whether the request must carry an `Idempotency-Key`: money routes in every version, every
    /// POST and PUT from 2026-04-17 (rfc.agentic_checkout §6.1, rfc.delegate_payment §5.1,
    /// the OpenAPI of carts).
    pub const fn needs_idempotency_key(&self, version: Version) -> bool {
        self.is_money() || (self.is_mutation() && version.requires_idempotency_key())
    }

    /// In which of ACP's two error dialects it answers (`src/acp/README.md`, "Errors").
    pub const fn error_dialect(&self) -> ErrorDialect {
        match self {
            Self::DelegatePayment { .. } => ErrorDialect::DelegatePayment,
            _ => ErrorDialect::Checkout,
        }
    }
}
