//! sts-send: encrypts standard input and sends it to the device at the other end of a link.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    sts::cli::send::main(&args)
}
