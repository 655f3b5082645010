//! sts: the three tools in one executable.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    sts::cli::sts::main(&args)
}
