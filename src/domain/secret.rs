//! Values that must not be printed: no `Debug`, `Display`, `Serialize` or `PartialEq`, wiped on drop.
//!
//! ```compile_fail
//! fn printed(secret: countersign::domain::secret::SecretString) -> String { format!("{secret:?}") }
//! ```
//! ```compile_fail
//! fn copied(secret: countersign::domain::secret::SecretBytes) -> (countersign::domain::secret::SecretBytes, countersign::domain::secret::SecretBytes) { (secret.clone(), secret) }
//! ```

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret bytes: a key, a card number in clear. Wiped when dropped.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of secret bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, named so that every use can be found.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in time that depends on the lengths alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.ct_eq(other).into()
    }
}

/// Secret text: a credential. Wiped when dropped.
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes ownership of secret text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, named so that every use can be found.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
