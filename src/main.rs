//! The `countersign` binary: arguments in, exit code out.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use countersign::cli::{self, Arguments};
use countersign::server::process;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped: a card passes through buffers of libraries that know nothing of cards.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    // Before a key or a credential is read.
    if let Err(error) = process::hide_memory() {
        let _ =
            writeln!(io::stderr(), "countersign: this process's memory cannot be kept to itself: {error}");
        return ExitCode::FAILURE;
    }
    match cli::run(&Arguments::parse(), &mut io::stdout(), &mut io::stderr()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "countersign: {error}");
            ExitCode::FAILURE
        }
    }
}
