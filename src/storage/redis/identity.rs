//! What the store remembers about itself, and its generation.
//!
//! One word in every bucket that each script checks. When a server comes back empty, or from somewhere
//! else, the word is missing or another, and no money moves until an operator has looked and accepted the
//! store as it is.

use redis::Value;

use super::call::{CallError, Request};
use super::encoding::{Bucket, identity_key};
use super::shared::Shared;
use crate::crypto::digest::hexadecimal;
use crate::crypto::random;

/// Characters of a generation: 130 random bits.
const GENERATION_CHARS: usize = 22;
/// The first, which every release reads, and the one since records of formats were written that older
/// releases do not read: those refuse the store when they start.
const FORMATS: [&str; 2] = ["1", "2"];
/// Rounds in which two processes that make a store at once agree on one.
const ROUNDS: usize = 8;

/// What a store is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct StoreIdentity {
    /// Key of the tags that name partitions.
    pub(super) tag_key: [u8; 32],
    /// The word in every bucket.
    pub(super) generation: String,
    /// Every bucket has the word.
    pub(super) complete: bool,
    /// Releases that read only the first format of all are to refuse it.
    is_newer: bool,
}

/// Sets the identity, if it is what it was.
const EXCHANGE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('SET', KEYS[1], ARGV[2]) end";

/// Why a store cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It does not answer.
    #[error("the store does not answer")]
    Unreachable,
    /// It is there in part.
    #[error(
        "the store has lost what it remembers about itself, but not everything: \
         restore it from a backup, or empty it to begin anew"
    )]
    Lost,
    /// There is none, though there was one.
    #[error("the store is empty, but this gateway has used one before")]
    Gone,
    /// A newer program made it, or somebody changed it.
    #[error("the store was made by a newer program, or its identity was changed")]
    Unreadable,
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] random::RandomUnavailable),
}

impl From<CallError> for IdentityError {
    fn from(_: CallError) -> Self {
        Self::Unreachable
    }
}

impl StoreIdentity {
    fn draw() -> Result<Self, random::RandomUnavailable> {
        let generation = random::base62(GENERATION_CHARS)?;
        Ok(Self { tag_key: random::bytes()?, generation, complete: false, is_newer: false })
    }

    fn write(&self) -> String {
        let tag_key: String = hexadecimal(&self.tag_key);
        let state = if self.complete { "complete" } else { "begun" };
        let [first, second] = FORMATS;
        let format = if self.is_newer { second } else { first };
        format!("{format} {tag_key} {} {state}", self.generation)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (format, tag_key, generation, state) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let bytes: Vec<u8> = (0..tag_key.len())
            .step_by(2)
            .map(|at| tag_key.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()?;
        (FORMATS.contains(&format) && matches!(state, "begun" | "complete")).then_some(())?;
        Some(Self {
            tag_key: bytes.try_into().ok()?,
            generation: generation.to_owned(),
            complete: state == "complete",
            is_newer: format != "1",
        })
    }
}

impl Shared {
    /// The store's identity, made if there is no store yet.
    pub(super) async fn identify(&self) -> Result<StoreIdentity, IdentityError> {
        for _ in 0..ROUNDS {
            match self.read_identity().await? {
                Some(identity) if identity.complete => return Ok(identity),
                // Whoever began it is at it still, or is gone: doing it again does no harm.
                Some(identity) => self.mark_buckets(identity, Mark::Missing).await?,
                None if self.generations().await?.iter().any(Option::is_some) => {
                    // Somebody may have begun it between the two looks: the word comes after the identity.
                    if self.read_identity().await?.is_none() {
                        return Err(IdentityError::Lost);
                    }
                }
                None if self.settings.known_tag_key.is_some() || !self.settings.may_begin => {
                    return Err(IdentityError::Gone);
                }
                None => {
                    let mut command = redis::cmd("SET");
                    command.arg(identity_key()).arg(StoreIdentity::draw()?.write()).arg("NX");
                    self.call(Bucket::FIRST, &Request::Plain(&command)).await?;
                }
            }
        }
        Err(IdentityError::Unreachable)
    }

