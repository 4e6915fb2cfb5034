//! encr-milter: arguments → command → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    encr_milter::cli::main()
}
