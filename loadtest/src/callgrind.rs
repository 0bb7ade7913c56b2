//! Reads what callgrind has counted: instructions, and calls of the allocator.

use std::collections::HashMap;
use std::ops::{AddAssign, Sub};

use anyhow::{Context as _, Result};

use crate::numbers::real;

/// What hands out memory: Rust's through mimalloc, that of C through the C library. Calls that these
/// make of each other are one.
const ALLOCATING: [&str; 9] = [
    "mi_malloc",
    "mi_malloc_aligned",
    "mi_zalloc",
    "mi_zalloc_aligned",
    "mi_realloc",
    "mi_realloc_aligned",
    "malloc",
    "calloc",
    "realloc",
];

/// What a program, or a part of its work, costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Instructions.
    pub instructions: f64,
    /// How often memory was asked for.
    pub allocations: f64,
}

impl Cost {
    /// Reads a file of callgrind's.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &str) -> Result<Self> {
        let mut names: HashMap<&str, &str> = HashMap::new();
        let mut cost = Self::default();
        let (mut caller, mut callee) = ("", "");
        let mut total = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                caller = named(&mut names, name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = named(&mut names, name);
            } else if let Some(calls) = line.strip_prefix("calls=") {
                if is_allocating(callee) && !is_allocating(caller) {
                    let count = calls.split(' ').next().and_then(|count| count.parse().ok());
                    cost += Self { instructions: 0.0, allocations: real(count.context("a count of calls")?) };
                }
            } else if let Some(sum) = line.strip_prefix("totals:") {
                total = sum.trim().parse().ok();
            }
        }
        cost.instructions = real(total.context("callgrind counted nothing")?);
        Ok(cost)
    }

    /// The same, shared by so many.
    #[must_use]
    pub fn per(self, many: f64) -> Self {
        Self { instructions: self.instructions / many, allocations: self.allocations / many }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.instructions += more.instructions;
        self.allocations += more.allocations;
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            instructions: self.instructions - less.instructions,
            allocations: self.allocations - less.allocations,
        }
    }
}

/// A name stands behind its number once, and is meant by the number from then on.
fn named<'a>(names: &mut HashMap<&'a str, &'a str>, name: &'a str) -> &'a str {
    match name.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(name).copied().unwrap_or(name),
    }
}

/// Callgrind tells depths of recursion apart: `malloc'2`.
fn is_allocating(name: &str) -> bool {
    ALLOCATING.contains(&name.split('\'').next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_allocator_are_counted_and_its_own_are_not() {
        let file = "\
events: Ir
fn=(1) work
16 3
cfn=(2) mi_malloc_aligned
calls=5 0
16 50
cfn=(3) free
calls=5 0
16 9

fn=(2)
20 40
cfn=(4) mi_malloc
calls=5 0
20 10

fn=(5) more
cfn=(4)
calls=2 0
30 4
totals: 1234
";
        assert_eq!(Cost::read(file).unwrap(), Cost { instructions: 1234.0, allocations: 7.0 });
        assert!(Cost::read("fn=(1) work\n").is_err());
    }
}
