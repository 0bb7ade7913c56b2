//! Which trace shows what a bucket of a histogram holds: of each the last one that was told.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::trace::TraceId;
use crate::domain::clock::Timestamp;

/// One request that a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exemplar {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Its trace.
    pub trace: TraceId,
    /// When it ended.
    pub at: Timestamp,
}

/// The exemplars of every series that is told apart by one label.
#[derive(Default)]
pub(super) struct Exemplars(Mutex<HashMap<&'static str, Family>>);

/// By label; of each bucket one at most.
type Family = HashMap<Box<str>, Vec<Exemplar>>;

impl Exemplars {
    /// A request that counts in this family of histograms with these upper bounds, in the series of this label.
    pub(super) fn note(&self, family: &'static str, label: &str, bounds: &[f64], exemplar: Exemplar) {
        let bucket = |seconds: f64| bounds.partition_point(|bound| *bound < seconds);
        let mut noted = self.0.lock();
        let series = noted.entry(family).or_default();
        match series.get_mut(label) {
            Some(exemplars) => {
                exemplars.retain(|before| bucket(before.seconds) != bucket(exemplar.seconds));
                exemplars.push(exemplar);
            }
            None => drop(series.insert(label.into(), vec![exemplar])),
        }
    }

    /// The one that a bucket holds, above one bound and at most the other.
    pub(super) fn within(&self, family: &str, label: &str, above: f64, most: f64) -> Option<Exemplar> {
        let noted = self.0.lock();
        let exemplars = noted.get(family)?.get(label)?;
        exemplars.iter().find(|one| above < one.seconds && one.seconds <= most).copied()
    }

    /// Forgets a series.
    pub(super) fn forget(&self, family: &str, label: &str) {
        if let Some(series) = self.0.lock().get_mut(family) {
            series.remove(label);
        }
    }
}
