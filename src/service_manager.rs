//! The service manager that started this process, if it wants to know how that is doing (`sd_notify(3)`): systemd, or
//! any other that sets `NOTIFY_SOCKET`.
//!
//! Its socket is opened once, before the run enters its sandbox, which leaves no way to a socket in the abstract name space.
//! The known crates open one per message.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::text::tame;

/// How long a message may take: a manager that hangs must not stop the run.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Told when the run is ready, what it waits for, and, if it asks for that, at intervals that it still runs.
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    is_ready: Cell<bool>,
    watchdog: Option<Watchdog>,
}

/// The manager restarts the service if it hears nothing for a while.
struct Watchdog {
    /// Half of that time.
    interval: Duration,
    due: Cell<Instant>,
}

impl ServiceManager {
    /// The one that the environment of this process names.
    pub(crate) fn of_process() -> Option<Self> {
        Self::from_lookup(|name| std::env::var_os(name), std::process::id(), Instant::now())
    }

    /// From any lookup of variables by name. `None` if there is no manager, or it cannot be reached: nothing that a run does
    /// depends on it.
    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, process: u32, now: Instant) -> Option<Self> {
        let socket = connect(&lookup("NOTIFY_SOCKET")?).ok()?;
        let number = |name: &str| lookup(name)?.to_str()?.parse::<u64>().ok();
        // In a pipeline it is the shell that is watched.
        let is_watched = number("WATCHDOG_PID").is_none_or(|watched| watched == u64::from(process));
        let interval = number("WATCHDOG_USEC").filter(|micros| is_watched && *micros > 1);
        let watchdog =
            interval.map(|micros| Watchdog { interval: Duration::from_micros(micros / 2), due: Cell::new(now) });
        Some(Self { socket, is_ready: Cell::new(false), watchdog })
    }

    /// Reports that the run is ready. Only the first call has an effect.
    pub(crate) fn ready(&self) {
        if !self.is_ready.replace(true) {
            self.tell("READY=1");
        }
    }

    /// What the run does or waits for, which `systemctl status` shows.
    pub(crate) fn status(&self, what: impl fmt::Display) {
        self.tell(&format!("STATUS={}", tame(&what.to_string())));
    }

    /// Reports that the run has not hung, if that is due.
    pub(crate) fn keep_alive(&self, now: Instant) {
        if let Some(Watchdog { interval, due }) = &self.watchdog
            && now >= due.get()
        {
            due.set(now + *interval);
            self.tell("WATCHDOG=1");
        }
    }

    /// When [`ServiceManager::keep_alive`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due.get())
    }

    fn tell(&self, what: &str) {
        // The manager may be gone: then there is nothing to tell it.
        let _ = self.socket.send(what.as_bytes());
    }
}

/// A socket to this address: a path, or after an `@` a name in the abstract name space.
fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    match address.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(Path::new(address))?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager at a path, with the watchdog's variables.
    fn manager(watchdog: &[(&str, &str)], now: Instant) -> (UnixDatagram, Option<ServiceManager>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let lookup = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            _ => watchdog.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()),
        };
        let manager = ServiceManager::from_lookup(lookup, 7, now);
        (heard, manager)
    }

    fn next(heard: &UnixDatagram) -> Option<String> {
        let mut text = [0; 256];
        heard.recv(&mut text).ok().map(|len| String::from_utf8_lossy(&text[..len]).into_owned())
    }

    #[test]
    fn it_is_told_once_that_the_run_is_ready_and_each_status_in_one_line() {
        let now = Instant::now();
        let (heard, manager) = manager(&[], now);
        let manager = manager.unwrap();
        manager.status("no route\nREADY=1");
        manager.ready();
        manager.ready();
        manager.keep_alive(now);
        assert_eq!(next(&heard).as_deref(), Some(r"STATUS=no route\u{a}READY=1"));
        assert_eq!(next(&heard).as_deref(), Some("READY=1"));
        assert_eq!((next(&heard), manager.deadline()), (None, None));
    }

    #[test]
    fn a_watchdog_hears_twice_in_its_time_of_the_process_that_it_watches() {
        let now = Instant::now();
        let micros = ("WATCHDOG_USEC", "10000000");
        let (heard, watched) = manager(&[micros, ("WATCHDOG_PID", "7")], now);
        let watched = watched.unwrap();
        for (after, is_told) in [(0, true), (4, false), (5, true), (9, false), (10, true)] {
            watched.keep_alive(now + Duration::from_secs(after));
            assert_eq!(next(&heard).as_deref(), is_told.then_some("WATCHDOG=1"), "{after}");
        }
        assert_eq!(watched.deadline(), Some(now + Duration::from_secs(15)));
        let (_, other) = manager(&[micros, ("WATCHDOG_PID", "8")], now);
        assert_eq!(other.unwrap().deadline(), None);
    }

    #[test]
    fn an_address_may_be_abstract_and_one_where_nobody_listens_is_no_manager() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("sts-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let at = |address: String| ServiceManager::from_lookup(|_| Some(address.clone().into()), 7, Instant::now());
        at(format!("@{name}")).unwrap().ready();
        assert_eq!(next(&heard).as_deref(), Some("READY=1"));
        assert!(at("/nowhere/notify".to_owned()).is_none());
        assert!(ServiceManager::from_lookup(|_| None, 7, Instant::now()).is_none());
    }
}
