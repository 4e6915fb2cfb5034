//! The samples in config/, which people copy: they are sound, show every setting, and say the truth of the
//! defaults.

// Helpers of tests may stop at once, as tests may.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use encr_milter::daemon_file;
use std::fs;
use std::path::{Path, PathBuf};
use support::daemon::run;
use support::load_text;

/// A file of the source tree.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A sample with the settings that are commented out in it no longer commented out.
fn uncommented(text: &str, only: impl Fn(&str) -> bool) -> String {
    let line = |line: &str| {
        let setting = line.strip_prefix('#').filter(|rest| {
            let name = rest.split([' ', '=']).next().unwrap_or_default();
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            (is_name && rest[name.len()..].trim_start().starts_with("= ")) || rest.starts_with('[')
        });
        setting.filter(|rest| only(rest)).unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn the_samples_in_config_are_sound() {
    let config = source("config/encr-milter.toml");
    let policy = source("config/policy.toml");
    for arguments in
        [["check", "-c", config.to_str().unwrap()], ["check", "--policy", policy.to_str().unwrap()]]
    {
        let output = run(&arguments, b"");
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), b"".as_slice()),
            "{arguments:?}"
        );
        assert!(output.stdout.ends_with(b"sound\n"));
    }
}

#[test]
fn the_sample_of_the_daemon_file_shows_every_setting_with_its_default() {
    let text = fs::read_to_string(source("config/encr-milter.toml")).unwrap();
    let all = uncommented(&text, |_| true);
    // Sockets of several kinds have the first.
    for (setting, count) in [
        ("listen", 4),
        ("max-connections", 2),
        ("socket-user", 2),
        ("socket-group", 2),
        ("socket-mode", 2),
        ("idle-timeout", 2),
        ("drain-timeout", 1),
        ("files", 1),
        ("max-size", 1),
        ("level", 1),
        ("format", 1),
        ("output", 1),
        ("decisions", 1),
        ("syslog-server", 1),
        ("syslog-facility", 1),
        ("syslog-max-size", 1),
        ("dir", 1),
        ("enabled", 2),
        ("keep-days", 1),
        ("max-peers", 1),
    ] {
        let found = all.lines().filter(|line| line.starts_with(&format!("{setting} = "))).count();
        assert_eq!(found, count, "{setting}");
    }
    // What is commented out is the default: it makes no difference. But for the socket's owner, who has no
    // name that would be right everywhere.
    let all = uncommented(&text, |setting| {
        !setting.starts_with("socket-user") && !setting.starts_with("socket-group")
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("short.toml"), "version = 1\n").unwrap();
    fs::write(folder.path().join("all.toml"), &all).unwrap();
    let read = |name: &str| daemon_file::read(&folder.path().join(name));
    let (short, all) = (read("short.toml"), read("all.toml"));
    assert_eq!(all.diagnostics.summary(), None, "{}", all.diagnostics.render(&all.sources, false));
    let (short, mut all) = (short.daemon.unwrap(), all.daemon.unwrap());
    // And for decisions, which the sample has written.
    assert!(all.log.decisions.take().is_some() && short.log.decisions.is_none());
    // Mail that leaves is asked about where it is told to be: the sample shows where that might be.
    assert!(!all.outbound.listen.is_empty() && short.outbound.listen.is_empty());
    all.outbound.listen.clear();
    // And so is where metrics might be asked for.
    assert!(!all.http.is_empty() && short.http.is_empty());
    all.http.clear();
    assert_eq!(all, short);
}

#[test]
fn the_sample_policys_examples_are_sound_and_its_defaults_are_the_defaults() {
    let text = fs::read_to_string(source("config/policy.toml")).unwrap();
    let fingerprint = |text: &str| {
        let loaded = load_text(text.as_bytes());
        assert_eq!(
            loaded.diagnostics.summary(),
            None,
            "{}",
            loaded.diagnostics.render(&loaded.sources, false)
        );
        loaded.policy.unwrap().fingerprint().to_string()
    };
    let exempt =
        |line: &str| ["authenticated", "networks", "recipients"].iter().any(|name| line.starts_with(name));
    let defaults = uncommented(&text, exempt);
    assert_ne!(defaults, text);
    assert_eq!(fingerprint(&defaults), fingerprint(&text));
    let all = uncommented(&text, |_| true);
    assert_ne!(fingerprint(&all), fingerprint(&text));
    assert!(all.matches("[[rule]]").count() >= 2, "examples of rules are to be in it");
}

/// A setting of the unit.
fn unit(name: &str) -> String {
    let unit = fs::read_to_string(source("config/encr-milter.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("the unit has no {name}")).to_owned()
}

#[test]
fn the_unit_and_the_daemons_defaults_agree() {
    let command = unit("ExecStart");
    assert_eq!(command, format!("/usr/bin/encr-milter run -c {}", daemon_file::DEFAULT_PATH));

    // The folders that the unit makes are those that the defaults and the sample name.
    let daemon = daemon_file::read(&source("config/encr-milter.toml")).daemon.unwrap();
    let folder = |root: &str, name: &str| Path::new(root).join(unit(name));
    assert_eq!(daemon.state, folder("/var/lib", "StateDirectory"));
    assert_eq!(daemon.log.decisions.as_ref().unwrap().parent().unwrap(), folder("/var/log", "LogsDirectory"));
    let listen = daemon.milter.listen.first().unwrap().to_string();
    let socket = Path::new(listen.strip_prefix("unix:").unwrap());
    assert_eq!(socket.parent().unwrap(), folder("/run", "RuntimeDirectory"));
    // sendmail refuses a socket in a folder that a group or everybody may write to.
    assert_eq!(unit("RuntimeDirectoryMode"), "0755");

    let stop: u64 = unit("TimeoutStopSec").trim_end_matches('s').parse().unwrap();
    assert!(stop > daemon.drain.as_secs(), "systemd would cut the drain off");
    // A reload answers with its outcome, by the socket that the daemon's file has.
    assert_eq!(unit("ExecReload"), format!("/usr/bin/encr-milter reload -c {}", daemon_file::DEFAULT_PATH));
    assert_eq!(
        daemon.control.as_deref(),
        Some(folder("/run", "RuntimeDirectory").join("control.sock").as_path())
    );
    assert_eq!(unit("Type"), "notify");
    assert!(unit("WatchdogSec").ends_with('s') && unit("RuntimeDirectoryPreserve") == "yes");
    let descriptors: usize = unit("LimitNOFILE").parse().unwrap();
    assert!(descriptors > daemon.max_connections());
}

#[test]
fn the_socket_unit_has_the_sockets_of_the_daemons_file() {
    let text = fs::read_to_string(source("config/encr-milter.socket")).unwrap();
    let streams = |prefix: &str| -> Vec<String> {
        let addresses = text.lines().filter_map(|line| line.strip_prefix(prefix));
        addresses.map(|address| format!("unix:{address}")).collect()
    };
    let addresses = |sockets: &daemon_file::Sockets| -> Vec<String> {
        sockets.listen.iter().map(ToString::to_string).collect()
    };
    let sample = fs::read_to_string(source("config/encr-milter.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("all.toml"), uncommented(&sample, |line| !line.starts_with("socket-")))
        .unwrap();
    let daemon = daemon_file::read(&folder.path().join("all.toml")).daemon.unwrap();
    assert_eq!(streams("ListenStream="), addresses(&daemon.milter));
    // Commented out in both.
    assert_eq!(streams("#ListenStream="), addresses(&daemon.outbound));
    assert!(text.contains(&format!("\nSocketMode={:04o}\n", daemon.milter.ownership.mode)));
    assert!(text.contains(&format!("-m {} /run/encr-milter\n", unit("RuntimeDirectoryMode"))));
}
