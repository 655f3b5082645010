//! The sessions of a link on disk, which the three tools share: `LINK@sts1` in the runtime directory.
//!
//! Both directions continue one chain, so sts-send must know what sts-recv received, and the reverse. Every step is made under
//! the lock on `LINK@sts1.lock`: read, encrypt or decrypt, write. It is written before it is published: a tool that is
//! killed between the two costs the other device one garbled message, and not two.

use super::session::{Decrypted, LegacySession, LegacySessionId, TextCounts};
use super::session_file::{self, Sessions};
use crate::cache::{Cache, LEGACY_FILE};
use crate::config::Legacy;
use crate::files::{self, Lock};
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
        self.cache.no_session()
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

    /// The age of the current session in seconds; `None` where there is none, or it is stamped in the future.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn age(&self, now: u64) -> Result<Option<u64>> {
        Ok(self.read()?.current.filter(|current| self.is_usable(current)).and_then(|current| age(&current, now)))
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
    /// [`Exit::Failed`] where the file is malformed, or cannot be read or written.
    pub(crate) fn open(&self, payload: &[u8]) -> Result<Option<Decrypted>> {
        self.change(|sessions| Ok(self.open_in(sessions, payload)))
    }

    /// As [`Store::open`], for a tool that writes no texts: nothing is counted, and with a KILL the session stays for an sts-recv
    /// that runs, which may have texts to read that came before it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn follow(&self, payload: &[u8]) -> Result<Option<Decrypted>> {
        self.change(|sessions| {
            let counted = sessions.current.as_ref().map(|current| (current.id, current.counters));
            let (opened, mut has_changed) = self.open_in(sessions, payload);
            if let Some(current) = &mut sessions.current {
                // A pending session may have become the current one by this.
                current.counters = counted.filter(|(id, _)| *id == current.id).unwrap_or_default().1;
            }
            if opened == Some(Decrypted::Kill) {
                // An sts-recv that starts now has nothing to receive under, whether or not it finds the lock taken.
                has_changed = !self.cache.is_receiving()?;
            }
            Ok((opened, has_changed))
        })
    }

    fn open_in(&self, sessions: &mut Sessions, payload: &[u8]) -> (Option<Decrypted>, bool) {
        let opens = |session: &Option<LegacySession>| {
            session.as_ref().is_some_and(|session| self.is_usable(session) && session.opens(payload))
        };
        if opens(&sessions.pending) && !opens(&sessions.current) {
            sessions.current = sessions.pending.take();
        }
        let Some(current) = sessions.current.as_mut().filter(|current| self.is_usable(current)) else {
            return (None, false);
        };
        let opened = current.open(payload);
        if opened == Decrypted::Kill {
            sessions.current = None;
        }
        let has_changed = opened != Decrypted::NotWhole;
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
    /// As [`Store::open`], but for a malformed file, which is replaced.
    pub(crate) fn store_pending(&self, session: LegacySession) -> Result<()> {
        let lock = self.lock()?;
        // Keys that cannot be read are lost already, and must not stop the pairing that replaces them.
        let sessions = self.read().unwrap_or_default();
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
        let _lock = self.lock()?;
        files::remove(self.cache.dir(), &self.name())
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
            self.write(&lock, &sessions)?;
        }
        Ok(result)
    }

    fn name(&self) -> String {
        file_name(&self.cache)
    }

    fn lock(&self) -> Result<Lock> {
        files::lock(self.cache.dir(), &format!("{}.lock", self.name()))
    }

    fn read(&self) -> Result<Sessions> {
        read(&self.cache)
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

fn read(cache: &Cache) -> Result<Sessions> {
    let name = file_name(cache);
    let Some(bytes) = files::read_private(cache.dir(), &name)? else { return Ok(Sessions::default()) };
    session_file::parse(cache.link().as_str(), &bytes).ok_or_else(|| {
        Error::new(Exit::Failed, show(&cache.dir().join(&name)))
            .because("not a valid session file")
            .hint(format!("agree on new keys, which replaces this file: {}", cache.pairing_command()))
    })
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
            age: age(&session, now),
            counters: session.counters,
        })
    };
    Ok(all.into_iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::super::session::tests::session;
    use super::*;
    use crate::suite::Suite;

    fn store(dir: &std::path::Path, role: Role) -> Store {
        let cache = Cache::create(&dir.join(role.name()), &"gateway".parse().unwrap(), "gateway").unwrap();
        Store::new(cache, Legacy { role, aes: Suite::Cbc })
    }

    /// Two devices with a session under the same key.
    fn devices(dir: &std::path::Path) -> [Store; 2] {
        [Role::Master, Role::Slave].map(|role| {
            let store = store(dir, role);
            let session = LegacySession { role, ..session(true) };
            store.store_pending(session.clone()).unwrap();
            assert!(store.promote(session.id).unwrap());
            store
        })
    }

    fn one(store: &Store, text: &str) -> Vec<u8> {
        store.seal(text.as_bytes()).unwrap()
    }

    #[test]
    fn two_tools_continue_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let [master, slave] = devices(dir.path());
        // As another process does.
        let again = store(dir.path(), Role::Master);
        for round in 0..5 {
            let text = format!("round {round}, a text of several blocks");
            assert_eq!(slave.open(&one(&master, &text)).unwrap(), Some(Decrypted::Text(text.clone().into())));
            assert_eq!(again.open(&one(&slave, &text)).unwrap(), Some(Decrypted::Text(text.into())));
        }
        assert_eq!(status(&master.cache, 1060).unwrap()[0].counters, TextCounts { sent: 5, received: 5, damaged: 0 });
        assert_eq!(master.age(1060).unwrap(), Some(60));
    }

    #[test]
    fn what_was_not_published_costs_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let [master, slave] = devices(dir.path());
        // Killed before it was published.
        let _ = one(&master, "lost");
        assert_eq!(
            master.open(&one(&slave, "crossed, they say")).unwrap(),
            Some(Decrypted::Text("crossed, they say".into()))
        );
        let garbled = slave.open(&one(&master, "garbled at the other device")).unwrap();
        assert!(matches!(garbled, Some(Decrypted::Damaged(_))), "{garbled:?}");
        assert_eq!(slave.open(&one(&master, "read again")).unwrap(), Some(Decrypted::Text("read again".into())));
    }

    #[test]
    fn a_pending_session_decrypts_and_becomes_the_current_one_by_that() {
        let dir = tempfile::tempdir().unwrap();
        let [master, _] = devices(dir.path());
        let key = crate::secret::Key::generate(32, |bytes| bytes.fill(9));
        let next = LegacySession::new([2; 8], Role::Master, key, true, 2000);
        master.store_pending(next.clone()).unwrap();
        assert_eq!(status(&master.cache, 2000).unwrap().len(), 2);
        assert_eq!(master.open(&[0; 15]).unwrap(), Some(Decrypted::NotWhole));
        let first = next.clone().seal(b"first under the new key");
        assert_eq!(master.open(&first).unwrap(), Some(Decrypted::Text(b"first under the new key".into())));
        let left = status(&master.cache, 2000).unwrap();
        assert_eq!((left.len(), left[0].standing, left[0].age), (1, Standing::Current, Some(0)));
        assert!(master.promote(next.id).unwrap(), "it is current already");
    }

    #[test]
    fn a_kill_deletes_the_session_and_only_a_real_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let [master, slave] = devices(dir.path());
        assert!(matches!(master.open(&[0x55; 16]).unwrap(), Some(Decrypted::Damaged(_))));
        assert!(master.check().is_ok());
        let _ = one(&slave, "lost");
        let kill = slave.kill().unwrap().unwrap();
        assert!(kill.may_be_missed && matches!(master.open(&kill.payload).unwrap(), Some(Decrypted::Damaged(_))));
        let kill = slave.kill().unwrap().unwrap();
        assert_eq!(master.open(&kill.payload).unwrap(), Some(Decrypted::Kill));
        assert_eq!((master.check().unwrap_err().exit(), master.open(&[0; 16]).unwrap()), (Exit::TryAgain, None));
        assert!(master.kill().unwrap().is_none() && master.seal(b"x").is_err());
        assert!(slave.delete().unwrap() && !slave.delete().unwrap());
    }

    #[test]
    fn a_tool_that_only_follows_leaves_what_sts_recv_has_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let [master, slave] = devices(dir.path());
        let (text, kill) = (one(&slave, "text"), slave.kill().unwrap().unwrap().payload);
        let receiving = master.cache.lock_receiving().unwrap();
        for _ in 0..2 {
            assert_eq!(master.follow(&text).unwrap(), Some(Decrypted::Text(b"text".into())));
            assert_eq!(master.follow(&kill).unwrap(), Some(Decrypted::Kill));
        }
        assert_eq!(master.open(&text).unwrap(), Some(Decrypted::Text(b"text".into())));
        assert_eq!(
            status(&master.cache, 1000).unwrap()[0].counters,
            TextCounts { received: 1, ..TextCounts::default() }
        );
        drop(receiving);
        assert_eq!(master.follow(&kill).unwrap(), Some(Decrypted::Kill));
        assert!(master.check().is_err(), "nobody else would delete it");
    }

    #[test]
    fn a_session_that_the_configuration_contradicts_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let [master, _] = devices(dir.path());
        let cache = Cache::create(master.cache.dir().path(), &"gateway".parse().unwrap(), "gateway").unwrap();
        let other = Store::new(cache, Legacy { role: Role::Master, aes: Suite::Ecb });
        assert!(other.check().unwrap_err().to_string().contains("another sts_mode or aes"));
        assert!(other.seal(b"x").is_err() && other.open(&[0; 16]).unwrap().is_none());
    }

    #[test]
    fn a_malformed_file_is_an_error_until_a_pairing_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let [master, _] = devices(dir.path());
        let path = master.cache.dir().join("gateway@sts1");
        std::fs::write(&path, "junk").unwrap();
        let error = master.seal(b"x").unwrap_err();
        assert_eq!((error.exit(), error.hint_text().unwrap().ends_with("sts-pair gateway")), (Exit::Failed, true));
        master.store_pending(session(true)).unwrap();
        assert!(master.check().is_ok());
    }

    #[test]
    fn one_process_sends_and_one_receives() {
        let dir = tempfile::tempdir().unwrap();
        let [master, _] = devices(dir.path());
        let held = (master.lock_sending().unwrap(), master.cache.lock_receiving().unwrap());
        assert_eq!(master.lock_sending().unwrap_err().exit(), Exit::TryAgain);
        assert!(master.cache.lock_receiving().is_err() && master.cache.is_receiving().unwrap());
        drop(held);
        assert!(master.lock_sending().is_ok() && !master.cache.is_receiving().unwrap());
    }
}
