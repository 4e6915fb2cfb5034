//! A look at a whole machine: is mail judged here, by the policy that its administrator thinks is in force?
//!
//! Promises: changes nothing and sends no mail. Each [`Finding`] has a stable code, says what was found and, where that
//! is not right, what to do about it: the line to write, the command to run. What could not be looked at is told as
//! such, with what would allow it: it never passes for sound. Where the question itself, whether mail is judged, has no
//! answer, that is a problem.
//! Must not: print. Who asked does.

mod access;
mod attached;
mod control;
mod daemon;
mod finding;
mod machine;
mod mta;
mod outbound;
mod postfix;
mod records;
mod safety;
mod socket;
mod strength;

pub use control::{Control, ControlSocket, NoStatus, Running};
pub use finding::{Area, Finding, Level};

use crate::daemon_file::DaemonFile;
use crate::policy::{Day, Policy};
use crate::probe::target::Target;
use crate::sendmail::cf::Cf;
use finding::Findings;
use machine::Machine;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The daemon's file.
    pub config: PathBuf,
    /// The folder that stands for `/`.
    pub root: PathBuf,
    /// sendmail.cf, where it is not where the running sendmail says.
    pub cf: Option<PathBuf>,
    /// The MTA to speak SMTP to, where it is not where sendmail.cf says.
    pub mta: Option<Target>,
    /// Whether to begin a message with the MTA, take it back, and look for its record.
    pub live: bool,
    /// How long each step of a conversation may take.
    pub timeout: Duration,
    /// The name to give with EHLO.
    pub helo: String,
}

/// What is known of the installation, as far as the checks got.
struct Known<'a> {
    settings: &'a Settings,
    machine: Machine,
    daemon: Option<DaemonFile>,
    policy: Option<Policy>,
    running: Option<Running>,
    /// Whether Postfix is the MTA, in sendmail's place.
    is_postfix: bool,
    today: Day,
    now: jiff::Timestamp,
}

impl Known<'_> {
    /// Shows how the MTA does.
    fn mta_status(&self) -> &'static str {
        if self.is_postfix { "systemctl status postfix" } else { "systemctl status sendmail" }
    }
}

/// Looks at everything. `control` asks the daemon, by the socket that its file names.
pub fn examine(settings: &Settings, control: &dyn Fn(&Path) -> Box<dyn Control>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let now = jiff::Timestamp::now();
    let mut known = Known {
        settings,
        machine: Machine::at(&settings.root),
        daemon: None,
        policy: None,
        running: None,
        is_postfix: false,
        today: Day::of_unix_seconds(now.as_second()),
        now,
    };
    daemon::examine(&mut known, control, &mut findings);
    let sendmail = mta::find(&known, &mut findings);
    if let Some(sendmail) = &sendmail {
        sendmail_side(&known, sendmail, &mut findings);
    } else if findings.has_problem("sendmail-cf") {
        without_cf(&known, &mut findings);
    } else {
        known.is_postfix = true;
        postfix::examine(&known, &mut findings);
    }
    records::told(&known, &mut findings);
    if settings.live {
        records::live(&known, sendmail.as_ref(), &mut findings);
    }
    findings.list
}

/// The MTA's configuration, and where it lies.
struct Sendmail {
    cf: Cf,
    path: PathBuf,
}

/// What rests on sendmail.cf, where there is none to be read. Of the rest, what an MTA offers can be asked of itself.
fn without_cf(known: &Known<'_>, findings: &mut Findings) {
    let why = "is told by sendmail.cf, which is not there to be read";
    let remedy = ["see [sendmail-cf] above"];
    let rest: [(Area, &str, &str); 3] = [
        (Area::Mta, "attached", "whether the milter is asked"),
        (Area::Tls, "log-level", "whether sendmail's log tells of TLS"),
        (Area::Access, "access-first", "whether rules of an access map come before us"),
    ];
    for (area, code, what) in rest {
        findings.not_looked(area, code, format!("{what} {why}"), &remedy);
    }
    match &known.settings.mta {
        Some(target) => strength::examine_one(known, target, findings),
        None => findings.not_looked(
            Area::Tls,
            "starttls",
            format!("where the MTA listens {why}"),
            &["--mta HOST:PORT"],
        ),
    }
}

fn sendmail_side(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) {
    for filter in attached::examine(known, sendmail, findings) {
        socket::examine(known, sendmail, &filter, findings);
    }
    strength::examine(known, sendmail, findings);
    access::examine(known, sendmail, findings);
    outbound::examine(known, sendmail, findings);
}
