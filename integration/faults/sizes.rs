//! Policies of absurd size and shape, with little memory to be had.
//!
//! What must hold: each is refused, and told why; the one in force stays, and messages are judged by it all the while.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use super::Site;
use crate::load::script::policy;
use crate::rig::{Result, Rig};

/// What all of the daemon may have, in bytes of addresses: threads have their stacks in it, and allocators their arenas.
const MEMORY: u64 = 1 << 30;

pub(super) fn absurd(rig: &Rig) -> Result<()> {
    let mut site = Site::new(
        rig,
        "fault-sizes",
        "policy.files = [\"policy.toml\", \"policy.d/*.toml\"]\npolicy.max-size = 25165824\n",
    )?;
    fs::create_dir(site.path("policy.d")).map_err(|e| format!("policy.d: {e}"))?;
    site.write("policy.d/a.toml", "version = 1\n")?;
    site.daemon.wrapper = vec!["prlimit".to_owned(), format!("--as={MEMORY}")];
    site.daemon.start()?;
    let rule = |list: &str| {
        policy(1, false)
            + &format!(
                "[[rule]]\nname = \"list\"\nclient-file = \"{list}\"\nobserve = {{ min-bits = 128 }}\n"
            )
    };
    let nested = |open: &str, close: &str, deep: usize| {
        format!("version = 1\nx = {}1{}\n", open.repeat(deep), close.repeat(deep))
    };
    let mistakes = "version = 1\n".to_owned() + &"[[rule]]\nnmae = 1\n".repeat(20_000);
    let keys = format!("version = 1\n[{}]\n", vec!["a"; 100_000].join("."));
    let long = format!("version = 1\n# {}\nx = 1\n", "x".repeat(20_000_000));
    let texts = [
        ("arrays in arrays", nested("[", "]", 200_000), "policy refused"),
        ("tables in tables", nested("{a=", "}", 100_000), "policy refused"),
        ("a key of a hundred thousand parts", keys, "policy refused"),
        ("twenty thousand mistakes", mistakes, "policy refused"),
        ("a line of twenty million characters", long, "unknown field `x`"),
        ("a list of 300 MB", rule("huge.txt"), "makes the policy larger than the"),
        ("a list that never ends", rule("zero.txt"), "not a regular file"),
        ("a list that is a pipe", rule("pipe.txt"), "not a regular file"),
        ("a list that is a folder", rule("state"), "not a regular file"),
        ("a list that leads to itself", rule("loop.txt"), "cannot read"),
    ];
    let io = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    File::create(site.path("huge.txt")).and_then(|file| file.set_len(300 << 20)).map_err(io("huge.txt"))?;
    symlink("/dev/zero", site.path("zero.txt")).map_err(io("zero.txt"))?;
    symlink("loop.txt", site.path("loop.txt")).map_err(io("loop.txt"))?;
    nix::unistd::mkfifo(&site.path("pipe.txt"), nix::sys::stat::Mode::S_IRWXU)
        .map_err(|e| format!("pipe.txt: {e}"))?;
    for (what, text, words) in &texts {
        let from = site.daemon.log.len();
        site.write("policy.toml", text)?;
        let told = site
            .said(from, &[words])
            .and_then(|_| site.said(from, &["policy refused: the one in force stays"]));
        told.map_err(|fault| format!("{what}: {}", fault.chars().take(3000).collect::<String>()))?;
        site.probe().map_err(|fault| format!("{what}: {fault}"))?;
    }
    // Many files, all of them together too large, and each of them good.
    let from = site.daemon.log.len();
    site.write("policy.toml", &policy(2, false))?;
    site.said(from, &["rule generation-2: added"])?;
    let from = site.daemon.log.len();
    let comment = format!("version = 1\n#{}\n", " ".repeat(1 << 17));
    for number in 0..300 {
        fs::write(site.path(&format!("policy.d/f{number}.toml")), &comment).map_err(io("policy.d"))?;
    }
    site.said(from, &["makes the policy larger than the"])?;
    site.probe()?;
    for number in 0..300 {
        fs::remove_file(site.path(&format!("policy.d/f{number}.toml"))).map_err(io("policy.d"))?;
    }
    site.put_in_force(3, false)?;
    site.probe()?;
    site.stop()
}
