//! Reads `[[agents]]`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::document::Section;
use super::keys::party_keys;
use super::parties::Parties;
use super::settings::MOST_KEPT;
use super::values::{bytes, choice, count, duration, flag, id, money_by_currency, shown, version};
use crate::domain::id::{AgentId, MerchantId};
use crate::registry::{
    AcpVariant, Agent, BodyForm, Encoding, KeyMaterial, Profile, SignaturePolicy, SignatureRequired,
    SignedParts, TimestampForm,
};
use crate::token::LONGEST_LIFE;

/// A day: long enough for a checkout that waits for approval, short enough that what leaks ages.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A shorter life could end before the checkout it was minted for.
const SHORTEST_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Live tokens of an agent: what a busy platform mints in a minute, not what a stolen credential
/// could mint in a day.
const LIVE_TOKENS: u32 = 10_000;
/// Live tokens of one session: a first card, two retries and a change of mind.
const LIVE_TOKENS_PER_SESSION: u32 = 5;
/// Bytes kept for an agent off the money routes: a quarter of a million requests and answers of 4 KiB in
/// the day they are kept.
const KEPT_BYTES: u64 = 1 << 30;
const REQUESTS_PER_SECOND: u32 = 100;
const REQUEST_BURST: u32 = 200;

/// Reads one agent.
pub(super) fn agent(section: &mut Section<'_>, parties: &mut Parties<'_>) -> Option<Agent> {
    let id = section.required("id", |value| {
        parties.note_agent(value);
        let id = id(AgentId::parse)(value)?;
        parties.take_id("agents", id.as_str(), value.line)?;
        Ok(id)
    });
    let credentials =
        section.list("credentials", |value| parties.agent_credential(value)).unwrap_or_default();
    if section.lacks("credentials") {
        section.wrong("credentials", "at least one is needed, such as [\"sha256:…\"]");
    }
    let keys = party_keys(section, parties.sources);
    let has_keys = !section.lacks("keys");
    let signature = section.table("signature", |section| signature_policy(section, has_keys));
    let only_shared =
        !keys.is_empty() && keys.iter().all(|key| matches!(key.material, KeyMaterial::Shared(_)));
    if only_shared && signature.profiles == BTreeSet::from([Profile::Rfc9421]) {
        section.wrong("keys", "\"rfc9421\", the only profile allowed here, takes public keys only");
    }
    let token_life = section.or("token_life", TOKEN_LIFE, duration(SHORTEST_TOKEN_LIFE, LONGEST_LIFE));
    if token_life > TOKEN_LIFE {
        section.warn(
            "token_life",
            format!("above {}: a stolen token stays usable for longer", shown(TOKEN_LIFE)),
        );
    }
    let live_tokens = section.or("live_tokens", LIVE_TOKENS, count(1, 10_000_000));
    let live_tokens_per_session =
        section.or("live_tokens_per_session", LIVE_TOKENS_PER_SESSION, count(1, 1000));
    if live_tokens_per_session > live_tokens {
        section.wrong("live_tokens_per_session", "must not be above `live_tokens`");
    }
    let merchants = merchants(section, parties);
    let token_ceiling = money_by_currency(section, "token_ceiling");
    let requests_per_second = rate(section, "requests_per_second", REQUESTS_PER_SECOND);
    let request_burst = rate(section, "request_burst", REQUEST_BURST);
    let kept_bytes = section.or("kept_bytes", KEPT_BYTES, bytes(64 << 10, MOST_KEPT));
    let default_version = section.optional("default_version", version);
    let traces = section.or("traces", false, flag);
    Some(Agent {
        id: id?,
        credentials,
        keys,
        signature,
        merchants,
        token_ceiling,
        token_life,
        live_tokens,
        live_tokens_per_session,
        requests_per_second,
        request_burst,
        kept_bytes,
        default_version: default_version.map(|version| version.as_str().to_owned()),
        traces,
    })
}

