//! The sessions of a link on disk, which the three tools share: `LINK@sts1` in the runtime directory.
//!
//! Both directions continue one chain, so sts-send must know what sts-recv received, and the reverse. Every step is made under
//! the lock on `LINK@sts1.lock`: read, encrypt or decrypt, write. It is written before it is published: a tool that is
//! killed between the two costs the other device one garbled message, and not two.

use bytes::Bytes;

use super::session::{Decrypted, LegacySession, LegacySessionId, Reading, TextCounts};
use super::session_file::{self, Sessions, Unreadable};
use crate::cache::{Cache, LEGACY_FILE, START_THERE};
use crate::config::Legacy;
use crate::files::{self, Lock};
use crate::link::unix_time;
use crate::role::Role;
use crate::session::Standing;
use crate::text::show;
use crate::{Error, Exit, Result};

/// The sessions of one link that is configured for them.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache,
    expected: Legacy,
}

/// One session, without its key.
#[derive(Clone, Debug)]
pub(crate) struct LegacySessionStatus {
    /// Which side we are.
    pub(crate) role: Role,
    /// How messages are encrypted.
    pub(crate) aes: &'static str,
    /// What it may be used for.
    pub(crate) standing: Standing,
    /// When it was agreed, in seconds since 1970.
    pub(crate) created: u64,
    /// Age in seconds; `None` where it is stamped in the future.
    pub(crate) age: Option<u64>,
    /// What was sent and received under it.
    pub(crate) counters: TextCounts,
}

/// A KILL that is recorded as sent.
pub(crate) struct RecordedKill {
    pub(crate) payload: Vec<u8>,
    /// The other device may not recognize it: the next one it will.
    pub(crate) may_be_missed: bool,
}

impl Store {
    /// The sessions in this cache, of a link that is configured like this.
    pub(crate) fn new(cache: Cache, expected: Legacy) -> Self {
        Self { cache, expected }
    }

    /// The cache that they are in, for its locks and notes that are not of one version.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The error of having no session.
    pub(crate) fn no_session(&self) -> Error {
        self.cache.no_session_beside(START_THERE)
    }

    /// That there is a session, at least a pending one.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is none; otherwise as [`Store::open`].
    pub(crate) fn check(&self) -> Result<()> {
        let sessions = self.read()?;
        let all = [&sessions.current, &sessions.pending];
        if all.into_iter().flatten().any(|session| self.is_usable(session)) {
            return Ok(());
        }
        Err(if sessions.is_empty() {
            self.no_session()
        } else {
            self.no_session().because("the existing one does not match the configuration: another sts_mode or aes")
        })
    }

