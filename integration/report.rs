//! The report as a page, in a real browser: on a desk, on a phone, on paper, full of what clients should not have sent.
//!
//! The browser is Debian's chromium, headless, in the rig's namespaces: there is no network that it could use. A page of
//! ours around the report measures it. Promises: a page that does not fit, or that runs what it was sent, is seen to do
//! so: it is asked of one that is made wrong.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::json;

use crate::rig::tool::run;
use crate::rig::{Result, Rig};

/// A desk's window and a phone's.
const WIDTHS: [u64; 2] = [1280, 375];

/// What clients should not have sent. Each would tell the page around it, if it ran.
const HOSTILE: [&str; 5] = [
    "<script>parent.ran=1</script>",
    "\"><img src=x onerror=parent.ran=1>",
    "</style></title></svg><script>parent.ran=1</script>",
    "\u{202e}\u{1b}[31m",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
];

const POLICY: &str = r#"
version = 1
[reply]
contact = "https://mail.example.org/a-path-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on-and-on-and-on-and-on"
[[rule]]
name = "<script>parent.ran=1</script>"
client = ["evil.example"]
soft-fail = { min-bits = 256, min-version = "TLSv1.3", percent = 50, max-delay = "4h" }
enforce = { min-bits = 256, from = 2037-01-15 }
[[rule]]
name = "a-name-of-sixty-four-characters-without-any-blank-in-it-at-all-x"
client = ["d7.example"]
enforce = { min-bits = 128, cn = "a-name-of-a-certificate-that-is-quite-long-and-has-no-blank.partner.example" }
[[rule]]
name = "exempt"
client = ["d8.example"]
exempt = { reason = "</td></table><script>parent.ran=1</script> because-they-said-so-in-a-very-long-word", owner = "ops", until = 2037-03-01 }
[[rule]]
name = "everyone"
client = ["*"]
observe = { min-bits = 128 }
"#;

/// Loads a page in a frame of a phone's or a desk's width, and tells what came of it.
const AROUND: &str = r#"<!DOCTYPE html><meta charset="utf-8"><body>
<iframe src="PAGE" style="border:0;width:WIDTHpx;height:3000px"></iframe><pre id="told"></pre>
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument, view = page.defaultView;
  const all = (what) => [...page.querySelectorAll(what)].map((element) => element.getBoundingClientRect());
  const flat = (boxes) => boxes.filter((box) => box.width < 1 || box.height < 1).length;
  const tables = [...page.querySelectorAll("table")];
  document.getElementById("told").textContent = "TOLD" + JSON.stringify({
    width: page.documentElement.scrollWidth,
    wide: all("section, figure, svg, .box, p, h1, h2, li, dl, pre").filter((box) => box.right > view.innerWidth + 1).length,
    sections: all("section").length, flat_sections: flat(all("section")),
    charts: all("svg[role=img]").length, flat_charts: flat(all("svg[role=img], svg[role=img] text")),
    bars: all("svg[role=img] rect").length,
    tables: tables.length, captions: tables.filter((table) => table.caption.textContent.trim()).length,
    small: [...page.querySelectorAll("p, td, th, li, text")].filter((e) => parseFloat(view.getComputedStyle(e).fontSize) < 11).length,
    scripts: page.scripts.length, images: page.images.length, fetched: view.performance.getEntriesByType("resource").length,
    ran: window.ran === 1,
  }) + "TOLD";
});
</script>"#;

/// Too wide, and it runs what is in it.
const WRONG: &str = "<!DOCTYPE html><body><p style='width:2000px'>x</p><img src=x onerror=parent.ran=1>";

pub(crate) fn pages(rig: &Rig) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("report").tempdir().map_err(|e| format!("a folder: {e}"))?;
    let folder = folder.path();
    let write =
        |name: &str, text: &str| fs::write(folder.join(name), text).map_err(|e| format!("{name}: {e}"));
    write("decisions.jsonl", &decisions())?;
    write("policy.toml", POLICY)?;
    write("wrong.html", WRONG)?;
    for arguments in [
        &["--all", "-o", "report.html"][..],
        &["-o", "dossier.html", "--domain", "evil.example", "--our-name", "<script>parent.ran=1</script>"],
    ] {
        let mut report = Command::new(&rig.daemon);
        report.args(["report", "decisions.jsonl", "--policy", "policy.toml", "--html"]).args(arguments);
        run(report.current_dir(folder), "")?;
    }
    let wrong = measured(folder, "wrong.html", 375)?;
    if wrong.width < 2000 || !wrong.ran {
        return Err(format!("a page that is wrong is not seen to be: {wrong:?}"));
    }
    for width in WIDTHS {
        // Who would break, both ways; rules; what happened; exemptions; next.
        fits(&measured(folder, "report.html", width)?, width, 6, 5)?;
        // In short, what we ask, what to do, hosts.
        fits(&measured(folder, "dossier.html", width)?, width, 4, 0)?;
    }
    printed(folder, "report.html", 3)?;
    printed(folder, "dossier.html", 1)
}

