//! Changes a policy file in every manner in which editors and deployments do it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Result;

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Manner {
    /// Written over, as `cat >` and nano do it.
    #[default]
    InPlace,
    /// A new file is written beside it and renamed over it, as vim and atomic writers do it.
    Rename,
    /// The old file is moved away to `NAME~` and a new one written, as Emacs does it.
    BackupFirst,
    /// The name is a symlink that is swapped to a new target, as in releases of `/current -> /v2`.
    Symlink,
    /// The folder is a symlink that is swapped, and with it all in it, as Kubernetes does.
    FolderSymlink,
    /// Removed, then written anew.
    RemoveFirst,
    /// Written in many small pieces, each of them flushed.
    Pieces,
    /// Removed. There is no new text.
    Remove,
}

pub(crate) fn edit(file: &Path, manner: Manner, text: &str) -> Result<()> {
    let change = || match manner {
        Manner::InPlace => fs::write(file, text),
        Manner::Rename => {
            let new = beside(file, ".new");
            let mut out = File::create(&new)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(new, file)
        }
        Manner::BackupFirst => {
            fs::rename(file, beside(file, "~"))?;
            fs::write(file, text)
        }
        Manner::Symlink => {
            let target = unused(|number| beside(file, &format!(".v{number}")));
            fs::write(&target, text)?;
            swap_link(&target, file)
        }
        Manner::FolderSymlink => {
            let folder = file.parent().unwrap_or(Path::new("."));
            let target = unused(|number| beside(folder, &format!(".v{number}")));
            fs::create_dir(&target)?;
            for old in fs::read_dir(folder)? {
                let old = old?;
                fs::copy(old.path(), target.join(old.file_name()))?;
            }
            fs::write(target.join(file.file_name().unwrap_or_default()), text)?;
            swap_link(&target, folder)
        }
        Manner::RemoveFirst => {
            fs::remove_file(file)?;
            fs::write(file, text)
        }
        Manner::Pieces => {
            let mut out = OpenOptions::new().write(true).truncate(true).create(true).open(file)?;
            text.as_bytes().chunks(64).try_for_each(|piece| out.write_all(piece))
        }
        Manner::Remove => fs::remove_file(file),
    };
    change().map_err(|e| format!("editing {} ({manner:?}): {e}", file.display()))
}

/// The name with something after it, in the same folder.
fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

fn unused(name: impl Fn(u32) -> PathBuf) -> PathBuf {
    let mut number = 1;
    while name(number).exists() {
        number += 1;
    }
    name(number)
}

/// In one step, so that there is no moment without the name.
fn swap_link(target: &Path, link: &Path) -> std::io::Result<()> {
    let new = beside(link, ".link");
    symlink(target, &new)?;
    // A real folder cannot be renamed over: the first swap moves it away.
    if link.is_dir() && !link.is_symlink() {
        fs::rename(link, beside(link, ".v0"))?;
    }
    fs::rename(new, link)
}
