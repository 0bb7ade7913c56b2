//! `countersign sign`: the headers that make a request a signed one.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;

use super::error::CommandError;
use super::given_request::GivenRequest;
use super::key_file::{PrivateKey, SecretEncoding};
use super::profile::{ProfileChoice, VariantArgs};
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::auth::signature::{Scheme, WINDOW, encode_acp};
use crate::domain::clock::Timestamp;
use crate::http_signature::{CONTENT_DIGEST, Component, Signing, content_digest};
use crate::registry::TimestampForm;

/// Arguments of `sign`.
#[derive(Args, Clone, Debug)]
pub(super) struct SignArgs {
    /// The request's method.
    #[arg(long, default_value = "POST")]
    pub method: String,
    /// The request's URL, as agents reach the gateway.
    #[arg(long)]
    pub url: String,
    /// The file with the request's body, byte for byte.
    #[arg(long)]
    pub body: Option<PathBuf>,
    /// The request's Idempotency-Key.
    #[arg(long)]
    pub idempotency_key: Option<String>,
    /// The file with the private key (PKCS#8 PEM) or the shared secret.
    #[arg(long)]
    pub key: PathBuf,
    /// How the shared secret is written in its file.
    #[arg(long, value_enum, default_value_t = SecretEncoding::Text)]
    pub secret_encoding: SecretEncoding,
    /// What the gateway calls the key. Default: its JWK thumbprint.
    #[arg(long)]
    pub keyid: Option<String>,
    /// How to sign.
    #[arg(long, value_enum, default_value_t = ProfileChoice::Rfc9421)]
    pub profile: ProfileChoice,
    /// With --profile rfc9421: a nonce.
    #[arg(long)]
    pub nonce: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as help")]
    pub variant: VariantArgs,
}

/// Writes the headers that sign the request, one a line: `curl -H @FILE` reads them.
///
/// # Errors
/// [`CommandError`].
pub(super) fn sign(args: &SignArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), CommandError> {
    let mut request = GivenRequest::to(&args.method, &args.url, args.body.as_deref())?;
    if let Some(key) = &args.idempotency_key {
        let value = HeaderValue::from_str(key);
        let value = value.map_err(|_| CommandError::Request("the idempotency key is no header value"))?;
        writeln!(out, "Idempotency-Key: {key}")?;
        request.headers.insert(IDEMPOTENCY_KEY, value);
    }
    let key = PrivateKey::read(&args.key, args.secret_encoding)?;
    match args.variant.scheme(args.profile) {
        Some(scheme) => sign_acp(scheme, &request, &key, now, out),
        None => sign_rfc9421(args, &mut request, &key, now, out),
    }
}

fn sign_acp(
    scheme: Scheme,
    request: &GivenRequest,
    key: &PrivateKey,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let variant = scheme.variant();
    let timestamp = match variant.timestamp {
        TimestampForm::Rfc3339 => Timestamp::from_unix_seconds(now.unix_seconds()).to_rfc3339(),
        TimestampForm::UnixSeconds => now.unix_seconds().to_string(),
    };
    let signature = key.sign(&scheme.signed_bytes(&request.signed(true), &timestamp)?)?;
    writeln!(out, "Timestamp: {timestamp}")?;
    writeln!(out, "Signature: {}", encode_acp(variant.encoding, &signature))?;
    Ok(())
}

fn sign_rfc9421(
    args: &SignArgs,
    request: &mut GivenRequest,
    key: &PrivateKey,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let PrivateKey::Signing(key) = key else {
        let expected = "rfc9421 needs a private key in PKCS#8 PEM: a shared secret is not accepted there";
        return Err(CommandError::Key { path: args.key.clone(), expected });
    };
    let mut components = vec![Component::Method, Component::Authority, Component::Path];
    if request.query.is_some() {
        components.push(Component::Query);
    }
    if !request.body.is_empty() || request.method != "GET" {
        let digest = content_digest::make(&request.body);
        writeln!(out, "Content-Digest: {}", digest.to_str().unwrap_or_default())?;
        request.headers.insert(CONTENT_DIGEST, digest);
        components.push(Component::Field(CONTENT_DIGEST));
    }
    if args.idempotency_key.is_some() {
        components.push(Component::Field(IDEMPOTENCY_KEY));
    }
    let thumbprint = key.public().thumbprint();
    let signed = Signing {
        label: "sig1",
        components: &components,
        created: now,
        // As long as the gateway takes it.
        expires: Some(now.plus(WINDOW)),
        keyid: args.keyid.as_deref().unwrap_or(&thumbprint),
        nonce: args.nonce.as_deref(),
        tag: None,
    }
    .sign(&request.signed(true).message, key)?;
    writeln!(out, "Signature-Input: {}", signed.input.to_str().unwrap_or_default())?;
    writeln!(out, "Signature: {}", signed.signature.to_str().unwrap_or_default())?;
    Ok(())
}
