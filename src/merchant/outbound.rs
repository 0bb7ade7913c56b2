//! What is about to be sent to a merchant, before it is an HTTP request.
//!
//! Apart from the gateway, which fills it in, and from `forward`, which turns it into an HTTP request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use byteview::StrView;
use http::{HeaderValue, Method};

use crate::auth::signature::VerifiedBody;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, ClaimId, KeyId, TokenId};
use crate::domain::money::Money;

/// A request for a merchant. It holds everything that travels: what is not here is dropped. Cannot
/// be printed: no body is ever logged.
///
/// No body can be forwarded but one that was verified:
///
/// ```compile_fail,E0308
/// # use countersign::merchant::Outbound;
/// fn with_another_body(outbound: Outbound, body: bytes::Bytes) -> Outbound {
///     Outbound { body, ..outbound }
/// }
/// ```
#[derive(Clone)]
pub struct Outbound {
    /// The method of the route.
    pub method: Method,
    /// The path rebuilt from the parsed route, beginning with `/`, e.g.
    /// `/checkout_sessions/cs_1/complete`; appended to the path of the merchant's base URL.
    pub path: Arc<str>,
    /// The query without `?`, where the merchant's entry lets one pass.
    pub query: Option<String>,
    /// What travels of the agent's headers.
    pub headers: ForwardedHeaders,
    /// Our derived key, on mutations; never the agent's own.
    pub idempotency_key: Option<StrView>,
    /// The body, byte for byte.
    pub body: VerifiedBody,
    /// Who asks for what, told under our signature.
    pub context: Context,
    /// The token's grant, on complete.
    pub grant: Option<String>,
    /// When this is signed: `Timestamp` and `created`. Of a complete the instant its attempt begins:
    /// however late it is written, its signature expires before its claim can be given up.
    pub now: Timestamp,
}

impl Outbound {
    /// The session or cart it is about, where that exists already.
    pub fn resource(&self) -> Option<&str> {
        resource(&self.path)
    }
}

/// The session or cart that a path is about.
pub fn resource(path: &str) -> Option<&str> {
    path.split('/').nth(2)
}

/// The agent's headers that travel.
#[derive(Clone, Debug)]
pub struct ForwardedHeaders {
    /// `API-Version`.
    pub version: Cow<'static, str>,
    /// `Accept-Language`, unchanged.
    pub accept_language: Option<HeaderValue>,
    /// `Content-Type`, unchanged.
    pub content_type: Option<HeaderValue>,
    /// `Accept`, unchanged.
    pub accept: Option<HeaderValue>,
    /// `User-Agent`; our own product is appended.
    pub user_agent: Option<HeaderValue>,
    /// `Request-Id`: the agent's, or minted.
    pub request_id: Arc<str>,
    /// `traceparent`, already ours.
    pub traceparent: Option<String>,
    /// The agent's address, for `Forwarded`.
    pub forwarded_for: IpAddr,
    /// The authority the agent used, for `Forwarded`.
    pub host: Arc<str>,
}

/// What `Countersign-Context` says.
#[derive(Clone, Debug)]
pub struct Context {
    /// The authenticated agent.
    pub agent: AgentId,
    /// How it proved itself.
    pub proof: ProofKind,
    /// The key it signed with.
    pub key: Option<KeyId>,
    /// On complete: the claim this request runs under.
    pub complete: Option<CompleteContext>,
}

/// How an agent proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofKind {
    /// A signature over this request verified.
    Signed,
    /// A bearer credential alone.
    Bearer,
}

impl ProofKind {
    /// The word in `Countersign-Context`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Bearer => "bearer",
        }
    }
}

/// The claim a complete runs under.
#[derive(Clone, Debug)]
pub struct CompleteContext {
    /// Our token; none on a purchase order.
    pub token: Option<TokenId>,
    /// The claim, which is the `Idempotency-Key` sent along.
    pub claim: ClaimId,
    /// The session's total that was checked.
    pub checked: Money,
    /// Which attempt of the claim this is, from 1.
    pub attempt: u32,
    /// Whether a fraud rule asks the merchant to review the order.
    pub review: bool,
}
