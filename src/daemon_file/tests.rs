//! What a daemon's file says, and what is told of a wrong one.

use super::*;
use crate::telemetry::entry::Format;
use crate::telemetry::sink::{JOURNAL, Target, syslog};
use tracing::Level;

fn of(text: &str) -> (DaemonFile, Vec<&'static str>) {
    let mut diagnostics = Diagnostics::default();
    let mut sources = Sources::default();
    let file = sources.add("d.toml".into(), text.into());
    let daemon = parse(text, file, Path::new("/etc/x"), &mut diagnostics);
    (daemon, diagnostics.iter().map(|diagnostic| diagnostic.code).collect())
}

#[test]
fn every_setting_is_read() {
    let (daemon, codes) = of(r#"
        version = 1
        [milter]
        listen = ["unix:/run/m.sock", "inet:8891@127.0.0.1"]
        max-connections = 7
        socket-user = "root"
        socket-group = "root"
        socket-mode = "0600"
        idle-timeout = 60
        drain-timeout = 5
        [policy]
        files = ["a.toml", "/b/*.toml"]
        max-size = 1000
        [log]
        level = "debug"
        format = "json"
        output = "log/encr-milter.log"
        decisions = "/var/log/d.jsonl"
        [state]
        dir = "state"
        [evidence]
        keep-days = 30
        max-peers = 100
    "#);
    assert_eq!(codes, [] as [&str; 0]);
    assert_eq!(daemon.milter.listen.len(), 2);
    assert_eq!((daemon.milter.max_connections, daemon.milter.ownership.mode), (7, 0o600));
    assert_eq!((daemon.milter.idle.as_secs(), daemon.drain.as_secs()), (60, 5));
    assert_eq!(daemon.policy.patterns, [Path::new("/etc/x/a.toml"), Path::new("/b/*.toml")]);
    assert_eq!((daemon.log.level, daemon.log.format), (Level::DEBUG, Format::Json));
    assert_eq!(daemon.log.output, Target::File("/etc/x/log/encr-milter.log".into()));
    assert_eq!(daemon.state, Path::new("/etc/x/state"));
    assert_eq!(daemon.evidence, Some(Evidence { keep_days: 30, max_peers: 100 }));
    let (off, codes) = of("version = 1\n[evidence]\nenabled = false\n");
    assert_eq!((off.evidence, codes.len()), (None, 0));
}

#[test]
fn mistakes_are_told_all_at_once() {
    let (_, codes) = of(
        "version = 1\nx = 1\n[milter]\nlisten = [\"inet:8891\", \"/a\", \"/a\"]\nsocket-mode = \"rw\"\nsocket-user = \"no-such-user-here\"\nidle-timeout = 0\n[log]\nlevel = \"inf\"\nformat = \"xml\"\noutput = \"sdterr\"\n[policy]\nfiles = []\n[evidence]\nenabled = 1\nkeep-days = 0\nmax-peers = \"many\"\nkeep = 1\n[http]\nlisten = \"9354\"\n",
    );
    assert_eq!(
        codes,
        [
            "unknown-field",
            "bad-listen",
            "duplicate-listen",
            "bad-mode",
            "out-of-range",
            "unknown-name",
            "no-policy",
            "unknown-value",
            "unknown-value",
            "unknown-value",
            "unknown-field",
            "out-of-range",
            "wrong-type",
            "wrong-type",
            "bad-listen"
        ]
    );
    assert_eq!(of("").1, ["missing-version"]);
    assert_eq!(of("version = 1\n[milter]\nlisten = []\n").1, ["no-listen"]);
}

#[test]
fn the_log_goes_to_the_journal_or_to_syslog() {
    let (daemon, codes) = of("version = 1\n[log]\noutput = \"journald\"\nsyslog-facility = \"local0\"\n");
    let facility = syslog::Facility::named("local0").unwrap();
    assert_eq!((daemon.log.output, codes.len()), (Target::Journal { socket: JOURNAL.into(), facility }, 0));
    let (daemon, codes) = of("version = 1\n[log]\noutput = \"syslog\"\n");
    assert_eq!((daemon.log.output, codes.len()), (Target::Syslog(syslog::Settings::default()), 0));
    let (daemon, codes) = of(
        "version = 1\n[log]\noutput = \"syslog\"\nsyslog-server = \"tcp://[::1]:515\"\nsyslog-max-size = 2048\n",
    );
    let server = syslog::Server::Tcp("::1".into(), 515);
    let settings = syslog::Settings { server, max_size: 2048, ..syslog::Settings::default() };
    assert_eq!((daemon.log.output, codes.len()), (Target::Syslog(settings), 0));
    let wrong = "version = 1\n[log]\noutput = \"journald\"\nformat = \"json\"\nsyslog-server = \"loghost\"\nsyslog-facility = \"mial\"\nsyslog-max-size = 100\n";
    assert_eq!(of(wrong).1, ["bad-syslog-server", "unknown-value", "out-of-range", "unused-setting"]);
    let one_file = "version = 1\n[log]\noutput = \"/var/log/x.log\"\ndecisions = \"/var/log/x.log\"\n";
    assert_eq!(of(one_file).1, ["bad-decisions"]);
}

#[test]
fn where_metrics_are_served() {
    let http = |listen: &str| {
        let milter =
            "version = 1\n[milter]\nlisten = [\"inet:9000@localhost\", \"inet6:9000@::1\"]\n[http]\n";
        let (daemon, codes) = of(&format!("{milter}{listen}\n"));
        let addresses: Vec<_> = daemon.http.iter().map(ToString::to_string).collect();
        (addresses.join(" "), codes.join(" "))
    };
    for (listen, addresses, codes) in [
        ("listen = \"127.0.0.1:9354\"", "127.0.0.1:9354", ""),
        ("listen = [\"127.0.0.1:9354\", \"[::1]:9354\"]", "127.0.0.1:9354 [::1]:9354", ""),
        ("listen = [\"127.0.0.1:9354\", \"127.0.0.1:9354\"]", "127.0.0.1:9354", "duplicate-listen"),
        ("listen = \"0.0.0.0:9354\"", "0.0.0.0:9354", "open-http"),
        ("listen = \"[::]:9354\"", "[::]:9354", "open-http"),
        ("listen = \"localhost:9354\"", "", "bad-listen"),
        ("listen = \"127.0.0.1\"", "", "bad-listen"),
        ("listen = \"127.0.0.1:0\"", "", "bad-listen"),
        ("listen = \"inet:9354@127.0.0.1\"", "", "bad-listen"),
        ("listen = \"127.0.0.1:9000\"", "", "duplicate-listen"),
        ("listen = \"[::1]:9000\"", "", "duplicate-listen"),
        ("listen = 9354", "", "wrong-type"),
        ("listen = []", "", "no-listen"),
        ("", "", "no-listen"),
        ("port = 9354", "", "unknown-field no-listen"),
    ] {
        assert_eq!(http(listen), (addresses.to_owned(), codes.to_owned()), "{listen}");
    }
}

#[test]
fn the_control_socket_lies_beside_the_first_unix_socket() {
    let control = |text: &str| {
        let (daemon, codes) = of(&format!("version = 1\n{text}"));
        (daemon.control.map(|path| path.display().to_string()), codes)
    };
    let at = |path: &str| Some(path.to_owned());
    assert_eq!(control(""), (at("/run/encr-milter/control.sock"), vec![]));
    assert_eq!(
        control("[milter]\nlisten = [\"inet:1@h\", \"unix:/a/b/m\", \"/c/d\"]"),
        (at("/a/b/control.sock"), vec![])
    );
    assert_eq!(control("[milter]\nlisten = \"inet:1@h\""), (at("/run/encr-milter/control.sock"), vec![]));
    assert_eq!(control("[control]\nlisten = \"unix:/x/y\""), (at("/x/y"), vec![]));
    assert_eq!(control("[control]\nlisten = \"unix:/x/y\"\nenabled = false"), (None, vec![]));
    assert_eq!(control("[control]\nenabled = false"), (None, vec![]));
    for wrong in ["\"inet:1@h\"", "\"run/x\"", "\"what\""] {
        assert_eq!(control(&format!("[control]\nlisten = {wrong}")), (None, vec!["bad-listen"]), "{wrong}");
    }
    let (_, codes) = control("[milter]\nlisten = \"/a\"\n[control]\nlisten = \"unix:/a\"");
    assert_eq!(codes, ["duplicate-listen"]);
    let (_, codes) = control("[control]\nlisten = 1\nenabled = \"no\"\nmode = \"0666\"");
    assert_eq!(codes, ["unknown-field", "wrong-type", "wrong-type"]);
    // A name that is longer than the milter's own may be too long.
    let long = format!("[milter]\nlisten = \"/{}/m\"", "x".repeat(97));
    assert_eq!(control(&long), (None, vec!["no-control"]));
}
