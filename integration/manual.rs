//! Writes what of the manual and the completions is made from the definitions that parse: `cargo run --example manual`.
//!
//! Promises: what it writes is what `tests/manual.rs` holds the committed files to.

#[path = "manual/pages.rs"]
mod pages;

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    for (path, text) in pages::all()? {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::write(&path, text).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    Ok(())
}