/// A number of requests.
pub(super) fn rate(section: &mut Section<'_>, key: &'static str, default: u32) -> NonZeroU32 {
    section.or(key, NonZeroU32::new(default).unwrap_or(NonZeroU32::MIN), |value| {
        let number: u32 = count(1, 1_000_000)(value)?;
        NonZeroU32::new(number).ok_or_else(|| "must be at least 1".into())
    })
}

fn merchants(section: &mut Section<'_>, parties: &Parties<'_>) -> Option<BTreeSet<MerchantId>> {
    let listed = section.list("merchants", |value| parties.merchant(value))?;
    if listed.is_empty() {
        section.wrong("merchants", "lists no merchant; leave the key out to allow every merchant");
    }
    Some(listed.into_iter().collect())
}

fn signature_policy(section: &mut Section<'_>, has_keys: bool) -> SignaturePolicy {
    const REQUIRED: [(&str, SignatureRequired); 3] = [
        ("always", SignatureRequired::Always),
        ("money-routes", SignatureRequired::MoneyRoutes),
        ("never", SignatureRequired::Never),
    ];
    let required = section.or("required", SignatureRequired::MoneyRoutes, choice(&REQUIRED));
    let profiles = profiles(section);
    let described = section.has("acp");
    let acp = section.table("acp", acp_variant);
    if described && !profiles.contains(&Profile::Acp) {
        section.wrong("acp", "has no effect: \"acp\" is not among `profiles`");
    }
    match (required, !has_keys) {
        (SignatureRequired::Always | SignatureRequired::MoneyRoutes, true) => section.wrong(
            "required",
            "signatures are required but the agent has no key: add [[agents.keys]], or set \"never\"",
        ),
        (SignatureRequired::Never, true) => {
            section.warn("required", "bearer only: whoever holds the credential can spend");
        }
        (SignatureRequired::Never, false) => {
            section.warn("required", "signatures are not required: whoever holds the credential can spend");
        }
        (SignatureRequired::Always | SignatureRequired::MoneyRoutes, false) => {}
    }
    SignaturePolicy { required, profiles, acp }
}

fn profiles(section: &mut Section<'_>) -> BTreeSet<Profile> {
    let names =
        [Profile::Rfc9421, Profile::AcpBound, Profile::Acp].map(|profile| (profile.as_str(), profile));
    let listed = section.list("profiles", choice(&names));
    if !section.has("profiles") {
        return BTreeSet::from([Profile::Rfc9421, Profile::AcpBound]);
    }
    // Where the list is wrong, nothing else is said about what it allows.
    let Some(listed) = listed else { return names.map(|(_, p)| p).into() };
    if listed.is_empty() {
        section.wrong("profiles", "lists no profile");
    }
    if listed.contains(&Profile::Acp) {
        section.warn("profiles", "\"acp\" signatures bind neither method nor path: prefer \"acp-bound\"");
    }
    listed.into_iter().collect()
}

fn acp_variant(section: &mut Section<'_>) -> AcpVariant {
    const SIGNED: [(&str, SignedParts); 3] = [
        ("timestamp-body", SignedParts::TimestampBody),
        ("body", SignedParts::Body),
        ("timestamp-method-path-body", SignedParts::TimestampMethodPathBody),
    ];
    const BODY: [(&str, BodyForm); 2] = [("canonical", BodyForm::Canonical), ("raw", BodyForm::Raw)];
    const ENCODING: [(&str, Encoding); 3] =
        [("base64", Encoding::Base64), ("base64url", Encoding::Base64Url), ("hex", Encoding::Hex)];
    const TIMESTAMP: [(&str, TimestampForm); 2] =
        [("rfc3339", TimestampForm::Rfc3339), ("unix-seconds", TimestampForm::UnixSeconds)];
    let default = AcpVariant::default();
    AcpVariant {
        signed: section.or("signed", default.signed, choice(&SIGNED)),
        body: section.or("body", default.body, choice(&BODY)),
        encoding: section.or("encoding", default.encoding, choice(&ENCODING)),
        timestamp: section.or("timestamp", default.timestamp, choice(&TIMESTAMP)),
    }
}
