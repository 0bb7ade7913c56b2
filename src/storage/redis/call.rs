//! One call to the primary of its bucket, tried again where that does no harm.
//!
//! To the primary of its bucket, again where nothing was done or doing it again does no harm, and never
//! beyond its deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, RedisResult, Value};

use super::encoding::Bucket;
use super::failure::Failure;
use super::link::jitter;
use super::script::{Input, Script};
use super::shared::Shared;
use super::usable_connection::UsableConnection;
use crate::records::StoreError;

/// Between attempts of one call: the first pause, doubled each time up to the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(100)];

/// What is asked of a server.
pub(super) enum Request<'a> {
    /// A command that changes nothing, or does no harm when it is done twice.
    Plain(&'a Cmd),
    /// A script.
    Script {
        /// Which.
        script: &'a Script,
        /// What it takes; its keys are all of one bucket.
        input: Input,
        /// Whether replicas must have what it wrote.
        waits: bool,
    },
}

/// An answer and what is known of it.
pub(super) struct Answered {
    pub(super) value: Value,
    /// Enough replicas have what was written, or none were asked for.
    pub(super) acknowledged: bool,
    /// An earlier attempt of the same call may have been carried out.
    pub(super) sent_before: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// Nothing was done.
    Unavailable,
    /// Nothing was done: no memory left.
    NoSpace,
    /// Nothing was done: the store is not the one it was.
    Changed,
    /// Nobody knows what was done.
    Unknown,
}

/// What a read that has no answer is to who asked for it.
pub(super) fn read_error(error: CallError) -> StoreError {
    match error {
        CallError::Changed => StoreError::Changed,
        CallError::Unavailable | CallError::NoSpace | CallError::Unknown => StoreError::Unavailable,
    }
}

/// What a commit that has no answer is to who asked for it.
pub(super) fn commit_error(error: CallError) -> StoreError {
    match error {
        CallError::Changed => StoreError::Changed,
        CallError::Unavailable => StoreError::Unavailable,
        CallError::NoSpace => StoreError::NoSpace,
        CallError::Unknown => StoreError::Unacknowledged,
    }
}

impl Request<'_> {
    fn command(&self, whole: bool) -> Cmd {
        match self {
            Self::Plain(command) => (*command).clone(),
            Self::Script { script, input, .. } => script.invocation(whole, input),
        }
    }
}

impl Shared {
    /// Calls the primary of `bucket`.
    pub(super) async fn call(&self, bucket: Bucket, request: &Request<'_>) -> Result<Answered, CallError> {
        let deadline = Instant::now() + self.settings.call_timeout;
        let [mut pause, longest] = PAUSE;
        let (mut whole, mut sent_before) = (false, false);
        loop {
            let failure = match self.attempt(bucket, request, whole, deadline).await {
                Ok((value, acknowledged)) => return Ok(Answered { value, acknowledged, sent_before }),
                Err(failure) => failure,
            };
            match failure {
                Failure::ScriptUnknown if !whole => {
                    whole = true;
                    continue;
                }
                Failure::ScriptUnknown | Failure::Refused => break,
                Failure::OutOfMemory => return Err(CallError::NoSpace),
                Failure::Generation => {
                    self.lose_generation();
                    return Err(CallError::Changed);
                }
                Failure::Lost => sent_before = true,
                Failure::Moved | Failure::NotNow | Failure::WritesRefused => {}
            }
            // Who asked for it learns from the next attempt whether it helped.
            if !matches!(failure, Failure::NotNow | Failure::WritesRefused) {
                let looking = tokio::time::timeout_at(deadline.into(), self.topology.refresh()).await;
                if matches!(looking, Ok(Err(_))) {
                    self.note_down();
                }
            }
            let wait = pause + jitter(pause);
            if Instant::now() + wait >= deadline {
                break;
            }
            tokio::time::sleep(wait).await;
            pause = longest.min(pause * 2);
        }
        Err(if sent_before { CallError::Unknown } else { CallError::Unavailable })
    }

    /// Calls once, for what is not worth a wait: no second attempt but for a script the server does
    /// not know.
    pub(super) async fn call_once(&self, bucket: Bucket, request: &Request<'_>) -> Option<Value> {
        let deadline = Instant::now() + self.settings.call_timeout / 4;
        match self.attempt(bucket, request, false, deadline).await {
            Ok((value, _)) => Some(value),
            Err(Failure::ScriptUnknown) => {
                self.attempt(bucket, request, true, deadline).await.ok().map(|(value, _)| value)
            }
            Err(_) => None,
        }
    }

    async fn attempt(
        &self,
        bucket: Bucket,
        request: &Request<'_>,
        whole: bool,
        deadline: Instant,
    ) -> Result<(Value, bool), Failure> {
        let map = self.topology.map();
        let link = map.owner(bucket).ok_or(Failure::Moved)?;
        let Ok(Ok(live)) = tokio::time::timeout_at(deadline.into(), link.connected()).await else {
            return Err(Failure::Moved);
        };
        let sent_at = Instant::now();
        let sending = send(Arc::clone(&live), request, whole);
        match tokio::time::timeout_at(deadline.into(), sending).await {
            Ok(Some((Ok(value), acknowledged))) => Ok((value, acknowledged)),
            Ok(Some((Err(error), _))) => {
                let failure = Failure::of(&error);
                if failure == Failure::Lost {
                    link.lost(&live);
                }
                Err(failure)
            }
            // The connections are gone.
            Ok(None) => {
                link.lost(&live);
                Err(Failure::Lost)
            }
            // It hangs, if it has not answered for so long.
            Err(_) => {
                let waits = matches!(request, Request::Script { waits: true, .. });
                if !waits && sent_at.elapsed() >= self.settings.call_timeout / 2 {
                    link.lost(&live);
                }
                Err(Failure::Lost)
            }
        }
    }
}

async fn send(
    live: Arc<UsableConnection>,
    request: &Request<'_>,
    whole: bool,
) -> Option<(RedisResult<Value>, bool)> {
    let command = request.command(whole);
    match (request, &live.groups) {
        (Request::Script { waits: true, .. }, Some(groups)) => {
            let grouped = groups.send(command).await?;
            Some((grouped.answer, grouped.acknowledged))
        }
        _ => {
            let mut connection = live.connection.clone();
            Some((connection.send_packed_command(&command).await.and_then(Value::extract_error), true))
        }
    }
}
