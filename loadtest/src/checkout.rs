//! A whole checkout, live, each step signed when it is sent.
//!
//! Created, read, paid for with a token minted for it, each step signed when it is sent, as an agent does
//! it.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::acp::{Session, complete, create, get, mint, text};
use crate::connection::{Connection, Target};
use crate::merchant::{Call, Ledger, TOTAL};
use crate::outcome::{Charge, Done};
use crate::population::Population;
use crate::request::{Draft, Proof, Style};

/// Requests in one checkout.
pub const STEPS: usize = 4;

/// Who buys where.
pub struct Checkout {
    /// Where the proxy is.
    pub target: Target,
    /// Agents and merchants.
    pub everyone: Population,
    /// Which of them.
    pub turn: usize,
    /// How the agent signs.
    pub style: Style,
}

impl Checkout {
    /// Buys.
    ///
    /// # Errors
    /// When a step is not answered as it must be.
    pub async fn perform(&self, connection: &mut Connection) -> Result<Done> {
        let merchant = self.everyone.merchant(self.turn)?.to_owned();
        let created = self.step(connection, create(&merchant), 201).await?;
        let id = text(&created, "/id")?;
        let agent = self.turn % self.everyone.agents.len().max(1);
        let session = Session { agent, merchant, id, token: None };
        let read = self.step(connection, get(&session.merchant, &session.id), 200).await?;
        if text(&read, "/status")? != "ready_for_payment" {
            bail!("{} cannot be paid", session.id);
        }
        let draft = mint(self.everyone.agent(agent)?, self.turn, &session, TOTAL);
        let token = text(&self.step(connection, draft, 201).await?, "/id")?;
        let draft = complete(&session.merchant, &session.id, &token);
        let body = Ledger::digest(&draft.body);
        let paid = self.step(connection, draft, 200).await?;
        if text(&paid, "/order/checkout_session_id")? != session.id {
            bail!("{} has another session's order", session.id);
        }
        let charge = Some(Charge { session: session.id, body });
        Ok(Done { status: 200, charge, reached: vec![Call::Create, Call::Get, Call::Complete] })
    }

    async fn step(&self, connection: &mut Connection, draft: Draft, status: u16) -> Result<Value> {
        let agent = self.everyone.agent(self.turn)?;
        let what = format!("{} {}", draft.method, draft.path);
        let request = draft.sign(agent, &self.target.authority, Proof::Key(self.style))?;
        let answer = connection.send(&self.target.write(&request)?).await?;
        if answer.status != status {
            bail!("{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}
