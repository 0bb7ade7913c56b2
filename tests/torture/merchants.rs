//! The merchants: sample shops that charge whatever they are asked to charge.
//!
//! One honouring idempotency keys, one honouring them too late and the others ignoring them, one of which
//! comes and goes, and how they misbehave.

use std::time::Duration;

use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Change, Shop};

use crate::dice::Dice;
use crate::facts::Charge;

/// How long the gateway waits for a merchant's answer: the shortest there is, for the sake of time,
/// plus what a busy machine needs.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Longer than the gateway waits.
pub const TOO_LONG: Duration = Duration::from_secs(3);

/// The merchant that honours idempotency keys.
pub const KEYED: &str = "keyed";

/// The merchant that ignores idempotency keys: what reaches it twice it charges for twice.
pub const KEYLESS: &str = "keyless";

/// As that one, by HTTP/2 with few streams a connection, and redeeming with client certificates.
pub const NARROW: &str = "narrow";
/// The streams of its connections.
pub const STREAMS: u32 = 8;

/// As the one that ignores keys, and every three seconds it is gone for three.
pub const FLAPPING: &str = "flapping";

/// As that one, while a standby that lags behind it can be read.
pub const DOUBLED: &str = "doubled";

/// The merchant that is said to honour idempotency keys, and takes note of one only with its answer:
/// what reaches it again while it is at work it charges for again.
pub const LATE: &str = "late";
/// Of a hundred of its completes, so many take longer than the gateway waits.
const SLOW_COMPLETES: u64 = 25;

/// A merchant.
pub struct Merchant {
    /// Its id at the gateway.
    pub id: &'static str,
    /// The merchant itself.
    pub shop: Shop,
}

impl Merchant {
    /// Perhaps spoils the next call of a kind, so many times in a hundred.
    pub fn misbehave(&self, kind: CallKind, percent: u64, dice: &mut Dice) {
        let is_slow = self.id == LATE && kind == CallKind::Complete && percent > 0;
        let behaviour = if is_slow && dice.chance(SLOW_COMPLETES) {
            Behaviour::Delay(TOO_LONG)
        } else if dice.chance(percent) {
            self.mischief(kind, dice)
        } else {
            Behaviour::Good
        };
        self.shop.behave_once(kind, behaviour);
    }

    /// One of the ways in which a merchant can make it hard to tell what has happened. It never lies:
    /// an answer that denies a charge it has made is beyond any gateway.
    fn mischief(&self, kind: CallKind, dice: &mut Dice) -> Behaviour {
        let mut ways = mischief(kind);
        if !honours_keys(self.id) && kind == CallKind::Complete {
            // Where keys are honoured, 421 says that nothing was done.
            ways.push(Behaviour::After(Canned::html(421)));
        }
        dice.pick(&ways).clone()
    }

    /// The ledger.
    pub fn charges(&self) -> Vec<Charge> {
        let charges = self.shop.charges().into_iter();
        charges
            .map(|charge| Charge {
                merchant: self.id.to_owned(),
                session: charge.session,
                token: charge.token,
                amount: charge.amount,
                currency: charge.currency,
                order: charge.order,
            })
            .collect()
    }
}

/// Whether operators say of it that it honours idempotency keys.
pub fn honours_keys(id: &str) -> bool {
    [KEYED, LATE].contains(&id)
}

fn mischief(kind: CallKind) -> Vec<Behaviour> {
    let mut common = vec![
        // What stands in front of the merchant, and knows nothing of it.
        Behaviour::Instead(Canned::html(404)),
        Behaviour::Instead(Canned::html(431)),
        Behaviour::Instead(Canned::html(421)),
        Behaviour::ResetBefore,
        Behaviour::ResetAfter,
        Behaviour::Instead(Canned::status(503)),
        Behaviour::Changed(Change::Truncated),
        Behaviour::Delay(Duration::from_millis(200)),
    ];
    if kind != CallKind::Read {
        common.extend([Behaviour::After(Canned::status(500)), Behaviour::Instead(Canned::status(500))]);
    }
    if kind == CallKind::Complete {
        common.extend([
            // It begins when nobody waits any more.
            Behaviour::Delay(TOO_LONG),
            // It has charged, and its answer takes too long.
            Behaviour::Changed(Change::Dripping(Duration::from_millis(500))),
            Behaviour::ResetAfter,
            Behaviour::After(Canned::status(502)),
            Behaviour::After(Canned::status(408)),
            Behaviour::After(Canned::redirect(303)),
            Behaviour::After(Canned::html(200)),
            Behaviour::After(Canned::html(404)),
            Behaviour::After(Canned::html(413)),
            Behaviour::After(Canned::html(400)),
            Behaviour::Changed(Change::OtherSession),
            Behaviour::Changed(Change::ConflictingTotals),
            Behaviour::Instead(Canned::status(402)),
            Behaviour::Instead(Canned::too_many_requests(1)),
            Behaviour::Instead(Canned::redirect(307)),
            Behaviour::DeclineUnseen,
            Behaviour::PendingApproval,
            Behaviour::RedeemMore(1),
        ]);
    }
    common
}
