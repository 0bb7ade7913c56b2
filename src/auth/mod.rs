//! Who is asking: the bearer credential, the signature, and whether the signature was used before.

pub mod http_signature;
