//! The kill switch: an operator stops somebody, or lets them go on, on every replica.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::Configured;
use super::answers::{Refused, invalid, of_store};
use super::wire_suspension::{SuspendAnswer, SuspendRequest, SuspensionList, TokensWithdrawn, named};
use crate::acp::problem::Problem;
use crate::crypto::digest::Sha256;
use crate::domain::clock::Deadline;
use crate::domain::id::{AgentId, ClaimId, KeyId, MerchantId, TokenId};
use crate::gateway::Desk;
use crate::gateway::claims::OpenClaimsDesk;
use crate::records::suspensions::{self, Act, Subject};
use crate::records::{RecordStore, replicas};
use crate::telemetry::log::{Identifier, Level, Value, holds_card_number};

/// The longest reason, in bytes.
const WHY: usize = 500;
/// By when every replica knows what is stopped: longer than one that has ended silently is taken to live.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at what they know.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Stops and resumes.
pub(super) struct Switch {
    pub store: Arc<dyn RecordStore>,
    pub desk: Arc<Desk>,
    /// What was decided before a stop was known is written within this time, or never: it is looked for after
    /// that.
    pub written_within: Duration,
}

impl Switch {
    /// What is stopped, and what was done.
    pub(super) async fn list(&self) -> Result<SuspensionList, Refused> {
        Ok(suspensions::known_with_history(&*self.store).await.map_err(of_store)?.into())
    }

    /// Stops something, or lets it go on.
    pub(super) async fn act(
        &self,
        request: SuspendRequest,
        resumed: bool,
        configured: &Configured,
        operator: String,
    ) -> Result<SuspendAnswer, Refused> {
        refuse_unreadable(&request, resumed)?;
        let claims = &*configured.claims;
        let subject = match self.standing_card(&request, resumed).await? {
            Some(standing) => standing,
            None => subject(&request, claims).await?,
        };
        self.refuse_misspelt(&request, &subject, resumed, claims).await?;
        let why = request.why.trim();
        let at = self.desk.clock.now();
        let act = Act { subject: subject.clone(), resumed, why: why.to_owned(), by: operator.clone(), at };
        let changed = suspensions::act(&*self.store, act).await.map_err(of_store)?.ok_or_else(|| {
            invalid(
                StatusCode::CONFLICT,
                "too_many_suspensions",
                "As much is suspended as the list holds: resume some, or suspend all.",
            )
        })?;
        // Here at once; the other replicas read it within a second.
        let known = self.desk.suspended.read_list().await;
        let (kind, id, agent) = named(&subject);
        let mut fields = vec![
            ("what", Value::Text(if resumed { "resumed" } else { "suspended" })),
            ("kind", Value::Text(kind)),
            ("changed", Value::Flag(changed)),
            ("why", Value::Message(why.to_owned())),
        ];
        let ids = [("id", id.as_deref()), ("agent", agent.as_deref()), ("operator", Some(&operator))];
        for (name, id) in ids {
            fields.extend(id.and_then(Identifier::parse).map(|id| (name, Value::Id(id))));
        }
        self.desk.observer.log().event(Level::Error, "suspension", &fields);
        if !request.revoke {
            return Ok(SuspendAnswer { changed, tokens: None });
        }
        known.map_err(of_store)?;
        let tokens = self.withdraw(&subject, configured, &operator).await?;
        Ok(SuspendAnswer { changed, tokens: Some(tokens) })
    }

