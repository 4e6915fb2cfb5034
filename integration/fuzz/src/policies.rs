//! The policies that connections are judged by: each mode alone, all together, on every side.

use crate::files::load_text;
use encr_milter::policy::Policy;
use encr_milter::policy::rule::Mode;
use std::sync::{Arc, LazyLock};

/// A policy, and how much it may do at the most.
#[derive(Clone, Debug)]
pub struct Trial {
    pub policy: Arc<Policy>,
    /// The hardest mode of its rules.
    pub hardest: Mode,
}

/// A rule for each side; `{mode}` stands for its modes.
const SIDES: &str = r#"
[[rule]]
name = "host"
client = ["partner.example", "192.0.2.0/24", "2001:db8::/32", "[198.51.100.7]"]
server = ["partner.example", "192.0.2.0/24"]
{modes}
[[rule]]
name = "sender %(1)"
sender = ["partner.example", "joe@other.example"]
{modes}
[[rule]]
name = "recipient"
recipient = ["rig.example", "postmaster@partner.example"]
recipient-outbound = ["partner.example", "joe@partner.example", "anna@"]
{modes}
[[rule]]
name = "relay"
client = ["relay.partner.example"]
server = ["relay.partner.example"]
exempt = { reason = "booked", until = 2027-03-01 }
[[rule]]
name = "everyone"
client = ["*"]
server = ["*"]
{modes}
"#;

const HEADS: [&str; 2] = [
    "version = 1\n[reply]\ncontact = \"https://mail.example.org/tls?100%\"\n",
    "version = 1\n[exempt]\nauthenticated = false\nnetworks = []\nrecipients = []\n",
];

const MODES: &[(Mode, &str)] = &[
    (Mode::Observe, "observe = { min-bits = 256, min-version = \"TLSv1.3\" }"),
    (Mode::Observe, "observe = { verify = true, cert-issuer = \"/C=DE/O=Some CA/CN=x\", cn = \"Rig CA\" }"),
    (Mode::SoftFail, "soft-fail = { min-bits = 128 }\nobserve = { min-bits = 256 }"),
    (Mode::SoftFail, "soft-fail = { min-bits = 128, percent = 50 }"),
    (Mode::SoftFail, "soft-fail = { verify = true, max-delay = \"4h\" }"),
    (Mode::SoftFail, "soft-fail = { cert-subject = \"/C=DE/O=Some CA/CN=x\" }"),
    (
        Mode::Enforce,
        "enforce = { min-bits = 128 }\nsoft-fail = { min-bits = 168 }\nobserve = { min-bits = 256 }",
    ),
    (Mode::Enforce, "enforce = { min-version = \"TLSv1.2\", verify = true }"),
    (Mode::Enforce, "enforce = { min-bits = 256, from = 2026-11-23 }\nsoft-fail = { min-bits = 112 }"),
];

static ALL: LazyLock<Vec<Trial>> = LazyLock::new(|| {
    let of = |head: &str, (hardest, modes): &(Mode, &str)| {
        let loaded = load_text(&format!("{head}{}", SIDES.replace("{modes}", modes)));
        let shown = loaded.diagnostics.render(&loaded.sources, false);
        let policy = Arc::new(loaded.policy.unwrap_or_else(|| panic!("a broken policy:\n{shown}")));
        Trial { policy, hardest: *hardest }
    };
    HEADS.iter().flat_map(|head| MODES.iter().map(move |modes| of(head, modes))).collect()
});

/// One of them.
pub fn any(number: u8) -> &'static Trial {
    &ALL[usize::from(number) % ALL.len()]
}
