//! sts-send: encrypts standard input and sends it to the device at the other end of a link.

use std::process::ExitCode;

fn main() -> ExitCode {
    sts::cli::send::main()
}
