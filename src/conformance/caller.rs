//! What is sent to the merchant, written and signed as the gateway writes it, and what comes back.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::Value;

use super::report::{Unmet, otherwise, skipped};
use crate::acp::version::Version;
use crate::auth::signature::{SignedRequest, VerifiedBody, verify};
use crate::crypto::random;
use crate::domain::allowance::Allowance;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::id::{AgentId, ClaimId, KeyId, SessionId, TOKEN_RANDOM_CHARS, TOKEN_TAG_CHARS, TokenId};
use crate::domain::money::Money;
use crate::http_signature::MessageView;
use crate::merchant::{
    self, CompleteContext, Context, Countersigner, ForwardedHeaders, Outbound, ProofKind, grant,
};
use crate::quickstart::client::Answer;
use crate::registry::{AcpVariant, Agent, Merchant, SignaturePolicy, SignatureRequired};

/// As the gateway takes of an answer by default.
const MOST_BYTES: usize = 1 << 20;
/// What a token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);
/// What the agent is called.
const AGENT: &str = "conformance";

type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The gateway whose place is taken.
pub(crate) struct Countersigned {
    /// It signs with.
    pub(crate) countersigner: Arc<Countersigner>,
    /// Its name.
    pub(crate) host: Arc<str>,
}

/// Who calls the merchant: an agent, and the gateway it calls through.
pub(crate) struct Caller {
    pub(crate) merchant: Arc<Merchant>,
    pub(crate) version: Version,
    countersigner: Arc<Countersigner>,
    host: Arc<str>,
    agent: Agent,
    client: Client,
}

/// What a complete is about.
pub(super) struct Paying<'a> {
    pub session: &'a str,
    pub total: Money,
    pub token: &'a TokenId,
    /// The claim: its `Idempotency-Key`.
    pub claim: &'a str,
    /// How often it has been sent, this time included.
    pub attempt: u32,
}

/// No randomness, or an id of a merchant's that no path can hold.
pub(super) fn unusable(what: &str) -> Unmet {
    Unmet::Otherwise(format!("{what} cannot be used"))
}

/// A new token, as the gateway names them.
pub(super) fn new_token() -> Result<TokenId, Unmet> {
    let parts =
        random::base62(TOKEN_TAG_CHARS).and_then(|tag| Ok((tag, random::base62(TOKEN_RANDOM_CHARS)?)));
    let (tag, rest) = parts.map_err(|error| Unmet::Skipped(error.to_string()))?;
    TokenId::assemble(&tag, &rest).ok_or_else(|| unusable("a token's id"))
}

/// A new idempotency key.
pub(super) fn new_key() -> Result<String, Unmet> {
    random::base62(TOKEN_RANDOM_CHARS).map_err(|error| Unmet::Skipped(error.to_string()))
}

impl Caller {
    /// Calls a merchant in a gateway's place.
    pub(crate) fn new(
        merchant: Arc<Merchant>,
        version: Version,
        by: &Countersigned,
        tls: ClientConfig,
    ) -> Option<Self> {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = connector.enable_http1().enable_http2().build();
        let mut client = legacy::Client::builder(TokioExecutor::new());
        // What is repeated without being asked would falsify what is found.
        client.retry_canceled_requests(false);
        let (countersigner, host) = (Arc::clone(&by.countersigner), Arc::clone(&by.host));
        Some(Self {
            merchant,
            version,
            countersigner,
            host,
            agent: agent()?,
            client: client.build(connector),
        })
    }

