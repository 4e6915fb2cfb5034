//! Whether sendmail would open a unix socket: its own rules for files, and the permissions of the one it runs as.
//!
//! They are those of its `safefile`, as it calls that for a milter: no folder on the way may be written to by a group or
//! by everybody (DontBlameSendmail lifts that), the socket is no link of either kind, and its mode gives reading and
//! writing.

use super::machine::{Machine, Who, group_name, user_name};
use crate::sendmail::cf::Cf;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// As many symbolic links may follow each other.
const MAX_LINKS: usize = 20;

/// Why sendmail would not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsafe {
    /// There is nothing.
    Missing(PathBuf),
    /// A folder on the way.
    Folder { path: PathBuf, mode: u32, everybody: bool },
    /// It is a symbolic link, or has a second name.
    Link(PathBuf),
    /// It is no socket.
    NoSocket(PathBuf),
    /// Its mode, or a folder's, keeps it from those it runs as.
    Denied { path: PathBuf, owner: String, user: String },
    /// It cannot be looked at.
    NotSeen(PathBuf, String),
}

/// What sendmail.cf says of it.
pub(super) struct Rules {
    pub(super) who: Who,
    group_writable_is_safe: bool,
    trusts_sticky: bool,
}

impl Rules {
    /// Nothing where the user that it names is not known here.
    pub(super) fn of(cf: &Cf) -> Option<Self> {
        let who = match cf.option("RunAsUser") {
            Some(user) => Who::named(user)?,
            None => Who::root(),
        };
        let lifted = |word| cf.option_has("DontBlameSendmail", word);
        Some(Self {
            who,
            group_writable_is_safe: lifted("GroupWritableDirPathSafe"),
            trusts_sticky: lifted("TrustStickyBit"),
        })
    }

    /// Whether it would open this socket.
    pub(super) fn check(&self, machine: &Machine, socket: &Path) -> Result<(), Unsafe> {
        let folder = socket.parent().unwrap_or(Path::new("/"));
        let folder = self.folders(machine, folder, 0)?;
        let resolved = socket.file_name().map_or_else(|| folder.clone(), |name| folder.join(name));
        let meta = look(machine, &resolved)?;
        if meta.file_type().is_symlink() || meta.nlink() > 1 {
            return Err(Unsafe::Link(socket.to_path_buf()));
        }
        if !meta.file_type().is_socket() {
            return Err(Unsafe::NoSocket(socket.to_path_buf()));
        }
        // As root it looks at the owner's bits.
        let allowed = if self.who.uid == 0 { meta.mode() & 0o600 == 0o600 } else { self.who.may(&meta, 0o6) };
        if allowed { Ok(()) } else { Err(self.denied(socket, &meta)) }
    }

    fn denied(&self, path: &Path, meta: &Metadata) -> Unsafe {
        let mode = meta.mode() & 0o7777;
        let owner = format!("{}:{} {mode:04o}", user_name(meta.uid()), group_name(meta.gid()));
        Unsafe::Denied { path: path.to_path_buf(), owner, user: user_name(self.who.uid) }
    }

    /// Goes through all folders on the way; gives where it leads, links followed.
    fn folders(&self, machine: &Machine, folder: &Path, links: usize) -> Result<PathBuf, Unsafe> {
        if links > MAX_LINKS {
            return Err(Unsafe::NotSeen(folder.to_path_buf(), "too many symbolic links".to_owned()));
        }
        let mut path = PathBuf::new();
        for component in folder.components() {
            path.push(component);
            if matches!(component, Component::CurDir | Component::ParentDir) {
                continue;
            }
            let meta = look(machine, &path)?;
            if meta.file_type().is_symlink() {
                let target = fs::read_link(machine.path(&path))
                    .map_err(|error| Unsafe::NotSeen(path.clone(), error.to_string()))?;
                let target = path.parent().unwrap_or(Path::new("/")).join(target);
                path = self.folders(machine, &target, links + 1)?;
                continue;
            }
            let mode = meta.mode() & 0o7777;
            let writable = if self.group_writable_is_safe { 0o002 } else { 0o022 };
            if mode & writable != 0 && !(self.trusts_sticky && mode & 0o1000 != 0) {
                return Err(Unsafe::Folder { path, mode, everybody: mode & 0o002 != 0 });
            }
            if !self.who.may(&meta, 0o1) {
                return Err(self.denied(&path, &meta));
            }
        }
        Ok(path)
    }
}

