//! The operator's API: what the admin listener serves beside metrics and health.
//!
//! | Route | What |
//! |---|---|
//! | `GET /claims` | open claims in doubt or pending; `limit`, `merchant`, `all=true` |
//! | `GET /claims/show` | what is known of a `session`, open claim or not; `merchant` |
//! | `POST /claims/resolve` | ends one by hand |
//! | `GET /suspensions` | what is stopped, and what was done |
//! | `POST /suspensions` | stops an agent, a merchant, a key, a credential, a card or all |
//! | `POST /suspensions/resume` | lets it go on |
//! | `POST /config/reload` | reads the configuration again; `try_out=true` tells what that would change |
//! | `POST /store/backup` | copies the store into a new directory |
//! | `POST /store/accept` | takes a shared store that has changed as it is now |
//! | `GET /store/replicas` | the replicas that live, and the formats that are written |
//! | `POST /store/convert` | has the newest formats written from now on |
//!
//! The public listener cannot reach it: only [`crate::server::admin`] is given it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::answers::{
    Refused, bad_query, internal, invalid, json, not_reloaded, not_resolved, of_backup, of_store, refusal,
};
use super::query;
use super::reload::{Reload, Trigger};
use super::routes::{Route, needed, route, word};
use super::switch::Switch;
use super::wire::{
    AcceptAnswer, BackupAnswer, BackupRequest, ClaimList, ConvertAnswer, ReplicaList, ResolveAnswer,
    ResolveRequest,
};
use super::wire_reload::ReloadAnswer;
use super::wire_session::SessionList;
use crate::acp::header::credential;
use crate::acp::problem::Problem;
use crate::body::{self, Content};
use crate::domain::clock::Deadline;
use crate::domain::id::{ClaimId, MerchantId, SessionId};
use crate::gateway::claims::OpenClaimsDesk;
use crate::gateway::{Desk, Withdrawals};
use crate::records::replicas::{self, Membership, NotConverted, Registered};
use crate::records::{BoxFuture, RecordStore, StoreError};
use crate::registry::{Operator, Operators, Role};
use crate::server::{Peer, Service};
use crate::storage::backup::Backup;
use crate::telemetry::log::{Identifier, Level, Value};

/// Larger than any body of this API.
const BODY_BYTES: usize = 16 * 1024;
/// For a request's whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The operator's API of one gateway.
pub(crate) struct Api {
    configured: Arc<ArcSwap<Configured>>,
    store: Arc<dyn RecordStore>,
    desk: Arc<Desk>,
    reload: Arc<dyn Reload>,
    switch: Switch,
    backup: Option<Arc<dyn Backup>>,
    membership: Arc<Membership>,
    copying: tokio::sync::Mutex<()>,
}

/// What of it a configuration decides.
#[derive(Clone)]
pub(crate) struct Configured {
    /// The open claims.
    pub claims: Arc<OpenClaimsDesk>,
    /// Withdraws tokens.
    pub withdrawals: Arc<Withdrawals>,
    /// Who may ask.
    pub operators: Operators,
}

