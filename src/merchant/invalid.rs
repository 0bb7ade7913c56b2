//! What of a merchant's answer is no use, in words for the log and for the agent: never a byte of it.

use super::exchange::{Answer, Exchange};
use crate::acp::wire::session::{OrderView, SessionStatus, SessionView};
use crate::domain::id::SessionId;

/// What of a merchant's answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// Its status is one that what stands in front of a merchant answers by itself, and its body is no
    /// error of a merchant's.
    NotTheMerchants,
    /// It is a success and no JSON.
    NotJson,
    /// It is JSON and no object, or an object that repeats a member.
    NotAnObject,
    /// It has no id, or one that could not be asked for.
    NoId,
    /// It is about another session.
    OtherSession,
    /// Its order is none, or another session's.
    Order,
    /// Its status is none of ACP's.
    UnknownStatus,
    /// The session had to be read, and that was refused.
    ReadRefused,
    /// It cannot be told what of it is at fault.
    NoSession,
}

impl InvalidAnswer {
    /// What of a success that should show a session, this one where it is known, cannot be used.
    pub fn of_session(answer: &Answer, session: Option<&SessionId>) -> Self {
        if !answer.status.is_success() {
            return Self::ReadRefused;
        }
        let Some(body) = answer.json() else { return Self::NotJson };
        let Ok(view) = SessionView::of(body) else { return Self::NotAnObject };
        match (&view.id, session) {
            (None, _) => Self::NoId,
            (Some(id), Some(session)) if id != session => Self::OtherSession,
            _ if view.order == OrderView::Unreadable => Self::Order,
            _ if view.status == SessionStatus::Unknown => Self::UnknownStatus,
            _ => Self::NoSession,
        }
    }

    /// The same of what came of asking.
    pub fn of_exchange(exchange: &Exchange, session: Option<&SessionId>) -> Self {
        exchange.answer().map_or(Self::NoSession, |answer| Self::of_session(answer, session))
    }

    /// Whether the merchant answered, and it cannot be read what. Its refusal can.
    pub fn is_unreadable(self) -> bool {
        self != Self::ReadRefused
    }

    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTheMerchants => "not_the_merchants",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NoId => "no_id",
            Self::OtherSession => "other_session",
            Self::Order => "order_unreadable",
            Self::UnknownStatus => "unknown_status",
            Self::ReadRefused => "read_refused",
            Self::NoSession => "no_session",
        }
    }

    /// What the agent is told of it.
    pub const fn told(self) -> &'static str {
        match self {
            Self::NotTheMerchants => "What stands in front of the merchant answered in its place",
            Self::NotJson => "The merchant's answer is not JSON",
            Self::NotAnObject => "The merchant's answer is no JSON object, or repeats a member",
            Self::NoId => "The merchant's answer has no id that could be asked for",
            Self::OtherSession => "The merchant's answer is about another session",
            Self::Order => "The order in the merchant's answer is none, or another session's",
            Self::UnknownStatus => "The session in the merchant's answer has no status that ACP defines",
            Self::ReadRefused => "The merchant refused to show the session, which had to be read first",
            Self::NoSession => "The merchant's answer shows no such session",
        }
    }
}
