//! The one-time code from the environment or from standard input, for scripts and for slaves without a screen.
//!
//! The environment of a process can be read for as long as the process runs, and removing a variable does not erase it there.
//! So a code that comes in a variable is handed over to a new image of the same process, through a pipe.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;

use zeroize::Zeroizing;

use crate::handshake::{BadCode, Code};
use crate::{Error, Exit, Result};

/// The variable that holds the code.
const VARIABLE: &str = "STS_CODE";
/// Its value for a code on standard input.
const ON_STDIN: &str = "-";
/// Longest line that is read from there, in bytes.
const MAX_CODE_LINE_LEN: u64 = 256;

/// The code in `$STS_CODE`, if that is set.
///
/// # Errors
/// [`Exit::Usage`] if it is not a code; [`Exit::Failed`] if the process cannot execute itself.
pub fn given() -> Result<Option<Code>> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(None) };
    let bad = |why: BadCode| {
        let hint = "set it to a code that sts-pair --code has shown";
        Error::new(Exit::Usage, VARIABLE).because(why).hint(hint)
    };
    if value != ON_STDIN {
        let text = Zeroizing::new(value.to_string_lossy().into_owned());
        let code = Code::parse(&text).map_err(bad)?;
        return Err(Error::new(Exit::Failed, format!("cannot remove {VARIABLE} from the environment"))
            .because(hand_over(&code))
            .hint(format!("give the code on stdin, with {VARIABLE}={ON_STDIN}")));
    }
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().take(MAX_CODE_LINE_LEN).read_to_string(&mut line);
    read.map_err(|err| Error::new(Exit::Failed, "cannot read the code from stdin").because(err))?;
    Code::parse(&line).map(Some).map_err(bad)
}

/// Executes this program anew with the code on its standard input. Only returns if that fails, with the reason.
fn hand_over(code: &Code) -> io::Error {
    let filled = io::pipe().and_then(|(read, mut write)| write.write_all(code.expose().as_bytes()).map(|()| read));
    let mut args = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    match filled {
        Ok(read) => command.args(args).env(VARIABLE, ON_STDIN).stdin(read).exec(),
        Err(err) => err,
    }
}
