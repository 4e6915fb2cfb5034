//! `encr-milter evidence merge`: the evidence of several hosts in one file.
//!
//! Promises: whoever looks finds the new file whole, or none; the files that are merged are only read.

use super::{failed, stats};
use crate::cli::{complain, exit};
use crate::database::beside;
use crate::evidence::store::{Store, StoreError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Put the evidence of several hosts together in a new file
///
/// The result is that of one host that had seen it all, in whatever order the files are given, bounds included:
/// of each day as many peers are kept apart as in the file that keeps fewest. The files may be in use.
///
/// Exit code 73: the new file cannot be made, or is there already; 66: a file is missing; 65: one is damaged, or
/// no evidence; 64: one is given twice, or is the new one.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The files, as evidence.db of each host's state folder
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The new file
    #[arg(short, long, value_name = "FILE", default_value = "merged.db")]
    output: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Tell what is in the new file as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> io::Result<u8> {
    let Arguments { files, output, force, json } = arguments;
    let refused = |why: &str| {
        complain(&format!("{}: {why}", output.display()));
        Ok(exit::CANT_CREATE)
    };
    let mut given: Vec<(PathBuf, &Path)> = Vec::new();
    for file in files {
        // Where it cannot be told, opening says why.
        let Ok(real) = file.canonicalize() else { continue };
        if let Some((_, first)) = given.iter().find(|(known, _)| *known == real) {
            let (file, first) = (file.display(), first.display());
            complain(&format!("{file}: the same file as {first}: what is in it would be counted twice"));
            return Ok(exit::USAGE);
        }
        given.push((real, file));
    }
    // A glob from cron that takes in the result of yesterday would count all of it again each day.
    if output.canonicalize().is_ok_and(|real| given.iter().any(|(known, _)| *known == real)) {
        complain(&format!(
            "{}: is one of the files that are merged: give another name to --output",
            output.display()
        ));
        return Ok(exit::USAGE);
    }
    if output.exists() && !force {
        return refused("exists: give another name to --output, or --force to replace it");
    }
    let beside_it = || beside(output).iter().any(|file| file.exists());
    if beside_it() {
        // Where nobody has it open, SQLite takes away what was left by who could not.
        drop(Store::open_read_only(output));
    }
    if beside_it() {
        return refused("is in use, by a daemon perhaps: give another name to --output");
    }
    // `evidence.db` has an empty parent, which is no folder.
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let new = tempfile::Builder::new()
        .prefix(".encr-milter-")
        .permissions(std::fs::Permissions::from_mode(0o640))
        .tempfile_in(folder);
    let new = match new {
        Ok(new) => new,
        Err(error) => return refused(&format!("cannot be made: {error}")),
    };
    let stats = match merge(new.path(), files) {
        Ok(stats) => stats,
        Err(error) => return Ok(failed(&error)),
    };
    let kept = if *force {
        new.persist(output).map_err(|error| error.error)
    } else {
        // Somebody may have made it meanwhile.
        new.persist_noclobber(output).map_err(|error| error.error)
    };
    if let Err(error) = kept {
        return refused(&format!("cannot be made: {error}"));
    }
    stats::tell(output, &stats, *json)?;
    Ok(exit::OK)
}

fn merge(new: &Path, files: &[PathBuf]) -> Result<crate::evidence::store::Stats, StoreError> {
    let mut merged = Store::open(new)?;
    for file in files {
        merged.merge_from(&Store::open_read_only(file)?)?;
    }
    let stats = merged.stats()?;
    merged.close()?;
    Ok(stats)
}
