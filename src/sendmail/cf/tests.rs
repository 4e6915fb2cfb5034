//! sendmail.cf, as m4 makes it and as hands have changed it.

use super::*;

const CF: &str = "\
# a comment
V10/Berkeley
O LogLevel=8
O InputMailFilters=other, encr-milter
O DaemonPortOptions=Name=MTA-v4, Family=inet, Addr=192.0.2.1, Port=smtp, M=Sa
O DaemonPortOptions=Name=MSP, Port=587, I=first;second
O DaemonPortOptions=Family=inet6
O Milter.macros.envfrom=i, {auth_type}
O DontBlameSendmail=TrustStickyBit, MapInUnsafeDirPath
O RunAsUser
Kaccess hash -T<TMPF> -o /etc/mail/access
Kencr_milter socket -f -T<TMPF> local:/run/encr-milter/outbound.sock
Xencr-milter, S=local:/run/encr-milter/milter.sock, F=T,
\tT=C:10s;S:10s;R:30s;E:2m
Xother,S=inet:8891@127.0.0.1
Scheckrcpt
R$*\t\t$: <?>
\t$1
R$-\t$@ OK
STls_Server=3
";

#[test]
fn filters_are_read_with_their_equates() {
    let cf = Cf::parse(CF);
    assert_eq!(cf.input_filters(), ["other", "encr-milter"]);
    let [ours, other] = cf.filters.as_slice() else { panic!("{:?}", cf.filters) };
    assert_eq!(ours.name, "encr-milter");
    assert_eq!(ours.socket.as_deref(), Some("local:/run/encr-milter/milter.sock"));
    assert_eq!((ours.flags.as_str(), ours.when_down(), ours.line), ("T", WhenDown::Defer, 13));
    let seconds = |filter: &Filter, which| filter.timeout(which).map(|time| time.as_secs());
    assert_eq!((seconds(ours, 'C'), seconds(ours, 'R'), seconds(ours, 'E')), (Some(10), Some(30), Some(120)));
    assert_eq!(other.socket.as_deref(), Some("inet:8891@127.0.0.1"));
    assert_eq!((other.when_down(), seconds(other, 'C'), &other.fault), (WhenDown::Pass, Some(300), &None));
}

#[test]
fn what_sendmail_would_not_take_is_told() {
    for (line, fault) in [
        ("Xa", "it has no `S=`"),
        ("Xa, F=T", "it has no `S=`"),
        ("Xa, S=local:/x, Z=1", "`Z` is no equate of a mail filter"),
        ("Xa, S", "`=` is missing in `S`"),
        ("X, S=local:/x", "it has no name"),
    ] {
        assert_eq!(Cf::parse(line).filters.first().and_then(|f| f.fault.as_deref()), Some(fault), "{line}");
    }
    let both = Cf::parse("Xa, S=local:/x, F=TR");
    assert_eq!(both.filters.first().map(Filter::when_down), Some(WhenDown::Reject));
}

#[test]
fn ports_are_read_by_the_first_letter() {
    let cf = Cf::parse(CF);
    let ports = cf.ports();
    assert_eq!(
        ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["MTA-v4 (192.0.2.1:25)", "MSP (127.0.0.1:587)", "the daemon ([::1]:25)"]
    );
    assert!(ports[0].without_starttls() && !ports[0].is_smtps() && !ports[1].without_starttls());
    assert_eq!(ports[1].filters.as_deref(), Some(["first".to_owned(), "second".to_owned()].as_slice()));
    assert_eq!(Cf::parse("").ports()[0].reach(), Some(("127.0.0.1".to_owned(), 25)));
    assert_eq!(Cf::parse("O DaemonPortOptions=Family=unix, Addr=/x").ports()[0].reach(), None);
}

#[test]
fn options_maps_and_rulesets() {
    let cf = Cf::parse(CF);
    assert_eq!((cf.log_level(), Cf::default().log_level()), (8, 9));
    assert_eq!(Cf::parse("OL15\n").log_level(), 15);
    assert_eq!((cf.option("RunAsUser"), cf.option("dontblamesendmail").is_some()), (None, true));
    assert!(cf.option_has("DontBlameSendmail", "truststickybit"));
    assert_eq!(cf.macro_lists(), [("milter.macros.envfrom".to_owned(), "i, {auth_type}".to_owned())]);
    let access = cf.map("access").unwrap();
    assert_eq!(
        (access.class.as_str(), access.place.as_str(), access.flags.len()),
        ("hash", "/etc/mail/access", 2)
    );
    assert_eq!(
        cf.map("encr_milter").map(|map| map.place.as_str()),
        Some("local:/run/encr-milter/outbound.sock")
    );
    assert!(cf.delays_checks() && !Cf::default().delays_checks());
    assert_eq!(cf.ruleset("checkrcpt").map(|ruleset| ruleset.rules.len()), Some(2));
    assert!(cf.ruleset("tls_server").is_some());
}

#[test]
fn nothing_in_a_file_stops_the_reading() {
    for text in ["O", "O ", "OX", "K", "Kx", "X", "S", "R", " leading", "\u{e9}", "O =", "O a==b", "Kx y \"z"]
    {
        let _ = Cf::parse(text).ports();
    }
    assert_eq!(interval("1h30m"), Some(Duration::from_mins(90)));
    assert_eq!(
        (interval("10"), interval("x"), interval("99999999999999999999w")),
        (Some(Duration::from_secs(10)), None, None)
    );
}