    /// Withdraws the live tokens of what stands.
    async fn withdraw(
        &self,
        subject: &Subject,
        configured: &Configured,
        operator: &str,
    ) -> Result<TokensWithdrawn, Refused> {
        // Before that a replica could mint behind who withdraws.
        self.known_everywhere().await?;
        let settled = Deadline::after(self.written_within);
        let sweep = || configured.withdrawals.withdraw_all_of(subject);
        let first = sweep().await.map_err(of_store)?;
        tokio::time::sleep_until(settled.instant().into()).await;
        let last = sweep().await.map_err(of_store)?;
        let tokens = TokensWithdrawn {
            revoked: first.now + last.now,
            at_end_of_claim: last.at_end_of_claim,
            in_use: last.in_use,
        };
        let (kind, id, _) = named(subject);
        let mut fields = vec![
            ("kind", Value::Text(kind)),
            ("revoked", Value::Number(tokens.revoked)),
            ("at_end_of_claim", Value::Number(tokens.at_end_of_claim)),
            ("in_use", Value::Number(tokens.in_use)),
        ];
        for (name, id) in [("id", id.as_deref()), ("operator", Some(operator))] {
            fields.extend(id.and_then(Identifier::parse).map(|id| (name, Value::Id(id))));
        }
        self.desk.observer.log().event(Level::Warn, "tokens_revoked", &fields);
        Ok(tokens)
    }

