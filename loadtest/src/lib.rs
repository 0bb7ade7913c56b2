//! Load generator and comparison bench for Countersign. `README.md` beside this crate says what is
//! measured, how, and what came out.
//!
//! From the ground up: numbers, processes and who takes part; requests, connections and loops that
//! send them; the merchant that answers; preparation and the check of the books; results; and the
//! measurements themselves.

pub mod numbers;
pub mod progress;
pub mod process;
pub mod placement;
pub mod population;
pub mod request;
pub mod acp;
pub mod connection;
pub mod merchant;
pub mod outcome;
pub mod checkout;
pub mod job;
pub mod drive;
pub mod passthrough;
pub mod gateway;
pub mod prepare;
pub mod books;
pub mod arena;
pub mod report;
pub mod scenario;
pub mod compare;
pub mod measure;
pub mod run;
pub mod callgrind;
pub mod gate;
