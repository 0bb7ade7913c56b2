//! Who takes part: agents with credentials and keys, merchants by name. As many as are asked for.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use countersign::crypto::digest::{hexadecimal, sha256};
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};

/// Cards each agent pays with in turn: few enough that no fraud rule counts a card tester.
const CARDS_EACH: usize = 40;

/// Which keys agents sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// Ed25519.
    Ed25519,
    /// ECDSA P-256.
    P256,
    /// Every second agent the one, the others the other.
    Both,
}

/// An agent.
pub struct Agent {
    /// Its name.
    pub id: String,
    /// Its bearer credential.
    pub credential: String,
    /// The key it signs with.
    pub key: SigningKey,
    /// What signatures call the key.
    pub key_id: String,
    /// The cards it pays with.
    pub cards: Vec<String>,
}

/// Everyone.
#[derive(Clone)]
pub struct Population {
    /// Agents.
    pub agents: Arc<Vec<Arc<Agent>>>,
    /// Merchants' names.
    pub merchants: Arc<Vec<String>>,
}

impl Population {
    /// Makes so many agents and merchants.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new(agents: usize, merchants: usize, keys: Keys) -> Result<Self> {
        let agents =
            (0..agents.max(1)).map(|number| agent(number, keys).map(Arc::new)).collect::<Result<_>>()?;
        let merchants = (0..merchants.max(1)).map(|number| format!("shop-{number}")).collect();
        Ok(Self { agents: Arc::new(agents), merchants: Arc::new(merchants) })
    }

    /// The same without the first agent, for when that one is not what it seems.
    #[must_use]
    pub fn but_the_first(&self) -> Self {
        let agents = self.agents.iter().skip(1).cloned().collect();
        Self { agents: Arc::new(agents), merchants: Arc::clone(&self.merchants) }
    }

    /// The agent whose turn it is.
    ///
    /// # Errors
    /// Never: there is at least one.
    pub fn agent(&self, turn: usize) -> Result<&Agent> {
        let agent = self.agents.get(turn % self.agents.len().max(1));
        agent.map(Arc::as_ref).context("there are no agents")
    }

    /// The merchant whose turn it is. Agents and merchants meet in every pairing when their numbers
    /// have no common divisor, and in most when they have.
    ///
    /// # Errors
    /// Never: there is at least one.
    pub fn merchant(&self, turn: usize) -> Result<&str> {
        let count = self.merchants.len().max(1);
        let turn = turn + turn / self.agents.len().max(1);
        self.merchants.get(turn % count).map(String::as_str).context("there are no merchants")
    }
}

fn agent(number: usize, keys: Keys) -> Result<Agent> {
    let algorithm = match keys {
        Keys::Ed25519 => Algorithm::Ed25519,
        Keys::P256 => Algorithm::EcdsaP256Sha256,
        Keys::Both if number.is_multiple_of(2) => Algorithm::Ed25519,
        Keys::Both => Algorithm::EcdsaP256Sha256,
    };
    let (key, _) = SigningKey::generate(algorithm)?;
    Ok(Agent {
        id: format!("agent-{number}"),
        credential: random::base62(32)?,
        key_id: key.public().thumbprint(),
        key,
        cards: (0..CARDS_EACH).map(|card| card_number(number * CARDS_EACH + card)).collect(),
    })
}

/// A number that passes the Luhn check, another for each `serial`.
fn card_number(serial: usize) -> String {
    let digits = format!("42{serial:013}");
    let double = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let values = digits.chars().filter_map(|c| c.to_digit(10)).enumerate();
    let sum: u32 = values.map(|(place, digit)| if place % 2 == 0 { double(digit) } else { digit }).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// A credential's digest as configurations hold it.
pub fn credential_digest(credential: &str) -> String {
    let digest = sha256(&[credential.as_bytes()]);
    format!("sha256:{}", hexadecimal(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_differ_and_pass_the_luhn_check() {
        let luhn = |number: &str| {
            let digits = number.bytes().rev().map(|byte| u32::from(byte - b'0')).enumerate();
            digits.map(|(i, d)| if i % 2 == 1 { (2 * d) / 10 + (2 * d) % 10 } else { d }).sum::<u32>() % 10
        };
        let numbers: std::collections::HashSet<String> = (0..500).map(card_number).collect();
        assert_eq!(numbers.len(), 500);
        assert!(numbers.iter().all(|number| number.len() == 16 && luhn(number) == 0));
    }

    #[test]
    fn everyone_gets_a_turn() {
        let everyone = Population::new(3, 2, Keys::Both).unwrap();
        let agents: std::collections::HashSet<&str> =
            (0..12).map(|turn| everyone.agent(turn).unwrap().id.as_str()).collect();
        let merchants: std::collections::HashSet<&str> =
            (0..12).map(|turn| everyone.merchant(turn).unwrap()).collect();
        assert_eq!((agents.len(), merchants.len()), (3, 2));
    }
}
