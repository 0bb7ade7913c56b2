//! Whether a merchant does what ACP, and this gateway, ask of it: called as an agent would through the gateway.
//!
//! The gateway's place is taken, not used: what is sent is written and signed by the same code, and cards are
//! fetched at a counter of its own. So a merchant can be shown what no gateway would do, such as the same complete
//! twice at once.

mod bodies;
pub(crate) mod caller;
mod cases;
mod entry;
pub(crate) mod report;
mod sandbox;
mod shopper;
mod till;

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;

use crate::acp::version::Version;
use crate::config::ConfigErrors;
use crate::crypto::jwks;
use crate::crypto::random::RandomUnavailable;
use crate::domain::money::Currency;
use crate::merchant::{self, Countersigner, TlsSetupError};
use crate::quickstart::certificates::CertificateError;
use crate::quickstart::configuration::ConfigurationError;
use crate::registry::{Merchant, MerchantIdempotency};
use crate::server::tls::TlsError;
use caller::{Caller, Countersigned};
use entry::Entry;
use report::{Report, Unmet, Whom};
pub use sandbox::{AgentArgs, sandbox};
use shopper::{Cards, Shopper, Wish};
use till::Till;

/// Numbers that payment providers publish for testing: no other card is ever sent.
const TEST_CARDS: [&str; 20] = [
    "4242424242424242",
    "4000000000000002",
    "4000000000003220",
    "4000000000009995",
    "4000000000000069",
    "4000000000000127",
    "4000000000003063",
    "4000002500003155",
    "4012888888881881",
    "4111111111111111",
    "4444333322221111",
    "4917610000000000",
    "5105105105105100",
    "5200828282828210",
    "5454545454545454",
    "5555555555554444",
    "2223003122003222",
    "371449635398431",
    "378282246310005",
    "6011111111111117",
];
/// Cases that may each leave an order behind.
const MOST_ORDERS: usize = 9;

/// Whether a merchant is said to honour idempotency keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Keys {
    /// It is: to charge one twice is a fault.
    Keys,
    /// It is not.
    None,
}

/// Arguments of `conformance merchant`.
#[derive(Args, Clone, Debug)]
pub struct MerchantArgs {
    /// The merchant's base URL; with --config as its entry states it.
    pub url: String,
    /// The gateway's TOML file, whose entry of that URL says how the merchant is called; it needs `test = true`.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// It is: whatever is ordered there is not meant.
    #[arg(long)]
    pub this_is_a_test_shop: bool,
    /// Begin without being asked.
    #[arg(long)]
    pub yes: bool,
    /// All that was found as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The item that is ordered.
    #[arg(long, default_value = "item_lamp")]
    pub item: String,
    /// A file with the whole JSON body of create, where item, address and currency do not do.
    #[arg(long, value_name = "FILE")]
    pub checkout: Option<PathBuf>,
    /// What it is paid in.
    #[arg(long, default_value = "usd")]
    pub currency: String,
    /// A test card that is accepted.
    #[arg(long, default_value = "4242424242424242", value_name = "NUMBER")]
    pub card: String,
    /// A test card that is declined.
    #[arg(long, default_value = "4000000000000002", value_name = "NUMBER")]
    pub declined_card: String,
    /// A test card that wants 3-D Secure.
    #[arg(long, default_value = "4000000000003220", value_name = "NUMBER")]
    pub secure_card: String,
    /// The version of ACP; with --config the newest of the entry.
    #[arg(long, default_value = Version::LATEST.as_str(), value_name = "DATE", conflicts_with = "config")]
    pub api_version: String,
    /// Where the merchant fetches cards, by plain http, or with --config by the file's TLS; there the file's
    /// `server.listen` is the default, otherwise 127.0.0.1:8450.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The bearer credential it is called with, by reference: env:NAME or file:PATH. Default: a new one, which is
    /// told.
    #[arg(long, value_name = "REFERENCE", conflicts_with = "config")]
    pub credential: Option<String>,
    /// The bearer credential it fetches cards with, by reference. Default: a new one, which is told.
    #[arg(long, value_name = "REFERENCE", conflicts_with = "config")]
    pub redeemer_credential: Option<String>,
    /// What the gateway calls it.
    #[arg(long, default_value = "merchant", value_name = "ID", conflicts_with = "config")]
    pub merchant: String,
    /// PEM: authorities trusted for it instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub ca_file: Option<PathBuf>,
    /// What its entry is to say of idempotency keys.
    #[arg(long, value_enum, default_value_t = Keys::Keys, conflicts_with = "config")]
    pub idempotency: Keys,
    /// How long the head of its answer is waited for; three times as long for all of it.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600),
          conflicts_with = "config")]
    pub first_byte_seconds: u64,
}

