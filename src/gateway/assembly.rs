//! Which flow is handed what: the one place where all of them are put together.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::admit::{Admission, LineEnds};
use super::availability::Availability;
use super::claim::Claims;
use super::claims::OpenClaimsDesk;
use super::complete::Completes;
use super::delegate::Mints;
use super::doubt::Doubts;
use super::events::Events;
use super::evidence::Evidence;
use super::mutate::Mutations;
use super::parts::{Books, Desk, Identities};
use super::publish::Published;
use super::reconcile::Worker;
use super::redeem::Redemptions;
use super::replays::Replays;
use super::risk::Risk;
use super::session_reads::SessionReads;
use super::sessions::Sessions;
use super::store_scan::StoreScanner;
use super::token_view::Tokens;
use super::upstreams::Upstreams;
use super::withdrawals::Withdrawals;
use crate::auth::signature::Company;
use crate::limit::breaker::Breakers;
use crate::limit::{Concurrency, Limits};
use crate::merchant::{Countersigner, Merchants};
use crate::token::Vault;

/// What a gateway is made of.
pub(crate) struct Parts {
    /// Who is who, and every key of ours.
    pub identities: Identities,
    /// What is written down; the same for as long as the process runs.
    pub books: Arc<Books>,
    /// What is told and asked; the same for as long as the process runs.
    pub desk: Arc<Desk>,
    /// Cards.
    pub vault: Vault,
    /// Signs grants.
    pub countersigner: Arc<Countersigner>,
    /// Towards merchants.
    pub merchants: Merchants,
    /// Requests under way.
    pub concurrency: Concurrency,
    /// Which merchants can be asked.
    pub breakers: Breakers,
    /// Rates.
    pub limits: Limits,
    /// Risk rules.
    pub fraud: crate::fraud::Settings,
    /// How `delegate_payment` is read.
    pub delegate: crate::acp::Settings,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// The time for a whole body.
    pub body_timeout: Duration,
}

impl Gateway {
    /// Puts the flows together. What the gateway `before` this one knows of sessions that are read is
    /// kept: one of them at a time is read, and at its pace, whichever configuration asks.
    pub(crate) fn new(parts: Parts, before: Option<&Self>) -> Self {
        let Parts { identities, books, desk, vault, countersigner, merchants, concurrency, .. } = parts;
        let merchants = Arc::new(merchants);
        let (identities, vault) = (Arc::new(identities), Arc::new(vault));
        let reads = before.map_or_else(SessionReads::default, |before| before.reads.clone());
        let availability = Arc::new(Availability {
            breakers: parts.breakers,
            merchants: Arc::clone(&merchants),
            desk: Arc::clone(&desk),
        });
        let upstreams = Arc::new(Upstreams {
            merchants,
            concurrency,
            availability: Arc::clone(&availability),
            reads: reads.clone(),
            books: Arc::clone(&books),
            desk: Arc::clone(&desk),
        });
        let events =
            Arc::new(Events { books: Arc::clone(&books), reads: reads.clone(), desk: Arc::clone(&desk) });
        let evidence = Arc::new(Evidence { books: Arc::clone(&books), events: Arc::clone(&events) });
        let replays = Arc::new(Replays { books: Arc::clone(&books), desk: Arc::clone(&desk) });
        let risk =
            Arc::new(Risk { settings: parts.fraud, books: Arc::clone(&books), desk: Arc::clone(&desk) });
        let admission = Arc::new(Admission {
            identities: Arc::clone(&identities),
            limits: parts.limits,
            company: Company::new(Arc::clone(desk.observer.metrics())),
            line_ends: LineEnds::default(),
            body_bytes: parts.body_bytes,
            body_timeout: parts.body_timeout,
            desk: Arc::clone(&desk),
        });
        let sessions = Arc::new(Sessions {
            books: Arc::clone(&books),
            upstreams: Arc::clone(&upstreams),
            replays: Arc::clone(&replays),
            evidence: Arc::clone(&evidence),
            events: Arc::clone(&events),
            desk: Arc::clone(&desk),
        });
        let claims = Arc::new(Claims {
            books: Arc::clone(&books),
            upstreams: Arc::clone(&upstreams),
            desk: Arc::clone(&desk),
        });
        let tokens = Arc::new(Tokens {
            books: Arc::clone(&books),
            replays: Arc::clone(&replays),
            events: Arc::clone(&events),
            desk: Arc::clone(&desk),
        });
        let doubts = Doubts {
            upstreams: Arc::clone(&upstreams),
            evidence: Arc::clone(&evidence),
            replays: Arc::clone(&replays),
            claims: Arc::clone(&claims),
            desk: Arc::clone(&desk),
        };
        let withdrawals = Arc::new(Withdrawals {
            books: Arc::clone(&books),
            events: Arc::clone(&events),
            desk: Arc::clone(&desk),
        });
        Self {
            withdrawals,
            published: Published { identities: Arc::clone(&identities) },
            completes: Arc::new(Completes {
                identities: Arc::clone(&identities),
                books: Arc::clone(&books),
                upstreams: Arc::clone(&upstreams),
                replays: Arc::clone(&replays),
                sessions: Arc::clone(&sessions),
                doubts,
                risk: Arc::clone(&risk),
                claims,
                events: Arc::clone(&events),
            }),
            mutations: Arc::new(Mutations {
                identities: Arc::clone(&identities),
                books: Arc::clone(&books),
                upstreams: Arc::clone(&upstreams),
                replays: Arc::clone(&replays),
                sessions: Arc::clone(&sessions),
                events,
                desk: Arc::clone(&desk),
            }),
            mints: Arc::new(Mints {
                identities: Arc::clone(&identities),
                books: Arc::clone(&books),
                replays: Arc::clone(&replays),
                risk,
                vault: Arc::clone(&vault),
                countersigner,
                settings: parts.delegate,
                desk: Arc::clone(&desk),
            }),
            redemptions: Arc::new(Redemptions {
                identities: Arc::clone(&identities),
                books: Arc::clone(&books),
                upstreams: Arc::clone(&upstreams),
                replays,
                admission: Arc::clone(&admission),
                tokens: Arc::clone(&tokens),
                vault: Arc::clone(&vault),
                desk: Arc::clone(&desk),
            }),
            worker: Arc::new(Worker {
                identities: Arc::clone(&identities),
                books: Arc::clone(&books),
                upstreams: Arc::clone(&upstreams),
                evidence: Arc::clone(&evidence),
                scanner: StoreScanner {
                    identities: Arc::clone(&identities),
                    books: Arc::clone(&books),
                    vault: Arc::clone(&vault),
                    desk: Arc::clone(&desk),
                },
                vault,
                desk: Arc::clone(&desk),
            }),
            open_claims: Arc::new(OpenClaimsDesk {
                identities,
                books: Arc::clone(&books),
                evidence,
                desk: Arc::clone(&desk),
            }),
            admission,
            sessions,
            tokens,
            reads,
            upstreams,
            availability,
            desk,
        }
    }
}
