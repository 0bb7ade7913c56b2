//! Worlds whose configuration differs in a line or two from the usual one.

use super::{Options, World};

impl World {
    /// A world with amendments `(entry, from, to)`: behind the first occurrence of `entry` in the
    /// configuration, the next `from` becomes `to`.
    pub async fn amended(options: Options, amendments: &[(&str, &str, &str)]) -> Self {
        let mut world = Self::closed(options).await;
        for (entry, from, to) in amendments {
            let (before, entry_on) = world.text.split_at(world.text.find(entry).unwrap());
            assert!(entry_on.contains(from), "no {from} behind {entry}");
            world.text = format!("{before}{}", entry_on.replacen(from, to, 1));
        }
        world.open().await;
        world
    }
}
