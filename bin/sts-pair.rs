//! sts-pair: agrees on a session key with the device at the other end of a link.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    sts::cli::pair::main(&args)
}
