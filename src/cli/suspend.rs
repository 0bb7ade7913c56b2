//! `countersign suspend`, `resume` and `suspensions`: the kill switch of running gateways.

use std::io::Write;

use clap::{Args, ValueEnum};
use http::Method;

use super::error::CommandError;
use super::reach::Reach;
use crate::operator::wire_suspension::{SuspendAnswer, SuspendRequest, SuspensionItem, SuspensionList};

/// What can be stopped.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Everything an agent begins.
    Agent,
    /// Everything begun at a merchant.
    Merchant,
    /// What an agent signs with one of its keys: `--agent`.
    Key,
    /// What is asked with a credential: `sha256:` and its digest, as in the configuration.
    Credential,
    /// A card, named by a token that holds it: `--token`.
    Card,
    /// Everything.
    All,
}

/// Arguments of `suspend` and `resume`.
#[derive(Args, Clone, Debug)]
pub(super) struct SuspendArgs {
    /// What.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Which.
    #[arg(allow_hyphen_values = true)]
    pub id: Option<String>,
    /// Whose, of a key.
    #[arg(long, allow_hyphen_values = true)]
    pub agent: Option<String>,
    /// A token that holds the card.
    #[arg(long, conflicts_with = "id")]
    pub token: Option<String>,
    /// Why: kept, and never told to agents.
    #[arg(long)]
    pub why: String,
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
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

/// Stops something, or lets it go on.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn suspend(
    arguments: &SuspendArgs,
    resumed: bool,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let kind = match arguments.kind {
        Kind::Agent => "agent",
        Kind::Merchant => "merchant",
        Kind::Key => "key",
        Kind::Credential => "credential",
        Kind::Card => "card",
        Kind::All => "all",
    };
    let request = SuspendRequest {
        kind: kind.to_owned(),
        id: arguments.id.clone().or_else(|| arguments.token.clone()),
        agent: arguments.agent.clone(),
        why: arguments.why.clone(),
    };
    let path = if resumed { "/suspensions/resume" } else { "/suspensions" };
    let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
    let SuspendAnswer { changed } = arguments.reach.admin()?.ask(Method::POST, path, Some(body)).await?;
    let what = if resumed { "resumed" } else { "suspended" };
    let what = if changed { what.to_owned() } else { format!("{what} already") };
    writeln!(out, "{kind} {}: {what}", request.id.as_deref().unwrap_or_default())?;
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
    for (title, items) in [("suspended", &list.standing), ("done, the latest first", &list.acts)] {
        writeln!(out, "{title}:")?;
        for SuspensionItem { what, kind, id, agent, why, by, at } in items {
            let id = id.as_deref().unwrap_or("");
            let whose = agent.as_ref().map_or(String::new(), |agent| format!(" of {agent}"));
            writeln!(out, "  {at}  {what} {kind} {id}{whose}, by {by}: {why}")?;
        }
    }
    Ok(true)
}