    /// That there is a session to send under.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub(crate) fn check_current(&self) -> Result<()> {
        self.check()?;
        match self.read()?.current {
            Some(_) => Ok(()),
            None => Err(self.no_session().because("the new one is pending until the other device is ready to receive")),
        }
    }

    /// The age of the current session in seconds; `None` where there is none, it cannot be read, or it is stamped in the future.
    ///
    /// # Errors
    /// [`Exit::Protocol`] where a later version wrote the file.
    pub(crate) fn age(&self, now: u64) -> Result<Option<u64>> {
        Ok(self
            .read_to_replace()?
            .current
            .filter(|current| self.is_usable(current))
            .and_then(|current| age(&current, now)))
    }

    /// Encrypts a text for a message, to be published before the next one is made.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is no current session; otherwise as [`Store::open`].
    pub(crate) fn seal(&self, text: &[u8]) -> Result<Vec<u8>> {
        self.change(|sessions| {
            let current = sessions.current.as_mut().filter(|current| self.is_usable(current));
            let current = current.ok_or_else(|| self.no_session())?;
            Ok((current.seal(text), true))
        })
    }

    /// Decrypts a payload; `None` where there is no session. With a KILL the session is deleted.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the file is malformed, or cannot be read or written; [`Exit::Protocol`] where another
    /// version wrote it.
    pub(crate) fn open(&self, payload: &[u8]) -> Result<Option<Decrypted>> {
        self.change(|sessions| Ok(self.open_in(sessions, payload, Reading::Write)))
    }

    /// As [`Store::open`], but no text is written down: where it cannot be, it can be read all the same. `unrecorded`
    /// came before it, and were read in the same way. With a KILL the session is deleted here, too, which takes no
    /// space.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn peek(&self, unrecorded: &[Bytes], payload: &[u8]) -> Result<Option<Decrypted>> {
        self.change(|sessions| {
            for earlier in unrecorded {
                let _ = self.open_in(sessions, earlier, Reading::Write);
            }
            let (opened, _) = self.open_in(sessions, payload, Reading::Write);
            Ok((opened, sessions.is_empty()))
        })
    }

    /// As [`Store::open`], for a tool that writes no texts: nothing is counted, and with a KILL the session stays for an sts-recv
    /// that runs, which may have texts to read that came before it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn follow(&self, payload: &[u8]) -> Result<Option<Decrypted>> {
        self.change(|sessions| {
            let (opened, mut has_changed) = self.open_in(sessions, payload, Reading::Follow);
            if opened == Some(Decrypted::Kill) {
                // An sts-recv that starts now has nothing to receive under, whether or not it finds the lock taken.
                has_changed = !self.cache.is_receiving()?;
            }
            Ok((opened, has_changed))
        })
    }

    fn open_in(&self, sessions: &mut Sessions, payload: &[u8], reading: Reading) -> (Option<Decrypted>, bool) {
        let opens = |session: &Option<LegacySession>| {
            session.as_ref().is_some_and(|session| self.is_usable(session) && session.opens(payload))
        };
        if opens(&sessions.pending) && !opens(&sessions.current) {
            sessions.current = sessions.pending.take();
        }
        let Some(current) = sessions.current.as_mut().filter(|current| self.is_usable(current)) else {
            return (None, false);
        };
        let opened = current.open(payload, reading);
        match (&opened, reading) {
            (Decrypted::Text(_), Reading::Write) => current.counters.last_text = Some(unix_time()),
            (Decrypted::Kill, _) => sessions.current = None,
            _ => {}
        }
        let has_changed = !matches!(opened, Decrypted::NotWhole | Decrypted::Repeated);
        (Some(opened), has_changed)
    }

    /// Makes a KILL; `None` where there is no current session.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn kill(&self) -> Result<Option<RecordedKill>> {
        self.change(|sessions| {
            let Some(current) = sessions.current.as_mut().filter(|current| self.is_usable(current)) else {
                return Ok((None, false));
            };
            let may_be_missed = current.may_be_out_of_step();
            Ok((Some(RecordedKill { payload: current.kill(), may_be_missed }), true))
        })
    }

    /// Stores a session before the other device can use it, in place of another one that is pending.
    ///
    /// # Errors
    /// As [`Store::open`], but for a file that cannot be read, which is replaced unless a later version wrote it.
    pub(crate) fn store_pending(&self, session: LegacySession) -> Result<()> {
        let lock = self.lock()?;
        let sessions = self.read_to_replace()?;
        self.write(&lock, &Sessions { pending: Some(session), ..sessions })
    }

    /// Makes a pending session the current one, in place of the one before it; false where it is gone. It may be current
    /// already, as sts-recv received something under it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn promote(&self, id: LegacySessionId) -> Result<bool> {
        self.change(|sessions| {
            if sessions.pending.as_ref().is_some_and(|pending| pending.id == id) {
                sessions.current = sessions.pending.take();
                return Ok((true, true));
            }
            Ok((sessions.current.as_ref().is_some_and(|current| current.id == id), false))
        })
    }

    /// Deletes a pending session.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn drop_pending(&self, id: LegacySessionId) -> Result<()> {
        self.change(|sessions| Ok(((), sessions.pending.take_if(|pending| pending.id == id).is_some())))
    }

    /// Deletes all sessions, readable or not; false where there were none.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the directory cannot be written.
    pub(crate) fn delete(&self) -> Result<bool> {
        delete(&self.cache)
    }

    /// Has this process be the one that sends on the link, until the lock is dropped: two would not know in which order the broker
    /// takes what they send.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another sts-send runs on the link.
    pub(crate) fn lock_sending(&self) -> Result<Lock> {
        let name = format!("{}.send.lock", self.name());
        files::try_lock(self.cache.dir(), &name)?.ok_or_else(|| {
            Error::new(Exit::TryAgain, format!("cannot send to {}", self.cache.link()))
                .because("another sts-send is already running on this link, and sts_version = 1 allows only one")
        })
    }

    fn is_usable(&self, session: &LegacySession) -> bool {
        session.role == self.expected.role && session.mode_name() == self.expected.aes.name()
    }

    /// Reads under the lock, changes, and writes if `change` says so.
    fn change<T>(&self, change: impl FnOnce(&mut Sessions) -> Result<(T, bool)>) -> Result<T> {
        let lock = self.lock()?;
        let mut sessions = self.read()?;
        let (result, has_changed) = change(&mut sessions)?;
        if has_changed {
            for session in [&mut sessions.current, &mut sessions.pending].into_iter().flatten() {
                session.forget_old(unix_time());
            }
            self.write(&lock, &sessions)?;
        }
        Ok(result)
    }

    fn name(&self) -> String {
        file_name(&self.cache)
    }

    fn lock(&self) -> Result<Lock> {
        lock(&self.cache)
    }

    fn read(&self) -> Result<Sessions> {
        read(&self.cache)
    }

    /// As [`Store::read`], before a pairing replaces what is there: keys that cannot be read are lost already, and must
    /// not stop it.
    fn read_to_replace(&self) -> Result<Sessions> {
        match load(&self.cache) {
            Ok(Err(Unreadable::Later)) => Err(unusable(&self.cache, &Unreadable::Later)),
            loaded => Ok(loaded.ok().and_then(std::result::Result::ok).unwrap_or_default()),
        }
    }

    fn write(&self, lock: &Lock, sessions: &Sessions) -> Result<()> {
        if sessions.is_empty() {
            return files::remove(self.cache.dir(), &self.name()).map(drop);
        }
        let text = session_file::encode(self.cache.link().as_str(), sessions);
        files::replace(self.cache.dir(), lock, &self.name(), text.as_bytes())
    }
}

