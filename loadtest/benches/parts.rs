//! `cargo bench -p loadtest`: the parts of the hot path, each alone.

use std::io::{self, Write as _};

use anyhow::Result;
use loadtest::arena::Arena;
use loadtest::measure::parts::{measure, told};
use loadtest::population::{Keys, Population};
use loadtest::progress::Progress;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let parts = runtime.block_on(async {
        let progress = Progress::default();
        // No gateway is started: the library alone is timed.
        let arena = Arena::new(Population::new(1, 1, Keys::Ed25519)?, "countersign".into())?;
        let parts = measure(&arena, &progress).await;
        progress.show("");
        parts
    })?;
    write!(io::stdout(), "{}", told(&parts))?;
    Ok(())
}