    /// Waits until every replica that lives knows what is stopped.
    async fn known_everywhere(&self) -> Result<(), Refused> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let registry = replicas::look(&*self.store, self.desk.clock.steady()).await.map_err(of_store)?;
        if registry.is_none_or(|registry| registry.awaits_operator) {
            return Err(invalid(
                StatusCode::CONFLICT,
                "replicas_unaware",
                "It is suspended, and nothing was revoked: replicas of releases that do not say what they know \
                 may live. Once none does, `countersign store convert`, then ask again.",
            ));
        }
        let number = suspensions::known(&*self.store).await.map_err(of_store)?.number;
        let patience = Deadline::after(KNOWN_WITHIN);
        loop {
            let now = self.desk.clock.steady();
            let unaware = suspensions::unaware(&*self.store, number, now).await.map_err(of_store)?;
            if unaware.is_empty() {
                return Ok(());
            }
            if patience.has_passed() {
                let ids: Vec<String> = unaware.iter().map(|replica| format!("{:016x}", replica.id)).collect();
                let message = format!(
                    "It is suspended, and nothing was revoked: these replicas do not say that they know it: {}. \
                     Ask again.",
                    ids.join(", ")
                );
                let problem = Problem::invalid_request(StatusCode::CONFLICT, "replicas_unaware", message);
                return Err(Refused { allow: None, problem: Box::new(problem) });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Switch {
    /// Nobody must believe that a name is stopped, or goes on, which is nobody's.
    async fn refuse_misspelt(
        &self,
        request: &SuspendRequest,
        subject: &Subject,
        resumed: bool,
        claims: &OpenClaimsDesk,
    ) -> Result<(), Refused> {
        if request.not_configured || claims.is_configured(subject) {
            return Ok(());
        }
        // Whose entry has gone since may go on.
        if resumed && suspensions::known(&*self.store).await.map_err(of_store)?.holds(subject) {
            return Ok(());
        }
        Err(invalid(
            StatusCode::NOT_FOUND,
            "not_configured",
            "This gateway's configuration has nothing of that name. If it is meant all the same, say so: \
             --not-configured, or \"not_configured\": true.",
        ))
    }

    /// A card that stands under the token it was named by, which may have ended since.
    async fn standing_card(
        &self,
        request: &SuspendRequest,
        resumed: bool,
    ) -> Result<Option<Subject>, Refused> {
        if !resumed || request.kind != "card" || request.id.is_none() {
            return Ok(None);
        }
        let standing = suspensions::known(&*self.store).await.map_err(of_store)?.standing;
        let is_it = |subject: &Subject| named(subject).1 == request.id;
        Ok(standing
            .into_iter()
            .map(|standing| standing.subject)
            .filter(|one| named(one).0 == "card")
            .find(is_it))
    }
}

/// What cannot be meant, whatever exists.
fn refuse_unreadable(request: &SuspendRequest, resumed: bool) -> Result<(), Refused> {
    let is_card = request.kind == "card";
    if request.revoke && resumed {
        return Err(unreadable("What goes on keeps its tokens.", "$.revoke"));
    }
    if request.revoke && ["key", "credential"].contains(&request.kind.as_str()) {
        return Err(unreadable(
            "Tokens do not tell by what they were minted: suspend the agent.",
            "$.revoke",
        ));
    }
    if request.agent.is_some() && request.kind != "key" {
        return Err(unreadable("Only a key is of an agent.", "$.agent"));
    }
    if request.claim.is_some() && !is_card {
        return Err(unreadable("Only a card is named by a claim.", "$.claim"));
    }
    if is_card && request.id.is_some() == request.claim.is_some() {
        return Err(unreadable("A card is named by a token that holds it, or by a claim.", "$.id"));
    }
    let why = request.why.trim();
    if why.is_empty() || why.len() > WHY {
        return Err(unreadable("A reason is needed, of at most 500 bytes.", "$.why"));
    }
    // It is kept and shown, where no card may be.
    if holds_card_number(why) {
        return Err(unreadable("The reason holds what may be a card number: say it without.", "$.why"));
    }
    Ok(())
}

async fn subject(request: &SuspendRequest, claims: &OpenClaimsDesk) -> Result<Subject, Refused> {
    let id = request.id.as_deref().unwrap_or_default();
    let not_an = |expected: &'static str| move || unreadable(expected, "$.id");
    match request.kind.as_str() {
        "agent" => {
            let no_id = not_an("This is no id of an agent.");
            Ok(Subject::Agent { id: AgentId::parse(id).ok_or_else(no_id)? })
        }
        "merchant" => {
            let no_id = not_an("This is no id of a merchant.");
            Ok(Subject::Merchant { id: MerchantId::parse(id).ok_or_else(no_id)? })
        }
        "key" => {
            let agent = request.agent.as_deref().and_then(AgentId::parse);
            let agent = agent.ok_or_else(|| unreadable("Whose key it is is needed.", "$.agent"))?;
            let no_id = not_an("This is no id of a key.");
            Ok(Subject::Key { agent, id: KeyId::parse(id).ok_or_else(no_id)? })
        }
        "credential" => {
            let no_digest = not_an(
                "This is no credential's digest: `sha256:` and 64 hexadecimal digits, as in the configuration.",
            );
            Ok(Subject::Credential { digest: digest(id).ok_or_else(no_digest)? })
        }
        "card" => {
            let token = match &request.claim {
                Some(claim) => token_of(claim, claims).await?,
                None => TokenId::parse_minted(id).ok_or_else(not_an("This is no id of a token."))?,
            };
            let fingerprint =
                claims.card_of_token(&token).await.map_err(of_store)?.ok_or_else(|| {
                    invalid(StatusCode::NOT_FOUND, "token_unknown", "There is no such token.")
                })?;
            Ok(Subject::Card { token, fingerprint })
        }
        "all" if request.id.is_none() => Ok(Subject::All),
        _ => Err(unreadable(
            "Expected agent, merchant, key, credential or card with an id, or all without one.",
            "$.kind",
        )),
    }
}

async fn token_of(claim: &str, claims: &OpenClaimsDesk) -> Result<TokenId, Refused> {
    let id = ClaimId::parse(claim).ok_or_else(|| unreadable("This is no id of a claim.", "$.claim"))?;
    claims.token_of_claim(&id).await.map_err(of_store)?.ok_or_else(|| {
        invalid(
            StatusCode::NOT_FOUND,
            "claim_unknown",
            "There is no such claim that is open or has charged a token: name a token.",
        )
    })
}

/// `sha256:` and 64 hexadecimal digits, as credentials stand in the configuration.
fn digest(text: &str) -> Option<Sha256> {
    let hex = text.strip_prefix("sha256:")?;
    let mut digest = Sha256::default();
    if hex.len() != digest.len() * 2 {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn unreadable(message: &'static str, param: &'static str) -> Refused {
    let mut refused = invalid(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", message);
    refused.problem = Box::new((*refused.problem).with_param(param));
    refused
}
