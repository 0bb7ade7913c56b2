//! Merchants that open claims need as they are, when another configuration is to take the place of what runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::Changes;
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;
use crate::gateway::Gateway;
use crate::gateway::claims::{ClaimQuery, OpenClaim};
use crate::records::RecordStore;
use crate::records::replicas::{self, Membership, Replica};
use crate::registry::{Merchant, Registry};

/// Open claims looked at for who is still needed.
const CLAIMS: usize = 20_000;
/// What a replica says of the merchants that are retired where it runs.
const RETIRED: &str = "retired";

/// What a reload does to a merchant that an open claim there would notice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// Nobody could ask it what became of a claim.
    Gone,
    /// What became of a claim would be judged by another rule.
    OtherIdempotency,
    /// A claim would be looked for where it is not, unless its record says where it is.
    Moved,
}

impl Harm {
    fn of(old: &Merchant, new: Option<&Merchant>) -> Option<Self> {
        let Some(new) = new else { return Some(Self::Gone) };
        if new.idempotency != old.idempotency {
            return Some(Self::OtherIdempotency);
        }
        (!new.endpoint.base_urls().eq(old.endpoint.base_urls())).then_some(Self::Moved)
    }

    const fn refusal(self) -> &'static str {
        match self {
            Self::Gone => "cannot go",
            Self::OtherIdempotency => "cannot have another `idempotency`",
            Self::Moved => "cannot have another `base_url`",
        }
    }

    /// Whether this claim stands in the way.
    fn is_felt_by(self, open: &OpenClaim) -> bool {
        match self {
            Self::Gone | Self::OtherIdempotency => true,
            Self::Moved => open.session.places.claim.is_none(),
        }
    }
}

/// Who may begin claims, and where they are found.
pub(super) struct MerchantsNeeded<'a> {
    pub gateway: &'a Gateway,
    pub store: &'a dyn RecordStore,
    pub membership: &'a Arc<Membership>,
    /// Whether other processes work on the same store.
    pub is_shared: bool,
    pub now: Timestamp,
}

impl MerchantsNeeded<'_> {
    /// Why merchants cannot go or change so, one reason a line.
    pub(super) async fn reasons_against(
        &self,
        before: &Registry,
        after: &Registry,
        changes: &Changes,
    ) -> Vec<String> {
        let touched = changes.merchants.removed.iter().chain(&changes.merchants.changed);
        let harm: HashMap<MerchantId, Harm> = touched
            .filter_map(|name| {
                let id = MerchantId::parse(name)?;
                let harm = Harm::of(before.merchant(&id)?, after.merchant(&id).map(|one| &**one))?;
                Some((id, harm))
            })
            .collect();
        if harm.is_empty() {
            return Vec::new();
        }
        let mut reasons = if self.is_shared { self.what_others_may_begin(&harm).await } else { Vec::new() };
        if reasons.is_empty() {
            reasons = self.what_is_open(&harm).await;
        }
        reasons.sort();
        reasons
    }

    /// Another process begins claims by what it has read itself.
    async fn what_others_may_begin(&self, harm: &HashMap<MerchantId, Harm>) -> Vec<String> {
        let others = match replicas::look(self.store, self.now).await {
            Ok(Some(registry)) if !registry.awaits_operator => registry.replicas,
            Ok(_) => return vec!["nobody knows which other replicas may begin claims".to_owned()],
            Err(error) => {
                return vec![format!("nobody knows which other replicas may begin claims: {error}")];
            }
        };
        let others: Vec<&Replica> =
            others.iter().filter(|replica| replica.id != self.membership.id()).collect();
        let may_begin = |id: &MerchantId, harm: Harm| match harm {
            Harm::Gone => others.iter().any(|other| !says_retired(other, id)),
            Harm::OtherIdempotency => true,
            Harm::Moved => others.iter().any(|other| !other.writes_newest()),
        };
        let standing = harm.iter().filter(|(id, harm)| may_begin(id, **harm));
        standing
            .map(|(id, harm)| {
                let refusal = harm.refusal();
                let until = match harm {
                    Harm::Gone => "until every replica has it `retired = true`",
                    Harm::OtherIdempotency => {
                        "while other replicas may work on the store: stop all of them for it"
                    }
                    Harm::Moved => "until every replica notes where a claim is: `countersign store replicas`",
                };
                format!("merchants: \"{id}\" {refusal} {until}")
            })
            .collect()
    }

    async fn what_is_open(&self, harm: &HashMap<MerchantId, Harm>) -> Vec<String> {
        let mut reasons = Vec::new();
        for (id, harm) in harm {
            // Of this merchant alone: others' claims are not read, however many there are.
            let every = ClaimQuery { merchant: Some(id.clone()), under_way: true, limit: CLAIMS };
            let (count, is_all) = match self.gateway.open_claims.open_claims(&every).await {
                Ok(open) => (open.claims.iter().filter(|open| harm.is_felt_by(open)).count(), !open.more),
                Err(error) => return vec![format!("nobody knows which claims are open: {error}")],
            };
            let refusal = harm.refusal();
            if count > 0 {
                reasons
                    .push(format!("merchants: \"{id}\" {refusal} while claims are open there: {count} now"));
            } else if !is_all {
                reasons.push(format!(
                    "merchants: \"{id}\" {refusal}: more claims are open than can be looked at"
                ));
            }
        }
        reasons
    }
}

/// The other replicas are told which merchants are retired here, or have gone since they were; `known` are
/// those that they were told of before.
pub(super) fn say_retired(registry: &Registry, known: &mut BTreeSet<MerchantId>, membership: &Membership) {
    known
        .extend(registry.merchants().filter(|merchant| merchant.retired).map(|merchant| merchant.id.clone()));
    known.retain(|id| registry.merchant(id).is_none_or(|merchant| merchant.retired));
    membership.say(RETIRED, known.iter().map(ToString::to_string).collect());
}

/// Whether no claim is begun there by this replica.
fn says_retired(replica: &Replica, id: &MerchantId) -> bool {
    replica.facts.get(RETIRED).is_some_and(|ids| ids.iter().any(|retired| retired == id.as_str()))
}
