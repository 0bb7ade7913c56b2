//! Operators: who may list and resolve claims and copy the store, on the admin listener.

use subtle::ConstantTimeEq;

use super::digests_with_line_end;
use crate::crypto::digest::{Sha256, sha256};

/// An operator and the digests of its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// For the log: who did it.
    pub name: String,
    /// SHA-256 of its bearer credentials; several while one is replaced.
    pub credentials: Vec<Sha256>,
    /// What it may do.
    pub roles: Vec<Role>,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Look at everything, which every operator may.
    Read,
    /// End claims by hand.
    Resolve,
    /// Stop agents, merchants, keys, credentials and cards, and let them go on.
    Suspend,
    /// All of that, and what concerns the gateway itself: its configuration and its store.
    All,
}

impl Operator {
    /// Whether it may do what takes this role.
    pub fn may(&self, needed: Role) -> bool {
        needed == Role::Read || self.roles.iter().any(|role| [Role::All, needed].contains(role))
    }
}

/// Every operator of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators(Vec<Operator>);

impl Operators {
    /// These and no others.
    pub fn new(operators: Vec<Operator>) -> Self {
        Self(operators)
    }

    /// Whether there is none, and so no operator's API.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The operator that presents this bearer credential. Only digests are compared, each whole and
    /// all of them, so that the time taken tells nothing.
    pub fn by_credential(&self, credential: &str) -> Option<&Operator> {
        self.by_digest(sha256(&[credential.as_bytes()]))
    }

    /// The operator whose configured digest is that of this credential and a line end.
    pub fn with_line_end(&self, credential: &str) -> Option<&Operator> {
        digests_with_line_end(credential).into_iter().find_map(|digest| self.by_digest(digest))
    }

    fn by_digest(&self, presented: Sha256) -> Option<&Operator> {
        let mut found = None;
        for operator in &self.0 {
            for known in &operator.credentials {
                if bool::from(known.ct_eq(&presented)) {
                    found = Some(operator);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_known_by_each_of_its_credentials_and_nobody_by_another() {
        let operator = |name: &str, credentials: &[&str]| Operator {
            name: name.to_owned(),
            credentials: credentials.iter().map(|text| sha256(&[text.as_bytes()])).collect(),
            roles: vec![Role::All],
        };
        let operators = Operators::new(vec![operator("ada", &["old", "new"]), operator("ben", &["his"])]);
        let name = |credential| operators.by_credential(credential).map(|operator| operator.name.as_str());
        assert_eq!([name("old"), name("new"), name("his")], [Some("ada"), Some("ada"), Some("ben")]);
        assert_eq!(
            [name(""), name("hers"), Operators::default().by_credential("old").map(|_| "")],
            [None; 3]
        );
    }

    #[test]
    fn an_operator_may_what_one_of_its_roles_allows_and_everybody_may_look() {
        let every = [Role::Read, Role::Resolve, Role::Suspend, Role::All];
        let may = |roles: &[Role]| {
            let operator = Operator { name: "ada".to_owned(), credentials: vec![], roles: roles.to_vec() };
            every.map(|needed| operator.may(needed))
        };
        assert_eq!(may(&[Role::Read]), [true, false, false, false]);
        assert_eq!(may(&[Role::Resolve]), [true, true, false, false]);
        assert_eq!(may(&[Role::Read, Role::Suspend]), [true, false, true, false]);
        assert_eq!(may(&[Role::All]), [true; 4]);
    }
}