    /// A request without payment, ready to be sent.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        key: Option<&str>,
    ) -> Result<Request<Bytes>, Unmet> {
        self.request_in(self.version.as_str(), method, path, body, key)
    }

    /// The same in another version.
    pub(super) fn request_in(
        &self,
        version: &str,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
        key: Option<&str>,
    ) -> Result<Request<Bytes>, Unmet> {
        let mut outbound = self.outbound(method, path, body.into(), key)?;
        outbound.headers.version = version.to_owned().into();
        self.write(outbound)
    }

    /// A complete that pays with a token, ready to be sent.
    pub(super) fn paying(&self, paying: &Paying<'_>, body: &Value) -> Result<Request<Bytes>, Unmet> {
        let Paying { session, total, token, claim, attempt } = *paying;
        let path = format!("/checkout_sessions/{session}/complete");
        let mut outbound = self.outbound(Method::POST, &path, body.to_string().into(), Some(claim))?;
        let allowance = Allowance {
            agent: self.agent.id.clone(),
            merchant: self.merchant.id.clone(),
            session: SessionId::parse(session).ok_or_else(|| unusable("the session's id"))?,
            cap: total,
            expires_at: outbound.now.plus(TOKEN_LIFE),
        };
        let minted = grant::mint(&self.countersigner, token, &allowance, outbound.now);
        outbound.grant = Some(minted.map_err(|error| Unmet::Skipped(error.to_string()))?);
        outbound.context.complete = Some(CompleteContext {
            token: Some(token.clone()),
            claim: ClaimId::parse(claim).ok_or_else(|| unusable("a claim's id"))?,
            checked: total,
            attempt,
            review: false,
        });
        self.write(outbound)
    }

    fn write(&self, outbound: Outbound) -> Result<Request<Bytes>, Unmet> {
        merchant::written(&self.merchant, &self.countersigner, outbound)
            .map_err(|error| Unmet::Skipped(error.to_string()))
    }

    fn outbound(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<&str>,
    ) -> Result<Outbound, Unmet> {
        let request_id = format!("req_{}", new_key()?);
        Ok(Outbound {
            body: self.looked_at(method.as_str(), path, &body)?,
            method,
            path: path.into(),
            query: None,
            headers: ForwardedHeaders {
                version: self.version.as_str().into(),
                accept_language: None,
                content_type: None,
                accept: None,
                user_agent: None,
                request_id: request_id.into(),
                traceparent: None,
                forwarded_for: IpAddr::V4(Ipv4Addr::LOCALHOST),
                host: Arc::clone(&self.host),
            },
            idempotency_key: key.map(Into::into),
            context: Context {
                agent: self.agent.id.clone(),
                proof: ProofKind::Signed,
                key: KeyId::parse(AGENT),
                complete: None,
            },
            grant: None,
            now: SystemClock.now(),
        })
    }

    /// A body as what sends it on takes it: one that was looked at with the request it came in.
    fn looked_at(&self, method: &str, path: &str, body: &Bytes) -> Result<VerifiedBody, Unmet> {
        let headers = HeaderMap::new();
        let message = MessageView {
            method,
            scheme: "https",
            authority: &self.host,
            path,
            query: None,
            headers: &headers,
        };
        let request = SignedRequest { message, body, idempotency_key: None, money_route: false };
        let verified = verify(&self.agent, &request, SystemClock.now());
        verified.map(|verified| verified.body().clone()).map_err(|error| Unmet::Skipped(error.to_string()))
    }

    /// Sends a request as it stands, and waits for its answer for as long as the gateway would.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Answer, Unmet> {
        self.send_within(request, self.merchant.deadlines.total).await
    }

    /// The same, for as long as is said.
    pub(super) async fn send_within(
        &self,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Answer, Unmet> {
        match tokio::time::timeout(within, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => otherwise(format!("no answer within {within:?}")),
        }
    }

    /// Asks for what stands at the root of its host, as anybody may.
    pub(crate) async fn ask_at_root(&self, path: &str) -> Result<Answer, Unmet> {
        let mut request = self.request(Method::GET, path, Bytes::new(), None)?;
        let at_the_root = Uri::builder()
            .scheme(request.uri().scheme_str().unwrap_or_default())
            .authority(request.uri().authority().map_or("", |authority| authority.as_str()))
            .path_and_query(path)
            .build();
        *request.uri_mut() = at_the_root.map_err(|_| unusable("its URL"))?;
        request.headers_mut().remove(AUTHORIZATION);
        self.send(request).await
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer, Unmet> {
        let answered = self.client.request(request.map(Full::new)).await;
        let (head, body) = match answered {
            Ok(response) => response.into_parts(),
            Err(error) if error.is_connect() => {
                return skipped(format!("the merchant is not reached: {}", root(&error)));
            }
            Err(error) => return otherwise(format!("no answer: {}", root(&error))),
        };
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| Unmet::Otherwise(format!("the answer broke off: {error}")))?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// The innermost of an error's causes: what people can act on.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An agent of which no signature is demanded: it speaks to nobody but this gateway.
fn agent() -> Option<Agent> {
    Some(Agent {
        id: AgentId::parse(AGENT)?,
        credentials: Vec::new(),
        keys: Vec::new(),
        signature: SignaturePolicy {
            required: SignatureRequired::Never,
            profiles: BTreeSet::new(),
            acp: AcpVariant::default(),
        },
        merchants: None,
        token_ceiling: Vec::new(),
        token_life: TOKEN_LIFE,
        live_tokens: 0,
        live_tokens_per_session: 0,
        requests_per_second: NonZeroU32::MIN,
        request_burst: NonZeroU32::MIN,
        kept_bytes: 0,
        default_version: None,
        traces: false,
    })
}
