//! encr-milter: arguments → command → exit code.

use std::process::ExitCode;

/// Records are made by the thread that answers and freed by the one that writes: glibc has such threads wait for each
/// other, and keeps what ten thousand connections needed for good. How it gives back is set in `.cargo/config.toml`;
/// docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    encr_milter::cli::main()
}