impl Api {
    /// The API as it is configured. `backup` copies the store, where its engine can; a commit is over
    /// `written_within` this time.
    pub(crate) fn new(
        configured: Arc<ArcSwap<Configured>>,
        store: Arc<dyn RecordStore>,
        desk: Arc<Desk>,
        reload: Arc<dyn Reload>,
        backup: Option<Arc<dyn Backup>>,
        membership: Arc<Membership>,
        written_within: Duration,
    ) -> Self {
        let copying = tokio::sync::Mutex::new(());
        let switch = Switch { store: Arc::clone(&store), desk: Arc::clone(&desk), written_within };
        Self { configured, store, desk, reload, switch, backup, membership, copying }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let mut body = Content::new(&head, body);
        let served = async {
            let route = route(&head)?;
            let configured = self.configured.load_full();
            let operator = self.operator(&configured.operators, &head.headers, peer)?;
            self.refuse_unless_allowed(operator, needed(route))?;
            let operator = operator.name.clone();
            let claims = Arc::clone(&configured.claims);
            match route {
                Route::Suspensions => Ok(json(StatusCode::OK, &self.switch.list().await?)),
                Route::Suspend { resumed } => {
                    let (request, api) = (read(&mut body).await?, Arc::clone(&self));
                    // A client that leaves must not leave half of it undone.
                    let acting = async move { api.switch.act(request, resumed, &configured, operator).await };
                    let unknown =
                        |_| Err(internal("It may or may not have been done: list what is suspended."));
                    Ok(json(StatusCode::OK, &tokio::spawn(acting).await.unwrap_or_else(unknown)?))
                }
                Route::Reload => self.read_again(head.uri.query().unwrap_or_default(), operator).await,
                Route::Claims => self.claims(&claims, head.uri.query().unwrap_or_default()).await,
                Route::Show => self.show(&claims, head.uri.query().unwrap_or_default()).await,
                Route::Resolve => self.resolve(claims, read(&mut body).await?, operator).await,
                Route::Backup => self.back_up(read(&mut body).await?, operator).await,
                Route::Accept => self.accept(operator).await,
                Route::Replicas => self.replicas().await,
                Route::Convert => self.convert(operator).await,
            }
        };
        let mut response = served.await.unwrap_or_else(refusal);
        body.finish(response.headers_mut(), BODY_BYTES).await;
        response
    }

    /// Who presents a credential.
    fn operator<'o>(
        &self,
        operators: &'o Operators,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<&'o Operator, Refused> {
        if operators.is_empty() {
            return Err(invalid(
                StatusCode::FORBIDDEN,
                "operator_api_disabled",
                "No operator is configured: add [[admin.operators]] to the gateway's configuration.",
            ));
        }
        let presented = credential(headers).ok().flatten();
        presented.and_then(|credential| operators.by_credential(credential.expose())).ok_or_else(|| {
            let observer = &self.desk.observer;
            observer.metrics().refused("operator_unauthorized");
            let mut fields = vec![("peer", Value::Address(peer.ip()))];
            if presented.is_some_and(|credential| operators.with_line_end(credential.expose()).is_some()) {
                // The digest that is configured is not of the credential alone.
                fields.push(("line_end", Value::Flag(true)));
            }
            observer.log().event(Level::Warn, "operator_refused", &fields);
            Refused { allow: None, problem: Box::new(Problem::unauthorized()) }
        })
    }

    fn refuse_unless_allowed(&self, operator: &Operator, needed: Role) -> Result<(), Refused> {
        if operator.may(needed) {
            return Ok(());
        }
        let observer = &self.desk.observer;
        observer.metrics().refused("operator_role");
        let mut fields = vec![("role", Value::Text(word(needed)))];
        fields.extend(Identifier::parse(&operator.name).map(|name| ("operator", Value::Id(name))));
        observer.log().event(Level::Warn, "operator_lacks_role", &fields);
        let message = match needed {
            Role::All => "This takes the role \"all\" in [[admin.operators]].".to_owned(),
            one => format!("This takes the role \"{}\" or \"all\" in [[admin.operators]].", word(one)),
        };
        let problem = Problem::invalid_request(StatusCode::FORBIDDEN, "operator_role_required", message);
        Err(Refused { allow: None, problem: Box::new(problem) })
    }

    async fn claims(&self, claims: &OpenClaimsDesk, query: &str) -> Result<Response<Full<Bytes>>, Refused> {
        let found = claims.open_claims(&query::claims(query).map_err(bad_query)?).await.map_err(of_store)?;
        Ok(json(StatusCode::OK, &ClaimList::from(found)))
    }

