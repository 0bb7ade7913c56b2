//! `countersign claims`: open claims as a table, what is known of one session, and ending a claim by hand.

use std::io::Write;

use clap::{Args, Subcommand};
use http::Method;

use super::error::CommandError;
use super::reach::Reach;
use crate::operator::wire::{ClaimItem, ClaimList, EvidenceWord, ResolveAnswer, ResolveRequest};
use crate::operator::wire_session::{GivenUpItem, SessionItem, SessionList, TokenItem, TotalItem};

/// What can be done about open claims.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum ClaimsVerb {
    /// List the claims that are in doubt or pending.
    List(ListArgs),
    /// Show what is known of a session, its claims that have ended included.
    Show(ShowArgs),
    /// End one by hand, after asking the merchant whether it charged.
    Resolve(ResolveArgs),
}

/// Arguments of `claims list`.
#[derive(Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Of this merchant only.
    #[arg(long, allow_hyphen_values = true)]
    pub merchant: Option<String>,
    /// Also claims that only wait for the merchant's first answer.
    #[arg(long)]
    pub all: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `claims show`.
#[derive(Args, Clone, Debug)]
pub(super) struct ShowArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// The checkout session.
    #[arg(long, allow_hyphen_values = true)]
    pub session: String,
    /// At this merchant only; otherwise at every one that has a session of that id.
    #[arg(long, allow_hyphen_values = true)]
    pub merchant: Option<String>,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `claims resolve`.
#[derive(Args, Clone, Debug)]
pub(super) struct ResolveArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// The merchant.
    #[arg(long, allow_hyphen_values = true)]
    pub merchant: String,
    /// Its checkout session.
    #[arg(long, allow_hyphen_values = true)]
    pub session: String,
    /// The claim, as listed.
    #[arg(long, allow_hyphen_values = true)]
    pub claim: String,
    /// What the merchant says.
    #[command(flatten)]
    pub evidence: EvidenceArgs,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// What an operator knows of a claim: exactly one.
#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct EvidenceArgs {
    /// It charged: the token is consumed, the session completed.
    #[arg(long)]
    pub charged: bool,
    /// It did not and will not: the token is free again.
    #[arg(long)]
    pub not_charged: bool,
}

/// Runs `claims`. Whether there was nothing wrong.
///
/// # Errors
/// [`CommandError`].
pub(super) async fn claims(verb: &ClaimsVerb, out: &mut dyn Write) -> Result<bool, CommandError> {
    match verb {
        ClaimsVerb::List(arguments) => list(arguments, out).await,
        ClaimsVerb::Show(arguments) => show(arguments, out).await,
        ClaimsVerb::Resolve(arguments) => resolve(arguments, out).await,
    }
}

async fn list(arguments: &ListArgs, out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut path = format!("/claims?limit={}&all={}", arguments.limit, arguments.all);
    if let Some(merchant) = &arguments.merchant {
        push_id(&mut path, "&merchant=", merchant);
    }
    let found: ClaimList = arguments.reach.admin()?.ask(Method::GET, &path, None).await?;
    if arguments.json {
        write_json(&found, out)?;
    } else {
        write_table(&found, out)?;
    }
    Ok(true)
}

/// What is no id is refused by the gateway; here it only must not become another parameter.
fn push_id(path: &mut String, name: &str, id: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
    path.push_str(name);
    path.extend(id.chars().map(|c| if plain(c) { c } else { '!' }));
}

async fn show(arguments: &ShowArgs, out: &mut dyn Write) -> Result<bool, CommandError> {
    let mut path = String::from("/claims/show");
    push_id(&mut path, "?session=", &arguments.session);
    if let Some(merchant) = &arguments.merchant {
        push_id(&mut path, "&merchant=", merchant);
    }
    let found: SessionList = arguments.reach.admin()?.ask(Method::GET, &path, None).await?;
    if arguments.json {
        write_json(&found, out)?;
        return Ok(true);
    }
    for session in &found.sessions {
        write_session(session, out)?;
    }
    writeln!(out, "\nThe log tells the rest: its lines have \"session\":\"{}\".", arguments.session)?;
    Ok(true)
}

