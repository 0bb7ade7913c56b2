//! Load generator for Countersign: reserved, nothing is measured here yet.

fn main() {}
