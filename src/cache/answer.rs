//! Answering a peer that asks whether a session is still here (`sts-protocol(7)`, "Still there"): one tool of a link does.

use super::{Cache, StoredSession, Watch};
use crate::Result;
use crate::files::{self, Lock};
use crate::handshake::session_check;
use crate::session::{Session, Standing};
use crate::space_wait::disk_full;

impl Cache {
    /// Takes it on itself to answer, as sts-pair does while it runs: it alone knows whether a new session is wanted. The
    /// other tools of the link are silent until this is dropped.
    ///
    /// # Errors
    /// As [`files::lock`].
    pub(crate) fn lock_answers(&self) -> Result<Lock> {
        // The others hold it for a moment only: no reason to turn back.
        files::lock(&self.dir, &self.answers_lock())
    }

    /// The answer to a payload that asks under a session of those in `watch` that this device `can_use`; `None` for any other
    /// payload, where sts-pair runs, and while the disk is full. The question proves a pending session, which becomes the current
    /// one.
    ///
    /// # Errors
    /// As [`Cache::promote`], and as [`files::lock`].
    pub(crate) fn answer(
        &self,
        payload: &[u8],
        watch: &Watch,
        can_use: impl Fn(&Session) -> bool,
        now: u64,
    ) -> Result<Option<Vec<u8>>> {
        let Some(of_peer) = session_check::query_session(payload).and_then(|id| watch.of_peer_with(id)) else {
            return Ok(None);
        };
        let usable = of_peer.sessions.iter().map(|stored| &stored.session).filter(|session| can_use(session));
        let asked = session_check::reply(payload, usable, &of_peer.deleted);
        // A stranger's junk has touched no file up to here.
        let Ok((answer, session)) = asked else { return Ok(None) };
        let Some(_lock) = files::try_lock(&self.dir, &self.answers_lock())? else { return Ok(None) };
        let pending = |stored: &StoredSession| stored.session.id == session.id && stored.standing == Standing::Pending;
        if of_peer.sessions.iter().any(pending) {
            let promoted = self.promote(&session.peer, &session.id, now);
            if disk_full(&promoted).is_some() {
                // Whoever gets no answer asks again, or pairs.
                return Ok(None);
            }
            promoted?;
        }
        Ok(Some(answer))
    }

    fn answers_lock(&self) -> String {
        format!("{}@answer.lock", self.link)
    }
}
