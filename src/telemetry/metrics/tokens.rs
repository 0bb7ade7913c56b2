//! What is told of tokens, and of the servers that hold the keys of their security codes.

use super::Metrics;

impl Metrics {
    /// A token was minted, claimed, redeemed, consumed, released, revoked, …
    pub fn token_event(&self, event: &'static str) {
        self.token_events.add_one([event]);
    }

    /// How many tokens are in a state.
    pub fn set_tokens(&self, state: &'static str, count: u64) {
        self.tokens.set([state], count);
    }

    /// A server of hourly keys is another process than it was.
    pub fn epoch_node_restarted(&self) {
        self.epoch_node_restarts.inc();
    }

    /// How many live tokens have lost their security code with such a server.
    pub fn set_codes_lost(&self, count: u64) {
        self.codes_lost.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