/// A site's worth of mail, with everything in it that a page could stumble over.
fn decisions() -> String {
    let mut lines = Vec::new();
    for (day, hostile) in (1..=28).zip(HOSTILE.iter().cycle()) {
        for domain in 0..60 {
            let (version, bits) = match domain % 3 {
                0 => ("TLSv1.3", 256),
                1 => ("TLSv1.2", 128),
                _ => ("TLSv1", 112),
            };
            lines.push(json!({
                "ts": format!("2026-10-{day:02}T08:00:00Z"), "client_name": format!("mx.d{domain}.example"),
                "client_addr": format!("192.0.{domain}.1"), "client_resolve": "OK",
                "tls_version": version, "cipher": "X", "cipher_bits": bits, "verify": "NOT",
            }));
        }
        for host in ["mx", "a-host-of-a-name-that-goes-on-and-on-and-on-and-on-and-on-and-on"] {
            lines.push(json!({
                "ts": format!("2026-10-{day:02}T09:00:00Z"), "client_name": format!("{host}.evil.example"),
                "client_addr": format!("2001:db8:ffff:ffff:ffff:ffff:ffff:ff{day:02}"), "client_resolve": "OK",
                "tls_version": hostile, "cipher": hostile, "cipher_bits": 128, "verify": hostile,
            }));
        }
        let long = format!("{}.{}.co.uk", "a".repeat(63), "b".repeat(63));
        lines.push(json!({
            "ts": format!("2026-10-{day:02}T10:00:00Z"), "client_name": long, "client_addr": "198.51.100.1",
            "client_resolve": "OK", "cipher_bits": 0,
        }));
        lines.push(json!({
            "ts": format!("2026-10-{day:02}T11:00:00Z"), "direction": "outbound", "server_name": "in.evil.example",
            "server_addr": "198.51.100.2", "recipient": "x@evil.example", "tls_version": hostile, "cipher": hostile,
            "cipher_bits": 112, "verify": "FAIL",
        }));
    }
    lines.iter().fold(String::new(), |all, line| all + &line.to_string() + "\n")
}

/// What the page around it says of a page.
fn measured(folder: &Path, page: &str, width: u64) -> Result<Measured> {
    let address = format!("file://{}", folder.join(page).display());
    let around = AROUND.replace("PAGE", &address).replace("WIDTH", &width.to_string());
    let path = folder.join("around.html");
    fs::write(&path, around).map_err(|e| format!("around.html: {e}"))?;
    let output = run(chromium(folder).arg("--dump-dom").arg(format!("file://{}", path.display())), "")?;
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    // The first stands in our own script.
    let told = dom.split("TOLD").find(|piece| piece.starts_with("{\""));
    let told = told.ok_or_else(|| format!("{page}: nothing was measured: {dom:.2000}"))?;
    serde_json::from_str(told).map_err(|e| format!("{page}: {e}: {told}"))
}

fn chromium(folder: &Path) -> Command {
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        // Root has no sandbox there; the pages are ours, and there is no network.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        // The page around may look into the frame.
        "--allow-file-access-from-files",
        "--window-size=1400,3100",
    ]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command
}

/// What was measured of a page, in the order of `AROUND`.
#[derive(Debug, Deserialize)]
struct Measured {
    width: u64,
    /// How many elements stand out to the right.
    wide: u64,
    sections: u64,
    flat_sections: u64,
    charts: u64,
    flat_charts: u64,
    bars: u64,
    tables: u64,
    /// How many of them are named.
    captions: u64,
    /// How many texts are too small to read.
    small: u64,
    scripts: u64,
    images: u64,
    fetched: u64,
    /// Whether anything ran.
    ran: bool,
}

fn fits(told: &Measured, width: u64, sections: u64, charts: u64) -> Result<()> {
    let holds = told.width <= width
        && told.sections >= sections
        && told.charts >= charts
        && (charts == 0 || told.bars > charts)
        && told.tables > 0
        && told.captions == told.tables
        && [told.wide, told.flat_sections, told.flat_charts, told.small] == [0; 4]
        && [told.scripts, told.images, told.fetched] == [0; 3]
        && !told.ran;
    if holds {
        Ok(())
    } else {
        Err(format!("at {width} pixels, {sections} sections, {charts} charts: {told:?}"))
    }
}

/// On paper it has so many pages at the least.
fn printed(folder: &Path, page: &str, least: usize) -> Result<()> {
    let pdf = folder.join("printed.pdf");
    let mut command = chromium(folder);
    command.arg("--no-pdf-header-footer").arg(format!("--print-to-pdf={}", pdf.display()));
    run(command.arg(format!("file://{}", folder.join(page).display())), "")?;
    let bytes = fs::read(&pdf).map_err(|e| format!("{page}: not printed: {e}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let pages = text.matches("/Type /Page\n").count();
    if text.starts_with("%PDF") && pages >= least {
        return Ok(());
    }
    Err(format!("{page}: {pages} pages on paper, expected {least} at the least"))
}
