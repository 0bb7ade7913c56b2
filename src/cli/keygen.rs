//! `countersign keygen`: a new key in a file of its own, readable by its owner alone.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::error::CommandError;
use crate::crypto::random;
use crate::crypto::sign::{Algorithm, SigningKey, VerifyingKey};

/// What kind of key to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyKind {
    /// Signs (RFC 8032). PKCS#8 PEM.
    Ed25519,
    /// Signs with ECDSA P-256 and SHA-256. PKCS#8 PEM.
    P256,
    /// A secret for HMAC-SHA256, for fingerprints, derivation or an agent that cannot sign
    /// otherwise. 32 bytes in base64.
    Hmac,
    /// Seals cards at rest. 32 bytes in base64.
    Sealing,
}

/// Arguments of `keygen`.
#[derive(Args, Clone, Debug)]
pub(super) struct KeygenArgs {
    /// What kind of key to make.
    #[arg(long, value_enum, default_value_t = KeyKind::Ed25519)]
    pub algorithm: KeyKind,
    /// The file to make for the private key or secret. An existing file is never replaced.
    #[arg(long)]
    pub out: PathBuf,
}

/// Makes a key: the private part into its file, the public part to `out`.
///
/// # Errors
/// [`CommandError`], also when the file exists.
pub(super) fn keygen(args: &KeygenArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let (private, public) = match args.algorithm {
        KeyKind::Ed25519 => pair(Algorithm::Ed25519)?,
        KeyKind::P256 => pair(Algorithm::EcdsaP256Sha256)?,
        KeyKind::Hmac | KeyKind::Sealing => {
            let secret = Zeroizing::new(random::bytes::<32>()?);
            (Zeroizing::new(STANDARD.encode(*secret) + "\n"), None)
        }
    };
    let failed = |source| CommandError::File { path: args.out.clone(), source };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.out).map_err(failed)?;
    file.write_all(private.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    writeln!(out, "wrote {}, readable by you alone", args.out.display())?;
    if let Some(public) = public {
        writeln!(out, "keyid (JWK thumbprint): {}", public.thumbprint())?;
        let jwk = public.to_jwk();
        writeln!(out, "public key as JWK:\n{jwk}")?;
        writeln!(out, "public key in a gateway's configuration:\njwk = {}", toml_table(&jwk))?;
        write!(out, "public key as PEM:\n{}", public.to_spki_pem())?;
    }
    Ok(())
}

/// What a key is, without the members that change nothing, as a TOML inline table.
fn toml_table(jwk: &serde_json::Value) -> String {
    let of_name = |name| jwk.get(name).map(|value| format!("{name} = {value}"));
    let members: Vec<String> = ["kty", "crv", "x", "y"].into_iter().filter_map(of_name).collect();
    format!("{{ {} }}", members.join(", "))
}

fn pair(algorithm: Algorithm) -> Result<(Zeroizing<String>, Option<VerifyingKey>), CommandError> {
    let (key, pem) = SigningKey::generate(algorithm).map_err(|_| random::RandomUnavailable)?;
    Ok((pem, Some(key.public().clone())))
}
