//! Who is asking: the bearer credential, the signature, and whether the signature was used before.

pub mod bearer;
pub mod client_certificate;
pub mod command;
pub mod http_signature;
pub mod replay;
pub mod signature;