    async fn show(&self, claims: &OpenClaimsDesk, query: &str) -> Result<Response<Full<Bytes>>, Refused> {
        let (merchant, session) = query::session(query).map_err(bad_query)?;
        let known = claims.known_sessions(merchant.as_ref(), &session).await.map_err(of_store)?;
        if known.is_empty() {
            return Err(invalid(
                StatusCode::NOT_FOUND,
                "checkout_session_not_found",
                "There is no such checkout session at the merchants that are configured.",
            ));
        }
        Ok(json(StatusCode::OK, &SessionList::from(known)))
    }

    async fn resolve(
        self: &Arc<Self>,
        claims: Arc<OpenClaimsDesk>,
        request: ResolveRequest,
        operator: String,
    ) -> Result<Response<Full<Bytes>>, Refused> {
        let unreadable = |param: &str| {
            let problem = Problem::invalid_request(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_body",
                "This is not an id: 1 to 128 characters of A-Z a-z 0-9 . _ ~ - are.",
            );
            Refused { allow: None, problem: Box::new(problem.with_param(param)) }
        };
        let merchant = MerchantId::parse(&request.merchant).ok_or_else(|| unreadable("$.merchant"))?;
        let session = SessionId::parse(&request.checkout_session_id)
            .ok_or_else(|| unreadable("$.checkout_session_id"))?;
        let claim = ClaimId::parse(&request.claim).ok_or_else(|| unreadable("$.claim"))?;
        // A client that leaves must not leave half of it undone.
        let resolving = tokio::spawn(async move {
            let evidence = request.evidence.into();
            claims.resolve_claim(&merchant, &session, &claim, evidence, &operator).await
        });
        let resolved = match resolving.await {
            Ok(resolved) => resolved.map_err(|why| not_resolved(&why, self.desk.clock.steady()))?,
            Err(_) => return Err(internal("The claim may or may not have been resolved: list it again.")),
        };
        Ok(json(
            StatusCode::OK,
            &ResolveAnswer {
                claim: request.claim,
                evidence: request.evidence,
                resolved_now: resolved.now,
                token_status: resolved.token.map(|standing| standing.as_str().to_owned()),
            },
        ))
    }

    /// Reads the configuration again.
    async fn read_again(
        self: &Arc<Self>,
        query: &str,
        operator: String,
    ) -> Result<Response<Full<Bytes>>, Refused> {
        let try_out = query::try_out(query).map_err(bad_query)?;
        let api = Arc::clone(self);
        // A client that leaves must not leave half of it undone.
        let reloading =
            tokio::spawn(async move { api.reload.reload(Trigger::Operator(&operator), try_out).await });
        let changes = match reloading.await {
            Ok(outcome) => outcome.map_err(|why| not_reloaded(&why))?,
            Err(_) => return Err(internal("The configuration may or may not have been replaced.")),
        };
        Ok(json(StatusCode::OK, &ReloadAnswer::of(changes, try_out)))
    }

    async fn back_up(
        self: &Arc<Self>,
        request: BackupRequest,
        operator: String,
    ) -> Result<Response<Full<Bytes>>, Refused> {
        let Some(backup) = self.backup.clone() else {
            return Err(invalid(
                StatusCode::NOT_IMPLEMENTED,
                "not_supported",
                "This store is backed up by its own engine's means.",
            ));
        };
        let directory = PathBuf::from(&request.directory);
        if !directory.is_absolute() {
            return Err(invalid(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_body",
                "The directory must be an absolute path on the gateway's machine.",
            ));
        }
        // Two at once would only read the store twice.
        let Ok(_copying) = self.copying.try_lock() else {
            return Err(invalid(
                StatusCode::CONFLICT,
                "backup_under_way",
                "A backup is being made: wait until it is there.",
            ));
        };
        let drain = self.desk.drain.clone();
        let copying =
            tokio::task::spawn_blocking(move || backup.copy_to(&directory, &|| !drain.is_draining()));
        let copied = match copying.await {
            Ok(copied) => copied.map_err(|error| of_backup(&error))?,
            Err(_) => return Err(internal("The backup failed; nothing was left in the directory.")),
        };
        let mut fields = vec![
            ("records", Value::Number(copied.records)),
            ("bytes", Value::Number(copied.bytes)),
            ("took", Value::Duration(copied.took)),
        ];
        fields.extend(Identifier::parse(&operator).map(|name| ("operator", Value::Id(name))));
        self.desk.observer.log().event(Level::Info, "store_backed_up", &fields);
        Ok(json(
            StatusCode::CREATED,
            &BackupAnswer {
                directory: request.directory,
                records: copied.records,
                bytes: copied.bytes,
                milliseconds: u64::try_from(copied.took.as_millis()).unwrap_or(u64::MAX),
            },
        ))
    }

