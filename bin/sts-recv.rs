//! sts-recv: decrypts what the device at the other end of a link sends, and writes it to standard output.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    sts::cli::recv::main(&args)
}
