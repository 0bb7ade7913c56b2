//! What a signature proves if an equation holds.
//!
//! It stands between reading a signature, which is done in order, and the curve, which is computed
//! alone or with others'.

use super::company::{Company, Sender};
use super::error::{SignatureError, SignatureRefusal};
use crate::crypto::ed25519::Equation;

/// Proven if an equation holds, or without one; all else has been checked. What is proven cannot be
/// had without it.
#[must_use]
pub struct Conditional<T> {
    proven: T,
    equation: Option<Equation>,
}

impl<T> Conditional<T> {
    /// Proven if this holds, where there is one.
    pub(super) const fn on(equation: Option<Equation>, proven: T) -> Self {
        Self { proven, equation }
    }

    /// What else is proven with it.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Conditional<U> {
        Conditional { proven: change(self.proven), equation: self.equation }
    }

    /// Computes what is left, alone.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] where it does not hold.
    pub fn alone(self) -> Result<T, SignatureRefusal> {
        let holds = self.equation.is_none_or(|equation| equation.holds());
        if holds { Ok(self.proven) } else { Err(SignatureError::Invalid.into()) }
    }

    /// Computes what is left, with others' where there are any.
    ///
    /// # Errors
    /// As [`Self::alone`].
    pub(crate) async fn in_company(
        self,
        company: &Company,
        sender: Sender<'_>,
    ) -> Result<T, SignatureRefusal> {
        let holds = match self.equation {
            Some(equation) => company.judge(equation, sender).await,
            None => true,
        };
        if holds { Ok(self.proven) } else { Err(SignatureError::Invalid.into()) }
    }
}

impl<T> Conditional<Option<T>> {
    /// Whether it is proof of anything, should it hold.
    pub(super) const fn counts(&self) -> bool {
        self.proven.is_some()
    }
}