    /// The identity as it stands; `None` when there is no store.
    pub(super) async fn read_identity(&self) -> Result<Option<StoreIdentity>, IdentityError> {
        let mut command = redis::cmd("GET");
        command.arg(identity_key());
        let Some(text) = text(self.call(Bucket::FIRST, &Request::Plain(&command)).await?.value) else {
            return Ok(None);
        };
        StoreIdentity::parse(&text).map(Some).ok_or(IdentityError::Unreadable)
    }

    /// Has releases that read only the first format refuse the store when they start.
    pub(super) async fn keep_out_older_releases(&self) -> Result<(), IdentityError> {
        for _ in 0..ROUNDS {
            let Some(identity) = self.read_identity().await? else { return Err(IdentityError::Lost) };
            if identity.is_newer {
                return Ok(());
            }
            let mut command = redis::cmd("EVAL");
            command.arg(EXCHANGE).arg(1).arg(identity_key()).arg(identity.write());
            command.arg(StoreIdentity { is_newer: true, ..identity }.write());
            self.call(Bucket::FIRST, &Request::Plain(&command)).await?;
        }
        Err(IdentityError::Unreachable)
    }

    /// Whether every bucket has the word.
    pub(super) async fn is_whole(&self, generation: &str) -> Result<bool, IdentityError> {
        Ok(self.generations().await?.iter().all(|word| word.as_deref() == Some(generation)))
    }

    /// Takes the store as it is now for the store: a new word in every bucket.
    pub(super) async fn begin_generation(&self, tag_key: [u8; 32]) -> Result<StoreIdentity, IdentityError> {
        let is_newer = matches!(self.read_identity().await, Ok(Some(before)) if before.is_newer);
        let identity = StoreIdentity { tag_key, is_newer, ..StoreIdentity::draw()? };
        self.write_identity(&identity).await?;
        self.mark_buckets(identity.clone(), Mark::All).await?;
        Ok(StoreIdentity { complete: true, ..identity })
    }

    async fn mark_buckets(&self, identity: StoreIdentity, mark: Mark) -> Result<(), IdentityError> {
        for bucket in Bucket::all() {
            let mut command = redis::cmd("SET");
            command.arg(bucket.generation()).arg(&identity.generation);
            if matches!(mark, Mark::Missing) {
                command.arg("NX");
            }
            self.call(bucket, &Request::Plain(&command)).await?;
            if matches!(mark, Mark::All) {
                // Whoever connects from now on finds another process than this, and is cautious.
                let mut command = redis::cmd("SET");
                command.arg(bucket.primary()).arg("accepted 0");
                self.call(bucket, &Request::Plain(&command)).await?;
            }
        }
        self.write_identity(&StoreIdentity { complete: true, ..identity }).await
    }

    async fn write_identity(&self, identity: &StoreIdentity) -> Result<(), IdentityError> {
        let mut command = redis::cmd("SET");
        command.arg(identity_key()).arg(identity.write());
        self.call(Bucket::FIRST, &Request::Plain(&command)).await?;
        Ok(())
    }

    async fn generations(&self) -> Result<Vec<Option<String>>, IdentityError> {
        let reads = Bucket::all().map(|bucket| async move {
            let mut command = redis::cmd("GET");
            command.arg(bucket.generation());
            Ok(text(self.call(bucket, &Request::Plain(&command)).await?.value))
        });
        futures_util::future::join_all(reads).await.into_iter().collect()
    }
}

/// Which buckets are given the word.
#[derive(Clone, Copy)]
enum Mark {
    Missing,
    All,
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_written_and_nothing_else_does() {
        let identity = StoreIdentity::draw().unwrap();
        assert!(StoreIdentity::parse(&identity.write()) == Some(identity.clone()));
        let complete = StoreIdentity { complete: true, is_newer: true, ..identity };
        let text = complete.write();
        assert!(StoreIdentity::parse(&text) == Some(complete));
        assert!(text.starts_with("2 "));
        for broken in [
            "",
            "1",
            "2 00 g complete",
            &text.replacen('2', "3", 1),
            &text.replace("complete", "done"),
            text.get(..40).unwrap(),
        ] {
            assert!(StoreIdentity::parse(broken).is_none(), "{broken}");
        }
    }
}
