//! Pairing with the old program (`sts_version = 1`): once, as a service, and its end.

mod end;
mod new_session;
mod run;

pub(super) use self::end::end;
use self::run::{LegacyOutcome, LegacyPurpose, LegacyRun};
use super::once::OnceOptions;
use super::progress_line::ProgressLine;
use super::service::{Duty, Service, reopen};
use crate::cache::Cache;
use crate::config::Legacy;
use crate::legacy::{Store, delete, refused};
use crate::link::{Link, unix_time};
use crate::report::Reporter;
use crate::role::Role;
use crate::sandbox::Needs;
use crate::stdio::Signals;
use crate::{Error, Exit, Result};

/// Agrees a session with the device at the other end; gives up after the timeout. A session that is younger than `if_older` is
/// kept instead: there is no way to ask whether the other device still has it.
///
/// # Errors
/// As [`super::once::run`].
pub(super) fn once(link: &Link, legacy: Legacy, options: OnceOptions, report: &Reporter) -> Result<()> {
    // A new option has to be looked at here: used, or refused.
    let OnceOptions { timeout, if_older } = options;
    let store = Store::new(link.create_cache()?, legacy);
    let _locks = store.cache().lock_pairing()?;
    if let Some(age) = if_older {
        if let Err(error) = store.cache().note_rotation(age.seconds()) {
            // Only --status reads that note.
            report.warn(&error);
        }
        if age.keeps(store.age(unix_time())?) {
            report.verbose("the session is young enough; the old program cannot be asked whether it still has it");
            return Ok(());
        }
    }
    link.enter_sandbox(link.pairing_needs(false), report);
    let purpose = LegacyPurpose::Once(ProgressLine::new(timeout));
    match LegacyRun::begin(link, legacy, &store, report, purpose, Signals::catch()?)?.finish() {
        Err(error) if if_older.is_some_and(|age| store.age(unix_time()).is_ok_and(|of| age.tolerates(of))) => {
            report.info(format_args!("{error}; the existing session stays in use"));
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

/// Deletes what is left of the old program on a link that is configured for STS/2; false if nothing is.
///
/// # Errors
/// As [`Store::delete`].
pub(super) fn delete_replaced(cache: &Cache, report: &Reporter) -> Result<bool> {
    let is_deleted = delete(cache)?;
    if is_deleted {
        report.info("deleted the session with the old program");
    }
    Ok(is_deleted)
}

/// Answers every pairing of the master until SIGINT or SIGTERM; at SIGHUP `open` reads the configuration again.
///
/// # Errors
/// [`Exit::Usage`] for a master and for `--keep`; otherwise as [`super::serve::run`].
pub(super) fn serve(
    mut link: Link,
    mut legacy: Legacy,
    duty: Duty,
    open: impl Fn() -> Result<Link>,
    report: &Reporter,
) -> Result<()> {
    match duty {
        Duty::Serve => {}
        Duty::Keep(_) => {
            return Err(refused("--keep", "it cannot be asked whether it still has the session")
                .hint("use --if-older instead, when the old program is started"));
        }
    }
    refuse_master(legacy)?;
    let _locks = link.create_cache()?.lock_service()?;
    let mut signals = Signals::terminations()?;
    let mut service = Service::begin()?;
    let held = link.enter_sandbox(link.pairing_needs(true), report);
    loop {
        let store = Store::new(link.create_cache()?, legacy);
        let run = LegacyRun::begin(&link, legacy, &store, report, LegacyPurpose::Serve(&mut service), signals)?;
        let (outcome, ended) = run.close_after_run()?;
        signals = ended;
        if matches!(outcome?, LegacyOutcome::Stopped) {
            return Ok(());
        }
        match reload(&open, held.as_ref()) {
            Ok(reloaded) => {
                (link, legacy) = reloaded;
                report.info("configuration reloaded");
            }
            Err(error) => {
                report.warn(&error);
                report.warning("keeping the previous configuration");
            }
        }
    }
}

/// The master begins a pairing, and so cannot wait for one.
fn refuse_master(legacy: Legacy) -> Result<()> {
    match legacy.role {
        Role::Slave => Ok(()),
        Role::Master => Err(refused("--serve", "this device is the master, and the master begins each pairing")
            .hint("run sts-pair here when the old program is started on the other device")),
    }
}

fn reload(open: &impl Fn() -> Result<Link>, held: Option<&Needs>) -> Result<(Link, Legacy)> {
    let link = reopen(open, held)?;
    let legacy = link.legacy().ok_or_else(|| {
        Error::new(Exit::Config, "sts_version = 1 was removed").hint("restart sts-pair --serve to use another version")
    })?;
    refuse_master(legacy)?;
    Ok((link, legacy))
}
