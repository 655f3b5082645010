//! Makes release executables smaller, by what the linker supports.
//!
//! Unwinding tables are left out: a panic aborts, and without symbols not even a backtrace uses them. Functions with
//! the same code are merged: nothing compares their addresses. Relocations are packed in a bitmap (RELR), where this
//! machine shows that its loader reads that, as C libraries do of 2022 and later.
//!
//! `bin/package` compiles the standard library without the tables where it compiles that as well. Then there is no standard
//! library yet to try the linker with, and the tables that C has left stay. Its linker, zig's, refuses the other two
//! arguments: for x86-64, `bin/zig-cc` adds them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// A linker script that is added to the linker's default layout.
const SCRIPT: &str =
    "SECTIONS { /DISCARD/ : { *(.eh_frame .gcc_except_table .gcc_except_table.*) } } INSERT AFTER .text;\n";

/// Has relocations packed.
const PACKED: &str = "-Wl,-z,pack-relative-relocs";

/// A program that does nothing, to try the linker with.
const PROGRAM: &str = "empty";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=bin/build.rs");
    // Other profiles unwind, and a build with debug information is meant to show stacks.
    if is("PROFILE", "release") && is("DEBUG", "false") && is("CARGO_CFG_TARGET_OS", "linux") {
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        let script = out.join("discard.ld");
        fs::write(&script, SCRIPT)?;
        let tables = format!("-Wl,--no-eh-frame-hdr,-T,{}", script.display());
        for argument in [&*tables, "-Wl,--icf=all"] {
            if links(&out, argument)? {
                pass(argument);
            }
        }
        // A linker packs relocations for any loader.
        let is_native = env::var_os("HOST") == env::var_os("TARGET");
        if is_native && links(&out, PACKED)? && runs(&out) {
            pass(PACKED);
        }
    }
    Ok(())
}

/// Has cargo link the executables with this argument.
fn pass(argument: &str) {
    println!("cargo::rustc-link-arg-bins={argument}");
}

fn is(variable: &str, value: &str) -> bool {
    env::var_os(variable).is_some_and(|found| found == value)
}

/// Whether what [`links`] has made can be loaded.
fn runs(out: &Path) -> bool {
    Command::new(out.join(PROGRAM)).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether the linker that cargo will use accepts `argument`; mold, for example, does not.
fn links(out: &Path, argument: &str) -> io::Result<bool> {
    let [rustc, target, linker, flags] = ["RUSTC", "TARGET", "RUSTC_LINKER", "CARGO_ENCODED_RUSTFLAGS"]
        .map(|name| env::var_os(name).unwrap_or_default());
    let source = out.join(PROGRAM).with_extension("rs");
    fs::write(&source, "fn main() {}\n")?;
    let mut command = Command::new(rustc);
    command.arg("--target").arg(target).arg("-Cpanic=abort").arg("--out-dir").arg(out).arg(source);
    if !linker.is_empty() {
        command.arg([OsString::from("-Clinker="), linker].into_iter().collect::<OsString>());
    }
    command.args(flags.to_string_lossy().split('\x1f').filter(|flag| !flag.is_empty()));
    command.arg(format!("-Clink-arg={argument}"));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
}
