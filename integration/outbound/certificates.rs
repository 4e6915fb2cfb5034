//! Rules about the peer's certificate: verified, by whom, for whom; and names as long as they come.

use super::{Choice, Pair};
use crate::rig::sender::When;
use crate::rig::{Result, Rig, wait};

/// Self-signed fails with sendmail's words, and the CA's passes.
pub(super) fn verify(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "known"
server = ["peer.example"]
soft-fail = { verify = true }
"#;
    let mut pair = Pair::start(rig, "outbound-verify", &Choice { policy, ..Choice::default() })?;
    let (own, signed, clear) =
        (pair.at("bob", "self-signed"), pair.at("bob", "aes256"), pair.at("bob", "clear"));
    for to in [&own, &signed, &clear] {
        pair.sender.send(When::Now, &[to])?;
    }
    pair.taken(&[(&own, 0), (&signed, 1), (&clear, 0)])?;
    pair.queued(&[
        ("Deferred: 454 4.7.0 authentication failed, rule known", &[&own]),
        (
            "Deferred: 454 4.7.0 encryption needed, STARTTLS with a certificate that we can verify, rule known",
            &[&clear],
        ),
    ])?;
    pair.recorded(
        r#"
{ verify = "FAIL", verdict = "fail", disposition = "tempfail", reason = "authentication failed", cn_subject = "self-signed.peer.example", cipher_bits = 256 },
{ verify = "OK", verdict = "pass", disposition = "accept", cn_subject = "mail.rig.example" },
{ verify = "NONE", verdict = "fail", reason = "other side does not support STARTTLS" },
"#,
    )
}

/// `cn`, `cert-subject`, `cert-issuer`: those that are asked for only where a rule needs them.
pub(super) fn names(rig: &Rig) -> Result<()> {
    let policy = r#"
[[rule]]
name = "cn"
server = ["aes128.peer.example"]
soft-fail = { verify = true, cn = "mail.rig.example" }
[[rule]]
name = "issuer"
server = ["aes256.peer.example"]
soft-fail = { cert-issuer = "/O=Rig+20Trust/CN=Rig+20CA" }
[[rule]]
name = "subject"
server = ["aes128-13.peer.example"]
soft-fail = { cert-subject = "/CN=mail.rig.example" }
[[rule]]
name = "other-cn"
server = ["aes256-13.peer.example"]
soft-fail = { cn = "mx.elsewhere.example" }
[[rule]]
name = "other-issuer"
server = ["self-signed.peer.example"]
soft-fail = { cert-issuer = "/O=Rig+20Trust/CN=Rig+20CA" }
"#;
    let mut pair = Pair::start(rig, "outbound-certificate-names", &Choice { policy, ..Choice::default() })?;
    let at = |peer: &str| pair.at("bob", peer);
    let pass = [at("aes128"), at("aes256"), at("aes128-13")];
    let fail = [at("aes256-13"), at("self-signed")];
    for to in pass.iter().chain(&fail) {
        pair.sender.send(When::Now, &[to])?;
    }
    pair.taken(&[(&pass[0], 1), (&pass[1], 1), (&pass[2], 1), (&fail[0], 0), (&fail[1], 0)])?;
    let issuer = "/CN=self-signed.peer.example does not match /O=Rig+20Trust/CN=Rig+20CA";
    pair.queued(&[
        (
            "Deferred: 454 4.7.0 CN mail.rig.example does not match mx.elsewhere.example, rule other-cn",
            &[&fail[0]],
        ),
        (&format!("Deferred: 454 4.7.0 Cert Issuer {issuer}, rule other-issuer"), &[&fail[1]]),
    ])?;
    pair.recorded(
        r#"
{ rule = "cn", verdict = "pass", cn_subject = "mail.rig.example" },
{ rule = "issuer", verdict = "pass", cert_issuer = "/O=Rig+20Trust/CN=Rig+20CA", cert_subject = "/CN=mail.rig.example" },
{ rule = "subject", verdict = "pass", cert_subject = "/CN=mail.rig.example" },
{ rule = "other-cn", verdict = "fail", reason = "CN mail.rig.example does not match mx.elsewhere.example" },
{ rule = "other-issuer", verdict = "fail", disposition = "tempfail" },
"#,
    )
}

/// A subject as long as sendmail takes it, and longer still in xtext: the rule holds all the same. What of it is more than
/// a token of sendmail's is cut short in the reply, and whole in the record.
pub(super) fn long_names(rig: &Rig) -> Result<()> {
    let policy = |subject: &str| {
        format!("[[rule]]\nname = \"long\"\nserver = [\"*\"]\nsoft-fail = {{ cert-subject = {subject:?} }}\n")
    };
    let short = policy("/CN=short");
    let mut pair = Pair::start(rig, "outbound-long-names", &Choice { policy: &short, ..Choice::default() })?;
    let to = pair.at("bob", "long");
    pair.sender.send(When::Now, &[&to])?;
    pair.taken(&[(&to, 0)])?;
    let queue = pair.sender.queue()?;
    let why = queue.first().map(|message| message.why.clone()).unwrap_or_default();
    let begins = "Deferred: 454 4.7.0 Cert Subject /O=Long+20&+20Sons+20+28Oslo+29/OU=a+20b";
    if !why.starts_with(begins) || !why.ends_with(", rule long") {
        return Err(pair.told("the queue was to hold the long name's beginning"));
    }
    let subject = wait::until("the record", || {
        let records = pair.daemon.decisions().ok()?;
        records.first().and_then(|record| record["cert_subject"].as_str()).map(str::to_owned)
    })?;
    if subject.len() <= 256 || !subject.ends_with("/CN=long.peer.example") {
        return Err(pair.told("the record was to hold the whole name"));
    }
    pair.edit(&policy(&subject))?;
    pair.sender.run_queue()?;
    pair.taken(&[(&to, 1)])?;
    pair.recorded(
        r#"
{ rule = "long", verdict = "fail", disposition = "tempfail" },
{ rule = "long", verdict = "pass", disposition = "accept" },
"#,
    )
}
