//! Views of bodies: what the gateway must understand of them, and no more. The bytes themselves
//! travel on as they came; nothing here is ever written back in their place.

use std::borrow::Cow;

pub mod complete;
pub mod delegate_payment;
mod fields;
pub mod json;
pub mod redeem;
pub mod session;
pub mod syntax;
mod walk;
pub mod write_only;

/// Why a request body cannot be used. Holds no byte of it but names of members that may be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// Which kind of fault.
    pub fault: Fault,
    /// What is wrong, in words of our own.
    pub message: Cow<'static, str>,
    /// Where: an RFC 9535 JSONPath made of known names alone.
    pub param: String,
}

/// The two kinds of fault a body can have (`src/acp/README.md`, "Errors").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its shape is not what the schema says: 400.
    Structural,
    /// Its shape is right and its meaning is not: 422.
    Semantic,
}

impl WireError {
    fn structural(message: impl Into<Cow<'static, str>>, param: impl Into<String>) -> Self {
        Self { fault: Fault::Structural, message: message.into(), param: param.into() }
    }

    fn semantic(message: impl Into<Cow<'static, str>>, param: impl Into<String>) -> Self {
        Self { fault: Fault::Semantic, message: message.into(), param: param.into() }
    }
}

/// All that is wrong with a body, so that it is mended in one go: faults of shape before those of
/// meaning, each kind in the schema's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The one that decides the answer.
    pub first: WireError,
    /// The others, few enough to be told.
    pub more: Vec<WireError>,
    /// Whether there are still others.
    pub cut: bool,
}

impl Mistakes {
    /// The most that are told.
    pub const TOLD: usize = 10;
}

impl From<WireError> for Mistakes {
    fn from(first: WireError) -> Self {
        Self { first, more: Vec::new(), cut: false }
    }
}

/// The mistakes found so far in a body.
#[derive(Default)]
struct Found(Vec<WireError>);

impl Found {
    /// What was read, or nothing and one mistake more.
    fn take<T>(&mut self, read: Result<T, WireError>) -> Option<T> {
        read.map_err(|mistake| self.add(mistake)).ok()
    }

    /// A body may consist of mistakes: no more are kept than are told, and one that says there are more.
    fn add(&mut self, mistake: WireError) {
        let alike = self.0.iter().filter(|known| known.fault == mistake.fault).count();
        if alike <= Mistakes::TOLD {
            self.0.push(mistake);
        }
    }

    /// All of them; none where the body is right.
    fn mistakes(mut self) -> Option<Mistakes> {
        self.0.sort_by_key(|mistake| mistake.fault == Fault::Semantic);
        let cut = self.0.len() > Mistakes::TOLD;
        self.0.truncate(Mistakes::TOLD);
        let mut all = self.0.into_iter();
        Some(Mistakes { first: all.next()?, more: all.collect(), cut })
    }
}