fn look(machine: &Machine, path: &Path) -> Result<Metadata, Unsafe> {
    fs::symlink_metadata(machine.path(path)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Unsafe::Missing(path.to_path_buf()),
        _ => Unsafe::NotSeen(path.to_path_buf(), error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    /// A root with a socket in run/encr-milter.
    fn tree() -> (tempfile::TempDir, UnixListener) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/encr-milter");
        fs::create_dir_all(&folder).unwrap();
        for path in [root.path(), &root.path().join("run"), &folder] {
            mode(path, 0o755);
        }
        let socket = UnixListener::bind(folder.join("milter.sock")).unwrap();
        mode(&folder.join("milter.sock"), 0o660);
        (root, socket)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn check(root: &Path, cf: &str, socket: &str) -> Result<(), Unsafe> {
        Rules::of(&Cf::parse(cf)).unwrap().check(&Machine::at(root), Path::new(socket))
    }

    const SOCKET: &str = "/run/encr-milter/milter.sock";

    #[test]
    fn folders_that_others_may_write_to_are_unsafe() {
        let (root, _socket) = tree();
        assert_eq!(check(root.path(), "", SOCKET), Ok(()));
        let run = root.path().join("run");
        for (bits, everybody, lifted) in
            [(0o775, false, "GroupWritableDirPathSafe"), (0o1777, true, "TrustStickyBit"), (0o757, true, "")]
        {
            mode(&run, bits);
            let unsafe_folder = Unsafe::Folder { path: "/run".into(), mode: bits, everybody };
            assert_eq!(check(root.path(), "", SOCKET), Err(unsafe_folder));
            let cf = format!("O DontBlameSendmail=MapInUnsafeDirPath,{lifted}\n");
            assert_eq!(check(root.path(), &cf, SOCKET).is_ok(), !lifted.is_empty(), "{bits:o}");
        }
    }

    #[test]
    fn links_on_the_way_are_followed_and_the_socket_is_none() {
        let (root, _socket) = tree();
        symlink("/run", root.path().join("absolute")).unwrap();
        symlink("run", root.path().join("relative")).unwrap();
        symlink("round", root.path().join("round")).unwrap();
        assert_eq!(check(root.path(), "", "/absolute/encr-milter/milter.sock"), Ok(()));
        assert_eq!(check(root.path(), "", "/relative/encr-milter/milter.sock"), Ok(()));
        assert!(matches!(check(root.path(), "", "/round/x"), Err(Unsafe::NotSeen(..))));
        let folder = root.path().join("run/encr-milter");
        symlink("milter.sock", folder.join("link")).unwrap();
        let link = "/run/encr-milter/link";
        assert_eq!(check(root.path(), "", link), Err(Unsafe::Link(link.into())));
        fs::hard_link(folder.join("milter.sock"), folder.join("second")).unwrap();
        assert_eq!(check(root.path(), "", SOCKET), Err(Unsafe::Link(SOCKET.into())));
        mode(&root.path().join("run"), 0o777);
        assert!(matches!(check(root.path(), "", "/relative/encr-milter/x"), Err(Unsafe::Folder { .. })));
    }

    #[test]
    fn what_is_missing_or_no_socket_or_not_for_its_user() {
        let (root, _socket) = tree();
        let gone = "/run/encr-milter/gone";
        assert_eq!(check(root.path(), "", gone), Err(Unsafe::Missing(gone.into())));
        let file = root.path().join("run/encr-milter/file");
        fs::write(&file, "").unwrap();
        let path = "/run/encr-milter/file";
        assert_eq!(check(root.path(), "", path), Err(Unsafe::NoSocket(path.into())));
        // Nobody of this machine has this number; the socket is the test's own user's.
        let other = "O RunAsUser=54321:54321\n";
        assert!(
            matches!(check(root.path(), other, SOCKET), Err(Unsafe::Denied { path, .. }) if path == Path::new(SOCKET))
        );
        mode(&root.path().join("run/encr-milter/milter.sock"), 0o666);
        assert_eq!(check(root.path(), other, SOCKET), Ok(()));
        mode(&root.path().join("run/encr-milter"), 0o750);
        assert!(
            matches!(check(root.path(), other, SOCKET), Err(Unsafe::Denied { path, .. }) if path.ends_with("encr-milter"))
        );
        assert!(Rules::of(&Cf::parse("O RunAsUser=no-such-user-here\n")).is_none());
    }
}
