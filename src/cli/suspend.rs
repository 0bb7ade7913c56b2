//! `countersign suspend`, `resume` and `suspensions`: the kill switch of running gateways.

use std::io::Write;

use clap::{Args, Subcommand};
use http::Method;

use super::error::CommandError;
use super::reach::Reach;
use crate::operator::wire_suspension::{
    SuspendAnswer, SuspendRequest, SuspensionItem, SuspensionList, TokensWithdrawn,
};

/// What is stopped, or goes on.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Subject<H: Args> {
    /// Everything an agent begins.
    Agent {
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        how: H,
    },
    /// Everything begun at a merchant.
    Merchant {
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        how: H,
    },
    /// What an agent signs with one of its keys.
    Key {
        /// Its id.
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Whose it is.
        #[arg(long, allow_hyphen_values = true)]
        agent: String,
        #[command(flatten)]
        how: H,
    },
    /// What is asked with a bearer credential.
    Credential {
        /// `sha256:` and its digest, as in the configuration.
        digest: String,
        #[command(flatten)]
        how: H,
    },
    /// A card, in every token that holds it.
    #[command(group(clap::ArgGroup::new("card").required(true).args(["token", "claim"])))]
    Card {
        /// A token that holds it.
        #[arg(long)]
        token: Option<String>,
        /// A claim that was begun with it.
        #[arg(long, allow_hyphen_values = true)]
        claim: Option<String>,
        #[command(flatten)]
        how: H,
    },
    /// Everything.
    All {
        #[command(flatten)]
        how: H,
    },
}

/// How it is said, whatever is stopped.
#[derive(Args, Clone, Debug)]
pub(super) struct How {
    /// Why: kept, and never told to agents.
    #[arg(long)]
    pub why: String,
    /// It is meant, although the gateway's configuration has nothing of that name.
    #[arg(long)]
    pub not_configured: bool,
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
}

/// How a stop is said.
#[derive(Args, Clone, Debug)]
pub(super) struct HowStopped {
    /// Withdraw its live tokens as well, once every replica knows that it is stopped.
    #[arg(long)]
    pub revoke: bool,
    #[command(flatten)]
    pub how: How,
}

/// Arguments of `suspensions`.
#[derive(Args, Clone, Debug)]
pub(super) struct SuspensionsArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

impl<H: Args> Subject<H> {
    /// What is asked, how far `of` tells how.
    fn request(&self, of: impl Fn(&H) -> (&How, bool)) -> (SuspendRequest, &How) {
        let (kind, id, agent, claim, how) = match self {
            Self::Agent { id, how } => ("agent", Some(id), None, None, how),
            Self::Merchant { id, how } => ("merchant", Some(id), None, None, how),
            Self::Key { id, agent, how } => ("key", Some(id), Some(agent), None, how),
            Self::Credential { digest, how } => ("credential", Some(digest), None, None, how),
            Self::Card { token, claim, how } => ("card", token.as_ref(), None, claim.as_ref(), how),
            Self::All { how } => ("all", None, None, None, how),
        };
        let (how, revoke) = of(how);
        let request = SuspendRequest {
            kind: kind.to_owned(),
            id: id.cloned(),
            agent: agent.cloned(),
            claim: claim.cloned(),
            not_configured: how.not_configured,
            revoke,
            why: how.why.clone(),
        };
        (request, how)
    }
}

/// Stops something.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn suspend(
    subject: &Subject<HowStopped>,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let (request, how) = subject.request(|HowStopped { how, revoke }| (how, *revoke));
    act(&request, how, "/suspensions", "suspended", out).await
}

/// Lets something go on.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn resume(subject: &Subject<How>, out: &mut dyn Write) -> Result<bool, CommandError> {
    let (request, how) = subject.request(|how| (how, false));
    act(&request, how, "/suspensions/resume", "resumed", out).await
}

async fn act(
    request: &SuspendRequest,
    how: &How,
    path: &str,
    what: &str,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
    let SuspendAnswer { changed, tokens } = how.reach.admin()?.ask(Method::POST, path, Some(body)).await?;
    let already = if changed { "" } else { " already" };
    let SuspendRequest { kind, id, claim, .. } = request;
    let name = id.as_ref().or(claim.as_ref()).map_or(String::new(), |id| format!(" {id}"));
    writeln!(out, "{kind}{name}: {what}{already}")?;
    if let Some(TokensWithdrawn { revoked, at_end_of_claim, in_use }) = tokens {
        writeln!(
            out,
            "live tokens: {revoked} revoked, {at_end_of_claim} when their claims end, {in_use} whose card the \
             merchant has"
        )?;
    }
    Ok(true)
}

/// Lists what is stopped, and what was done.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn suspensions(
    arguments: &SuspensionsArgs,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let list: SuspensionList = arguments.reach.admin()?.ask(Method::GET, "/suspensions", None).await?;
    if arguments.json {
        serde_json::to_writer(&mut *out, &list).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(true);
    }
    if list.standing.is_empty() {
        writeln!(out, "nothing is suspended")?;
    }
    for (title, items) in [("suspended", &list.standing), ("done, the latest first", &list.acts)] {
        if items.is_empty() {
            continue;
        }
        writeln!(out, "{title}:")?;
        for SuspensionItem { what, kind, id, agent, why, by, at } in items {
            let id = id.as_deref().unwrap_or("");
            let whose = agent.as_ref().map_or(String::new(), |agent| format!(" of {agent}"));
            writeln!(out, "  {at}  {what} {kind} {id}{whose}, by {by}: {why}")?;
        }
    }
    Ok(true)
}
