//! What is told of the disks that the gateway keeps things on.

use super::Metrics;

impl Metrics {
    /// So many bytes are free where the `store` or the hourly keys (`epochs`) are; `None` where nobody can
    /// tell.
    pub fn set_disk_free(&self, directory: &'static str, free: Option<u64>) {
        match free {
            Some(free) => self.disk_free.set([directory], free),
            None => self.disk_free.forget([directory]),
        }
    }

    /// So many bytes must stay free there.
    pub fn set_disk_min_free(&self, directory: &'static str, bytes: u64) {
        self.disk_min_free.set([directory], bytes);
    }
}