    /// Takes the store as it is: what it has lost stays lost.
    async fn accept(self: &Arc<Self>, operator: String) -> Result<Response<Full<Bytes>>, Refused> {
        let store = Arc::clone(&self.store);
        // A client that leaves must not leave half of it undone.
        let accepting = tokio::spawn(async move { store.accept().await });
        accepting.await.unwrap_or(Err(StoreError::Unacknowledged)).map_err(of_store)?;
        let name = Identifier::parse(&operator).map(|name| ("operator", Value::Id(name)));
        let fields: Vec<_> = name.into_iter().collect();
        self.desk.observer.log().event(Level::Warn, "store_accepted", &fields);
        Ok(json(StatusCode::OK, &AcceptAnswer { accepted: true }))
    }

    async fn replicas(&self) -> Result<Response<Full<Bytes>>, Refused> {
        let now = self.desk.clock.steady();
        // Where nobody else can be, nobody says every few seconds that they are.
        if self.store.is_exclusive() {
            let _ = self.membership.renew(now).await;
        }
        let registry = replicas::look(&*self.store, now).await.map_err(of_store)?;
        Ok(json(StatusCode::OK, &ReplicaList::of(registry)))
    }

    /// Has the newest formats written: the operator says that no release lives that could not read them.
    async fn convert(self: &Arc<Self>, operator: String) -> Result<Response<Full<Bytes>>, Refused> {
        let (membership, now) = (Arc::clone(&self.membership), self.desk.clock.steady());
        // A client that leaves must not leave half of it undone.
        let converting = tokio::spawn(async move { membership.convert(now).await });
        let converted = converting.await.unwrap_or(Err(StoreError::Unacknowledged.into()));
        let Registered { written, turned } = converted.map_err(|why| match why {
            NotConverted::Store(error) => of_store(error),
            NotConverted::StillRead(_) => invalid(
                StatusCode::CONFLICT,
                "older_replicas_live",
                "Replicas live that read older formats only: replace them first, and see who lives.",
            ),
        })?;
        let mut fields = vec![("written", Value::Number(written.number().into()))];
        fields.extend(Identifier::parse(&operator).map(|name| ("operator", Value::Id(name))));
        self.desk.observer.log().event(Level::Info, "store_converted", &fields);
        Ok(json(StatusCode::OK, &ConvertAnswer { written: written.number(), converted_now: turned }))
    }
}

impl Service for Api {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Full<Bytes>>> {
        Box::pin(self.answer(request, peer))
    }
}

async fn read<T: DeserializeOwned>(body: &mut Content) -> Result<T, Refused> {
    let bytes =
        body::collect(body, BODY_BYTES, Deadline::after(BODY_TIMEOUT), |_| Ok(())).await.map_err(|_| {
            invalid(StatusCode::BAD_REQUEST, "invalid_body", "The body is too large, too slow or incomplete.")
        })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        // Its words may repeat what was sent: only the place is told.
        let place = format!("The body is not the JSON expected here (column {}).", error.column());
        Refused {
            allow: None,
            problem: Box::new(Problem::invalid_request(StatusCode::BAD_REQUEST, "invalid_body", place)),
        }
    })
}
