//! The package that integration/package.sh has built, and one of the version after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::ensure;
use crate::rig::tool::{run, run_allowing};
use crate::rig::{Result, Rig};

const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// The package, which must not be older than what it is made of.
pub(crate) fn built() -> Result<PathBuf> {
    let advice = "run integration/package.sh, or integration/test.sh";
    let folder = Path::new(SOURCE).join("dist");
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}; {advice}", folder.display()))?;
    let mut packages: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    let (Some(package), None) = (packages.pop(), packages.pop()) else {
        return Err(format!("{}: not one package; {advice}", folder.display()));
    };
    let made = changed(&package)?;
    for part in ["src", "config", "docs", "Cargo.toml", "Cargo.lock"] {
        let (time, file) = newest(&Path::new(SOURCE).join(part))?;
        if time > made {
            return Err(format!("{} is older than {}: {advice}", package.display(), file.display()));
        }
    }
    Ok(package)
}

/// lintian has nothing to say that config/debian/lintian-overrides does not answer.
pub(crate) fn clean(_: &Rig) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning"]).arg(built()?);
    let said = run_allowing(&mut lintian, "", &[2])?;
    let remarks = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure(said.status.success(), || remarks)
}

/// The same with a higher version, changed as told by a script of the shell that runs in its tree.
pub(crate) fn next(package: &Path, folder: &Path, change: &str) -> Result<PathBuf> {
    let tree = folder.join("next");
    run(Command::new("dpkg-deb").arg("--raw-extract").args([package, &tree]), "")?;
    let script = format!("set -e; sed -i '/^Version:/s/$/+next1/' DEBIAN/control; {change}");
    run(Command::new("sh").args(["-c", &script]).current_dir(&tree), "")?;
    let next = folder.join("encr-milter-next.deb");
    run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).args([&tree, &next]), "")?;
    Ok(next)
}

fn changed(path: &Path) -> Result<SystemTime> {
    let time = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    time.map_err(|e| format!("{}: {e}", path.display()))
}

/// Which file below a path changed last, and when.
fn newest(path: &Path) -> Result<(SystemTime, PathBuf)> {
    if !path.is_dir() {
        return Ok((changed(path)?, path.to_owned()));
    }
    let entries = fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let below: Result<Vec<_>> = entries.flatten().map(|entry| newest(&entry.path())).collect();
    below?.into_iter().max().ok_or_else(|| format!("{}: nothing in it", path.display()))
}
