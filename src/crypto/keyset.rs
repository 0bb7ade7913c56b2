//! Rings of keys: several live at once, one current. The current key makes new values; every key
//! of the ring can still check or open old ones.

use crate::domain::id::KeyId;

/// Keys with ids, the first of them current. Never empty, ids unique.
pub struct Ring<K> {
    current: (KeyId, K),
    previous: Vec<(KeyId, K)>,
}

impl<K> Ring<K> {
    /// A ring whose first entry is current; `None` when it is empty or an id repeats.
    pub fn new(entries: Vec<(KeyId, K)>) -> Option<Self> {
        let repeated = entries
            .iter()
            .enumerate()
            .any(|(i, (id, _))| entries.iter().skip(i + 1).any(|(other, _)| other == id));
        let mut entries = entries.into_iter();
        let current = entries.next()?;
        (!repeated).then(|| Self { current, previous: entries.collect() })
    }

    /// The key that makes new values.
    pub fn current(&self) -> (&KeyId, &K) {
        (&self.current.0, &self.current.1)
    }

    /// The key of that id, current or previous.
    pub fn find(&self, id: &KeyId) -> Option<&K> {
        self.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
    }

    /// Every key, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &K)> {
        std::iter::once(&self.current).chain(&self.previous).map(|(id, key)| (id, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_never_empty_and_its_ids_are_unique() {
        let id = |text| KeyId::parse(text).unwrap();
        assert!(Ring::<u8>::new(vec![]).is_none());
        assert!(Ring::new(vec![(id("a"), 1), (id("a"), 2)]).is_none());
        let ring = Ring::new(vec![(id("new"), 1), (id("old"), 2)]).unwrap();
        assert_eq!(ring.current(), (&id("new"), &1));
        assert_eq!(ring.find(&id("old")), Some(&2));
    }
}