fn write_session(item: &SessionItem, out: &mut dyn Write) -> std::io::Result<()> {
    let SessionItem { merchant, checkout_session_id, agent, state, created_at, .. } = item;
    writeln!(out, "session {checkout_session_id} at {merchant}, of agent {agent}: {state}")?;
    writeln!(out, "  first seen {created_at}")?;
    if let Some(TotalItem { amount, currency, at }) = &item.total {
        writeln!(out, "  total {amount} {currency}, told {at}")?;
    }
    if let Some(claim) = &item.charged_by {
        writeln!(out, "  charged by claim {claim}")?;
    }
    if item.orders > 0 {
        writeln!(out, "  orders shown by the merchant: {}", item.orders)?;
    }
    if let Some(GivenUpItem { claim, token }) = &item.given_up {
        let token = token.as_ref().map_or(String::new(), |token| format!(", of token {token}"));
        writeln!(out, "  given up in doubt: claim {claim}{token}")?;
    }
    if let Some(claim) = &item.claim {
        let token = claim.token.as_ref().map_or(String::new(), |token| format!(", of token {token}"));
        writeln!(out, "  open claim {}: {} {}{token}", claim.claim, claim.amount, claim.currency)?;
        writeln!(out, "    {}", claim.why)?;
        writeln!(
            out,
            "    opened {}, sent {}x, session read {}x, next {}",
            claim.opened_at, claim.attempts, claim.checks, claim.next_check_at
        )?;
    }
    for TokenItem { token, status, expires_at, attempts } in &item.tokens {
        writeln!(out, "  token {token}: {status}, expires {expires_at}, {attempts} attempts used")?;
    }
    if item.mutations_under_way > 0 {
        writeln!(out, "  updates and cancels under way: {}", item.mutations_under_way)?;
    }
    for (what, came) in [("complete", &item.last_complete), ("read", &item.last_read)] {
        if let Some(came) = came {
            writeln!(out, "  last {what} without a result: {came}")?;
        }
    }
    Ok(())
}

fn write_table(found: &ClaimList, out: &mut dyn Write) -> std::io::Result<()> {
    if found.claims.is_empty() {
        return writeln!(out, "no claim is in doubt or pending");
    }
    let head = ["STATE", "AGE", "MERCHANT", "SESSION", "CLAIM", "AMOUNT", "CARD", "AGENT"];
    let rows: Vec<[String; 8]> = found.claims.iter().map(row).collect();
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut write_row = |cells: [&str; 8]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    write_row(head)?;
    for row in &rows {
        write_row(row.each_ref().map(String::as_str))?;
    }
    writeln!(out)?;
    for item in &found.claims {
        let awaited = item.awaited_until.as_ref().map(|until| format!(", until {until}"));
        writeln!(
            out,
            "{} {}: {}{}; opened {}, sent {}x, session read {}x, next {}{}",
            item.merchant,
            item.checkout_session_id,
            item.why,
            awaited.unwrap_or_default(),
            item.opened_at,
            item.attempts,
            item.checks,
            item.next_check_at,
            item.token.as_ref().map_or(String::new(), |token| format!("; token {token}")),
        )?;
    }
    if found.more {
        writeln!(out, "there are more: raise --limit")?;
    }
    writeln!(
        out,
        "\nAsk the merchant whether it charged, then:\n  countersign claims resolve --config FILE --merchant M --session S --claim C --charged|--not-charged"
    )
}

fn row(item: &ClaimItem) -> [String; 8] {
    [
        item.state.clone(),
        age(item.age_seconds),
        item.merchant.clone(),
        item.checkout_session_id.clone(),
        item.claim.clone(),
        format!("{} {}", item.amount, item.currency),
        if item.redeemed { "redeemed" } else { "-" }.to_owned(),
        item.agent.clone(),
    ]
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

async fn resolve(arguments: &ResolveArgs, out: &mut dyn Write) -> Result<bool, CommandError> {
    let evidence = if arguments.evidence.charged { EvidenceWord::Charged } else { EvidenceWord::NotCharged };
    let request = ResolveRequest {
        merchant: arguments.merchant.clone(),
        checkout_session_id: arguments.session.clone(),
        claim: arguments.claim.clone(),
        evidence,
    };
    let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
    let answer: ResolveAnswer =
        arguments.reach.admin()?.ask(Method::POST, "/claims/resolve", Some(body)).await?;
    if arguments.json {
        write_json(&answer, out)?;
        return Ok(true);
    }
    let word = match answer.evidence {
        EvidenceWord::Charged => "charged",
        EvidenceWord::NotCharged => "not charged",
    };
    let when = if answer.resolved_now { "is resolved" } else { "had been resolved before" };
    let token = answer.token_status.map_or(String::new(), |status| format!("; its token is {status}"));
    writeln!(out, "claim {} {when}: {word}{token}", answer.claim)?;
    Ok(true)
}

fn write_json(value: &impl serde::Serialize, out: &mut dyn Write) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(std::io::Error::from)?;
    writeln!(out)
}
