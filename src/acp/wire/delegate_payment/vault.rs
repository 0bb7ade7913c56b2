//! The card as it is sealed, and put together again for redeem. Buffers have their final size from
//! the start, so that growing leaves no copy of a card behind.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{BillingAddress, DelegatePayment};
use crate::acp::wire::json::Document;
use crate::domain::secret::SecretBytes;

/// A card in two pieces of JSON, for two keys of different lives.
pub struct VaultJson {
    /// `{"payment_method":{…},"billing_address":{…}?}` without perishable values.
    pub card: SecretBytes,
    /// `{"cvc"?,"cryptogram"?,"eci_value"?}`; none when the card has none of them.
    pub perishable: Option<SecretBytes>,
}

/// What was unsealed is not what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sealed card data cannot be read")]
pub struct VaultJsonError;

#[derive(Serialize)]
struct Card<'a> {
    payment_method: PaymentMethod<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_address: Option<Address<'a>>,
}

#[derive(Serialize)]
struct PaymentMethod<'a> {
    r#type: &'static str,
    card_number_type: &'static str,
    number: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp_month: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp_year: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    checks_performed: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    iin: Option<&'a str>,
    display_card_funding_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_wallet_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_brand: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_last4: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#virtual: Option<bool>,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Address<'a> {
    name: &'a str,
    line_one: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line_two: Option<&'a str>,
    city: &'a str,
    state: &'a str,
    country: &'a str,
    postal_code: &'a str,
}

#[derive(Serialize)]
struct Perishable<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cvc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cryptogram: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eci_value: Option<&'a str>,
}

impl DelegatePayment {
    /// Splits the card into what may be kept as long as the token and what must die sooner.
    pub fn to_vault_json(&self) -> VaultJson {
        let card = &self.card;
        let kept = Card {
            payment_method: PaymentMethod {
                r#type: "card",
                card_number_type: card.number_kind.as_str(),
                number: card.number.expose(),
                exp_month: card.exp_month.map(|month| format!("{month:02}")),
                exp_year: card.exp_year.map(|year| format!("{year:04}")),
                name: card.holder_name.as_ref().map(|name| name.expose()),
                checks_performed: &card.checks_performed,
                iin: card.iin.as_deref(),
                display_card_funding_type: card.funding.as_str(),
                display_wallet_type: card.display_wallet_type.as_deref(),
                display_brand: card.display_brand.as_deref(),
                display_last4: card.display_last4.as_deref(),
                r#virtual: card.is_virtual,
                metadata: &card.metadata,
            },
            billing_address: self.billing_address.as_ref().map(address),
        };
        let perishable = Perishable {
            cvc: card.cvc.as_ref().map(|cvc| cvc.expose()),
            cryptogram: card.cryptogram.as_ref().map(|cryptogram| cryptogram.expose()),
            eci_value: card.eci_value.as_ref().map(|eci| eci.expose()),
        };
        let has_perishable =
            perishable.cvc.is_some() || perishable.cryptogram.is_some() || perishable.eci_value.is_some();
        VaultJson { card: write(&kept), perishable: has_perishable.then(|| write(&perishable)) }
    }
}

fn address(address: &BillingAddress) -> Address<'_> {
    Address {
        name: &address.name,
        line_one: &address.line_one,
        line_two: address.line_two.as_ref().map(|line| line.as_str()),
        city: &address.city,
        state: &address.state,
        country: &address.country,
        postal_code: &address.postal_code,
    }
}

/// The body of a redeem's answer: `{payment_method:{…},billing_address?}`, with the perishable
/// values back in their places where they still exist.
///
/// # Errors
/// [`VaultJsonError`] when either piece is not what [`DelegatePayment::to_vault_json`] wrote.
pub fn merge_vault_json(card: &[u8], perishable: Option<&[u8]>) -> Result<SecretBytes, VaultJsonError> {
    let Some(perishable) = perishable else {
        let kept = Document::of_body(card).ok_or(VaultJsonError)?;
        kept.value().object().and_then(|kept| kept.get("payment_method")).ok_or(VaultJsonError)?;
        return Ok(SecretBytes::new(card.trim_ascii_end().to_vec()));
    };
    merged(card, perishable).ok_or(VaultJsonError)
}

fn merged(card: &[u8], perishable: &[u8]) -> Option<SecretBytes> {
    let [kept, values] = [Document::of_body(card)?, Document::of_body(perishable)?];
    let kept = kept.value().object()?;
    let method = kept.get("payment_method").filter(|method| method.is_object())?.raw();
    let values = Some(values.value()).filter(|values| values.is_object())?.raw();
    let mut parts = vec![r#"{"payment_method":"#, method.strip_suffix('}')?];
    let values = values.strip_prefix('{')?;
    if values.trim_start() == "}" {
        parts.push("}");
    } else {
        parts.extend([",", values]);
    }
    if let Some(address) = kept.get("billing_address") {
        parts.extend([r#","billing_address":"#, address.raw()]);
    }
    parts.push("}");
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    Some(SecretBytes::new(out))
}

/// Bytes of a block of AES.
const BLOCK: usize = 16;

/// Serialises into a buffer of exactly the right size, with spaces behind up to the end of a block of the
/// cipher: what stands in a block that is not full passes through the stack when it is sealed or opened,
/// and stays there. So does nobody learn how long a security code is.
fn write(view: &impl Serialize) -> SecretBytes {
    let mut counter = Counter(0);
    // Neither strings nor maps of strings fail to serialise, nor do these writers fail.
    let _ = serde_json::to_writer(&mut counter, view);
    let full = counter.0.next_multiple_of(BLOCK);
    let mut out = Vec::with_capacity(full);
    let _ = serde_json::to_writer(&mut out, view);
    out.resize(full, b' ');
    SecretBytes::new(out)
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