fn file_name(cache: &Cache) -> String {
    format!("{}@{LEGACY_FILE}", cache.link())
}

fn lock(cache: &Cache) -> Result<Lock> {
    files::lock(cache.dir(), &format!("{}.lock", file_name(cache)))
}

/// Deletes all sessions of a link, readable or not, whatever its configuration says; false where there were none.
///
/// # Errors
/// As [`Store::delete`].
pub(crate) fn delete(cache: &Cache) -> Result<bool> {
    let name = file_name(cache);
    // Most links never have any, nor the file of the lock. If that cannot be found out, there may be a key that has to go.
    if matches!(cache.dir().join(&name).try_exists(), Ok(false)) {
        return Ok(false);
    }
    let _lock = lock(cache)?;
    files::remove(cache.dir(), &name)
}

fn read(cache: &Cache) -> Result<Sessions> {
    load(cache)?.map_err(|unreadable| unusable(cache, &unreadable))
}

fn load(cache: &Cache) -> Result<std::result::Result<Sessions, Unreadable>> {
    let bytes = files::read_private(cache.dir(), &file_name(cache))?;
    Ok(bytes.map_or_else(|| Ok(Sessions::default()), |bytes| session_file::parse(cache.link().as_str(), &bytes)))
}

fn unusable(cache: &Cache, unreadable: &Unreadable) -> Error {
    let name = file_name(cache);
    let (exit, why) = match unreadable {
        Unreadable::Later => return cache.of_later_version(&name),
        Unreadable::Earlier => (Exit::Protocol, "an earlier version of these tools wrote it"),
        Unreadable::Malformed => (Exit::Failed, "not a valid session file"),
    };
    let hint = format!("agree on new keys, which replaces this file: {}", cache.pairing_command());
    Error::new(exit, show(&cache.dir().join(&name))).because(why).hint(hint)
}

fn age(session: &LegacySession, now: u64) -> Option<u64> {
    now.checked_sub(session.created)
}

/// What `sts-pair --status` shows of a link's sessions, the current one first.
///
/// # Errors
/// As [`Store::open`].
pub(crate) fn status(cache: &Cache, now: u64) -> Result<Vec<LegacySessionStatus>> {
    let Sessions { current, pending } = read(cache)?;
    let all = [(Standing::Current, current), (Standing::Pending, pending)];
    let of = |(standing, session): (Standing, Option<LegacySession>)| {
        session.map(|session| LegacySessionStatus {
            role: session.role,
            aes: session.mode_name(),
            standing,
            created: session.created,
            age: age(&session, now),
            counters: session.counters,
        })
    };
    Ok(all.into_iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests;
