//! The daemon's own file: read or told of, the same each time; what is read is whole, with paths that are absolute.
#![no_main]

use encr_milter::daemon_file::{DaemonFile, Read, read};
use encr_milter::listener::Address;
use encr_milter_fuzz::{check, memory};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// In memory where there is such a place: nothing is to be kept.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder for the file")
});

fn load(bytes: &[u8]) -> Option<DaemonFile> {
    let path = FOLDER.path().join("encr-milter.toml");
    fs::write(&path, bytes).expect("the file can be written");
    let Read { daemon, diagnostics, sources, .. } = memory::bounded(bytes.len(), 2_000, || read(&path));
    check::diagnostics(&diagnostics, &sources);
    assert_eq!(daemon.is_none(), diagnostics.has_errors());
    daemon
}

fuzz_target!(|bytes: &[u8]| {
    let Some(daemon) = load(bytes) else { return };
    assert_eq!(load(bytes).as_ref(), Some(&daemon));
    let remarked = load(&[bytes, b"\n# a remark\n"].concat());
    assert_eq!(remarked.as_ref(), Some(&daemon));

    assert!(!daemon.milter.listen.is_empty());
    for sockets in [&daemon.milter, &daemon.outbound] {
        assert!(sockets.max_connections > 0 && !sockets.idle.is_zero() && sockets.ownership.mode <= 0o777);
        for address in &sockets.listen {
            // What is shown in the log can be written into the file again.
            assert_eq!(address.to_string().parse::<Address>().as_ref().ok(), Some(address), "{address}");
        }
    }
    assert!(daemon.max_connections() >= daemon.milter.max_connections);
    assert!(daemon.policy.max_size > 0);
    let decisions = daemon.log.decisions.iter();
    assert!(
        daemon.policy.patterns.iter().chain(decisions).chain([&daemon.state]).all(|path| path.is_absolute())
    );
});
