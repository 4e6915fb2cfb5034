//! Runs a tool to its end.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use super::Result;

/// Runs it with this on its standard input. It must succeed.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<Output> {
    run_allowing(command, input, &[])
}

/// The same, where these exit codes will do too.
pub(crate) fn run_allowing(command: &mut Command, input: &str, codes: &[i32]) -> Result<Output> {
    run_bytes(command, input.as_bytes(), codes)
}

/// The same, with an input that need not be text.
pub(crate) fn run_bytes(command: &mut Command, input: &[u8], codes: &[i32]) -> Result<Output> {
    let mut start = || -> std::io::Result<Output> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        // Beside reading: what answers line by line would wait for us, and we for it.
        thread::scope(|scope| {
            let write = scope.spawn(|| stdin.map_or(Ok(()), |mut to| to.write_all(input)));
            let output = child.wait_with_output();
            match write.join() {
                // It need not read all of it: its exit code tells whether that was right.
                Ok(Err(e)) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e),
                _ => output,
            }
        })
    };
    let output = start().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if output.status.success() || output.status.code().is_some_and(|code| codes.contains(&code)) {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}: {said}", command.get_program().display(), output.status))
}
