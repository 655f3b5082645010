//! sts-recv: decrypts what the device at the other end of a link sends, and writes it to standard output.

use std::process::ExitCode;

fn main() -> ExitCode {
    sts::cli::recv::main()
}
