//! In which order the sessions with the peers of a link were agreed. Of several alternatives (`peer = first, second`) the device
//! sends to the one with which it paired last. That is written down, since a clock that was set back tells it wrongly.

use super::Cache;
use super::field_text::{hex, put, unhex};
use crate::Result;
use crate::files;
use crate::session::{Session, SessionId};

/// The order of a link's sessions; it is empty where none was noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionOrder {
    /// The oldest is first.
    ids: Vec<SessionId>,
}

impl SessionOrder {
    /// Later sessions have higher ranks, and one that was not noted has the lowest.
    pub(crate) fn rank(&self, id: SessionId) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let id = |line: &str| unhex(line.strip_prefix("session = ")?);
        let ids = std::str::from_utf8(bytes).ok()?.lines().map(id).collect::<Option<_>>()?;
        Some(Self { ids })
    }
}

impl Cache {
    /// Notes that a session is the latest one, before it is stored: if that fails, the note means nothing. One that is noted
    /// already keeps its place, and those that are stored no more lose theirs.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written; what was noted before stays.
    pub(crate) fn note_latest(&self, session: &Session) -> Result<()> {
        let lock = self.lock()?;
        let mut ids = self.session_order()?.ids;
        if ids.contains(&session.id) {
            return Ok(());
        }
        let mut stored = Vec::new();
        for peer in self.peers()? {
            // What is in a file that cannot be read is not used.
            stored.extend(self.read(peer).unwrap_or_default().sessions.iter().map(|stored| stored.session.id));
        }
        ids.retain(|id| stored.contains(id));
        ids.push(session.id);
        let mut text = String::new();
        for id in &ids {
            put(&mut text, "session", hex(id));
        }
        files::replace(&self.dir, &lock, &self.session_order_file(), text.as_bytes())
    }

    /// The order that was noted; an empty one if the file is absent or malformed.
    ///
    /// # Errors
    /// As [`files::read_private`].
    pub(crate) fn session_order(&self) -> Result<SessionOrder> {
        let bytes = files::read_private(&self.dir, &self.session_order_file())?;
        Ok(bytes.and_then(|bytes| SessionOrder::parse(&bytes)).unwrap_or_default())
    }

    fn session_order_file(&self) -> String {
        format!("{}@latest", self.link)
    }
}
