//! `countersign verify`: the exact bytes that a request's signature is over, and the verdict.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use super::given_request::{GivenRequest, add_header, read_file};
use super::key_file::{SecretEncoding, read_checking_keys};
use super::profile::{ProfileChoice, VariantArgs};
use crate::acp::header::TIMESTAMP;
use crate::auth::signature::{
    Conditional, Coverage, Presented, Proof, Scheme, SignatureError, SignedRequest, examine_acp,
    examine_rfc9421,
};
use crate::domain::clock::Timestamp;
use crate::domain::id::KeyId;
use crate::http_signature::received;
use crate::registry::{AgentKey, KeyMaterial};

/// Arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub(super) struct VerifyArgs {
    /// A file with the request as it went over the wire: request line, headers, empty line, body.
    #[arg(long, conflicts_with_all = ["body", "header"], required_unless_present = "url")]
    pub request: Option<PathBuf>,
    /// The request's method.
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// The request's URL, as its sender meant it. With --request only where that is not https://, Host
    /// and target: at a shop without TLS, or behind a proxy.
    #[arg(long)]
    pub url: Option<String>,
    /// The file with the request's body, byte for byte.
    #[arg(long)]
    pub body: Option<PathBuf>,
    /// A header of the request, such as 'Signature: …'; repeatable.
    #[arg(long, short = 'H')]
    pub header: Vec<String>,
    /// The file with the public key (PEM or JWK), the gateway's published key set, or the shared secret.
    #[arg(long)]
    pub key: PathBuf,
    /// How the shared secret is written in its file.
    #[arg(long, value_enum, default_value_t = SecretEncoding::Text)]
    pub secret_encoding: SecretEncoding,
    /// What ACP's header is a signature over; RFC 9421 is recognised by Signature-Input.
    #[arg(long, value_enum, default_value_t = ProfileChoice::AcpBound)]
    pub profile: ProfileChoice,
    /// Judge as on a route where no money moves: rfc9421 may then cover anything.
    #[arg(long)]
    pub not_money: bool,
    /// Judge as at this time (RFC 3339) instead of now.
    #[arg(long)]
    pub at: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as help")]
    pub variant: VariantArgs,
}

/// Writes what was signed and the verdict; whether the signature verifies. The gateway judges with
/// the same code.
///
/// # Errors
/// [`CommandError`] when there is nothing to judge.
pub(super) fn verify(args: &VerifyArgs, now: Timestamp, out: &mut dyn Write) -> Result<bool, CommandError> {
    let request = read_request(args)?;
    let request = request.signed(!args.not_money);
    let now = match &args.at {
        Some(text) => Timestamp::parse_rfc3339(text)
            .ok_or(CommandError::Request("--at must be an RFC 3339 time, such as 2026-01-02T03:04:05Z"))?,
        None => now,
    };
    let keys = read_checking_keys(&args.key, args.secret_encoding)?;
    let verdict = match Presented::by(request.message.headers) {
        Presented::Nothing => Err(SignatureError::Required.into()),
        Presented::Rfc9421 => {
            let keys = named(keys, &explain_rfc9421(&request, out)?);
            let coverage = if args.not_money { Coverage::Request } else { Coverage::Money };
            examine_rfc9421("", &keys, &request, coverage, now)
        }
        Presented::AcpHeader => {
            let scheme = args.variant.scheme(args.profile).unwrap_or(Scheme::Bound);
            explain_acp(scheme, &request, out)?;
            examine_acp(scheme, "", &named(keys, &given_key()?), &request, now)
        }
    };
    match verdict.and_then(Conditional::alone) {
        Ok(Proof::Signed { profile, .. }) => {
            writeln!(out, "verified: {}", profile.as_str())?;
            Ok(true)
        }
        Ok(Proof::BearerOnly { .. }) => Ok(false),
        Err(error) => {
            writeln!(out, "refused: {}: {error}", error.code())?;
            Ok(false)
        }
    }
}

/// The keys under their own names, or else this one.
fn named(keys: Vec<(Option<KeyId>, KeyMaterial)>, other: &KeyId) -> Vec<AgentKey> {
    let key =
        |(id, material): (Option<KeyId>, _)| AgentKey { id: id.unwrap_or_else(|| other.clone()), material };
    keys.into_iter().map(key).collect()
}

fn read_request(args: &VerifyArgs) -> Result<GivenRequest, CommandError> {
    match (&args.request, &args.url) {
        (Some(file), None) => GivenRequest::from_wire(&read_file(file)?),
        (Some(file), Some(url)) => GivenRequest::from_wire(&read_file(file)?)?.meant_for(url),
        (None, Some(url)) => {
            let mut request = GivenRequest::to(&args.method, url, args.body.as_deref())?;
            for line in &args.header {
                add_header(&mut request.headers, line)?;
            }
            Ok(request)
        }
        (None, None) => Err(CommandError::Request("either --request or --url is needed")),
    }
}

/// Writes the base of each signature; answers the `keyid` of the first, because the key that was
/// given is meant to be that one.
fn explain_rfc9421(request: &SignedRequest<'_>, out: &mut dyn Write) -> Result<KeyId, CommandError> {
    let signatures = match received(request.message.headers) {
        Ok(signatures) => signatures,
        Err(error) => {
            writeln!(out, "the signature headers cannot be read: {error}")?;
            return given_key();
        }
    };
    for signature in &signatures {
        writeln!(out, "signature {}", signature.label)?;
        match signature.base(&request.message) {
            Ok(base) => write_bytes(&base, out)?,
            Err(error) => writeln!(out, "its base cannot be rebuilt: {error}")?,
        }
    }
    let first = signatures.first().and_then(|signature| signature.parameters.keyid.as_deref());
    first.and_then(KeyId::parse).map_or_else(given_key, Ok)
}

fn explain_acp(scheme: Scheme, request: &SignedRequest<'_>, out: &mut dyn Write) -> Result<(), CommandError> {
    let timestamp = request.message.headers.get(TIMESTAMP).and_then(|value| value.to_str().ok());
    let Some(timestamp) = timestamp else {
        writeln!(out, "there is no Timestamp header")?;
        return Ok(());
    };
    match scheme.signed_bytes(request, timestamp) {
        Ok(bytes) => write_bytes(&bytes, out)?,
        Err(error) => writeln!(out, "the signed bytes cannot be rebuilt: {error}")?,
    }
    Ok(())
}

/// Writes bytes between two rules, so that their first and last can be seen.
fn write_bytes(bytes: &[u8], out: &mut dyn Write) -> Result<(), CommandError> {
    writeln!(out, "signed are these {} bytes, between the rules:", bytes.len())?;
    writeln!(out, "--------")?;
    out.write_all(bytes)?;
    writeln!(out, "\n--------")?;
    Ok(())
}

fn given_key() -> Result<KeyId, CommandError> {
    KeyId::parse("given").ok_or(CommandError::Request("the key has no id"))
}
