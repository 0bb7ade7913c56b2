//! What the gateway says of itself agrees with the official JSON Schemas, and the official examples
//! pass. The official files are not part of this repository: `ACP_SPEC_DIR` names a directory with
//! `spec/` and `examples/`; without it these tests say so and do nothing.

pub mod official;