/// Why a merchant is not tried.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The configuration.
    #[error("{}: {errors}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        errors: ConfigErrors,
    },
    /// What was made of the arguments is no entry.
    #[error("an entry made of these arguments is wrong: {errors}")]
    Arguments {
        /// What is wrong with it.
        errors: ConfigErrors,
    },
    /// The configuration knows no such merchant.
    #[error("no entry of the configuration has this base_url")]
    NoEntry,
    /// Nobody said that nothing is meant there.
    #[error(
        "things are ordered only at test shops: its entry needs `test = true`, or say --this-is-a-test-shop"
    )]
    NoTestShop,
    /// What answers is a gateway.
    #[error("a gateway answers there, which serves agents: give the merchant's own URL")]
    Gateway,
    /// A card that is none for testing.
    #[error("{0} is no number that payment providers publish for testing")]
    Card(&'static str),
    /// A currency or version that is none.
    #[error("{0} is not known")]
    Unknown(&'static str),
    /// The body of create.
    #[error("{}: expected one JSON object", .0.display())]
    Checkout(PathBuf),
    /// The counter's socket.
    #[error("{address}: {error}; a gateway that serves there must be stopped first, or say --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The counter's TLS.
    #[error(transparent)]
    Tls(TlsError),
    /// TLS towards the merchant.
    #[error(transparent)]
    TlsTowards(#[from] TlsSetupError),
    /// It cannot be asked.
    #[error("{0}")]
    Unreached(String),
    /// Keys and files of an entry made of arguments.
    #[error(transparent)]
    Workspace(#[from] ConfigurationError),
    /// Certificates of it.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Nobody said yes.
    #[error("nothing was ordered: say yes, or --yes")]
    NotAgreed,
    /// Input or output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn test_card(number: &str, argument: &'static str) -> Result<&'static str, ConformanceError> {
    TEST_CARDS.into_iter().find(|card| *card == number).ok_or(ConformanceError::Card(argument))
}

fn wish(arguments: &MerchantArgs) -> Result<Wish, ConformanceError> {
    let checkout = arguments.checkout.as_ref().map(|path| {
        let text = std::fs::read(path)?;
        let body: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        body.filter(serde_json::Value::is_object).ok_or_else(|| ConformanceError::Checkout(path.clone()))
    });
    Ok(Wish {
        item: arguments.item.clone(),
        currency: Currency::parse(&arguments.currency).ok_or(ConformanceError::Unknown("--currency"))?,
        checkout: checkout.transpose()?,
        cards: Cards {
            good: test_card(&arguments.card, "--card")?,
            declined: test_card(&arguments.declined_card, "--declined-card")?,
            secure: test_card(&arguments.secure_card, "--secure-card")?,
        },
    })
}

/// Tries a merchant, once `answers` agree to what will be ordered. Whether nothing failed. Lines for people go to
/// `out`, or, where JSON is wanted there, to `told`.
///
/// # Errors
/// [`ConformanceError`] when it is not tried.
pub async fn merchant(
    arguments: &MerchantArgs,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
    told: &mut dyn Write,
) -> Result<bool, ConformanceError> {
    let wish = wish(arguments)?;
    let entry = Entry::find(arguments)?;
    // Before anything is sent.
    match arguments.json {
        true => agree(arguments, &entry, &wish, answers, told)?,
        false => agree(arguments, &entry, &wish, answers, out)?,
    }
    let shopper = open(entry, wish).await?;
    if is_gateway(&shopper.caller).await? {
        return Err(ConformanceError::Gateway);
    }
    let version = shopper.caller.version.as_str();
    let keys_promised = shopper.caller.merchant.idempotency == MerchantIdempotency::Keys;
    let mut nowhere = io::sink();
    let (lines, json): (Option<&mut dyn Write>, &mut dyn Write) =
        if arguments.json { (None, out) } else { (Some(out), &mut nowhere) };
    let mut report = Report::to(lines, keys_promised);
    cases::try_all(&shopper, &mut report).await?;
    Ok(report.conclude(Whom::Merchant { merchant: &arguments.url, version }, json)?)
}

/// Says what will be ordered, and waits for a yes.
fn agree(
    arguments: &MerchantArgs,
    entry: &Entry,
    wish: &Wish,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), ConformanceError> {
    let Cards { good, declined, secure } = wish.cards;
    let what = if wish.checkout.is_some() { "what --checkout says" } else { wish.item.as_str() };
    writeln!(
        out,
        "This orders {what} up to {MOST_ORDERS} times at {}, with the test cards {good}, {declined} and {secure}.",
        arguments.url
    )?;
    let authority = entry.tls.as_ref().map(|_| entry.config.registry.primary_host());
    writeln!(
        out,
        "Meanwhile cards are fetched, and keys found, at {}.",
        till::base_url(entry.listen, authority)
    )?;
    for note in &entry.notes {
        writeln!(out, "Until this ends, {note}")?;
    }
    if !arguments.yes {
        write!(out, "Go on? ")?;
        out.flush()?;
        let mut said = String::new();
        answers.read_line(&mut said)?;
        if !matches!(said.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Err(ConformanceError::NotAgreed);
        }
    }
    Ok(writeln!(out)?)
}

async fn open(entry: Entry, wish: Wish) -> Result<Shopper, ConformanceError> {
    let Entry { config, merchant, listen, tls, .. } = entry;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| ConformanceError::Listen { address: listen, error })?;
    let redeemers = merchant.redeemers.iter().flat_map(|redeemer| redeemer.credentials.clone()).collect();
    let keys = jwks::document(&config.keys.signing);
    let till = Till::open(listener, tls, redeemers, merchant.redeem_every_claim, &keys);
    let version = newest(&merchant).ok_or(ConformanceError::Unknown("--api-version"))?;
    let towards = merchant::tls_towards(&merchant)?;
    let host = config.registry.primary_host().into();
    let countersigner = Arc::new(Countersigner::new(config.keys, config.public_base_url));
    let caller = Caller::new(merchant, version, &Countersigned { countersigner, host }, towards);
    let caller = caller.ok_or(ConformanceError::Unknown("the agent"))?;
    Ok(Shopper { caller, till, wish })
}

fn newest(merchant: &Merchant) -> Option<Version> {
    Version::NEWEST_FIRST.into_iter().find(|version| merchant.versions.contains(version.as_str()))
}

/// Whether what answers there is a gateway like this one: it publishes keys, and knows of tokens.
async fn is_gateway(caller: &Caller) -> Result<bool, ConformanceError> {
    match caller.ask_at_root("/.well-known/jwks.json").await {
        Ok(keys) if keys.status == 200 && keys.json().get("keys").is_some() => {
            let token = caller::new_token().map_err(|_| ConformanceError::Random(RandomUnavailable))?;
            let path = format!("/agentic_commerce/granted_tokens/{}", token.as_str());
            Ok(caller.ask_at_root(&path).await.is_ok_and(|answer| answer.status == 401))
        }
        Ok(_) | Err(Unmet::Otherwise(_)) => Ok(false),
        Err(Unmet::Skipped(why)) => Err(ConformanceError::Unreached(why)),
    }
}
