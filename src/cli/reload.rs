//! `countersign reload` and `diff`: a running gateway reads its configuration again, or tries it out.

use std::io::Write;

use clap::Args;
use http::Method;

use super::error::CommandError;
use super::reach::Reach;
use crate::operator::wire_reload::{EntryNames, ReloadAnswer};

/// Arguments of `reload` and `diff`.
#[derive(Args, Clone, Debug)]
pub(super) struct ReloadArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// Has the configuration read again, or `try_out`: asks what that would change.
///
/// # Errors
/// [`CommandError`]; where the gateway refuses, with each of its reasons.
pub(super) async fn reload(
    arguments: &ReloadArgs,
    try_out: bool,
    out: &mut dyn Write,
) -> Result<bool, CommandError> {
    let path = format!("/config/reload?try_out={try_out}");
    let answer: ReloadAnswer = arguments.reach.admin()?.ask(Method::POST, &path, None).await?;
    if arguments.json {
        serde_json::to_writer(&mut *out, &answer).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(true);
    }
    writeln!(out, "{}", answer.outcome.replace('_', " "))?;
    write_entries("agents", &answer.agents, out)?;
    write_entries("merchants", &answer.merchants, out)?;
    for merchant in &answer.retired {
        writeln!(out, "  merchant {merchant} takes no new purchases")?;
    }
    for table in &answer.tables {
        writeln!(out, "  ~ [{table}]")?;
    }
    Ok(true)
}

fn write_entries(list: &str, names: &EntryNames, out: &mut dyn Write) -> Result<(), CommandError> {
    let EntryNames { added, removed, changed } = names;
    for (sign, names) in [("+", added), ("-", removed), ("~", changed)] {
        for name in names {
            writeln!(out, "  {sign} {list} {name}")?;
        }
    }
    Ok(())
}
