//! sts-pair: agrees on a session key with the device at the other end of a link.

use std::process::ExitCode;

fn main() -> ExitCode {
    sts::cli::pair::main()
}
