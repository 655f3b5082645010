//! `known_peers`: which keys are pinned here, under which names, and for which links.
//!
//! [`KnownPeers`] is what a run knows of the file, all peers or a [`Selection`] of them. [`PeersStore`] is the file:
//! opened and read in `file`, changed line by line in `change`. In a large file, `index` says where each peer is.

mod change;
mod file;
mod index;
mod line;
#[cfg(test)]
mod tests;

pub(crate) use self::change::{FormerPeer, NewPeer};
pub(crate) use self::file::PeersFile;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::file::parse_lines;
pub(crate) use self::file::{KNOWN_PEERS_FILE, MAX_KNOWN_PEERS_LEN, PeersStore};
use self::index::Subject;
pub(crate) use self::line::PeersLine;
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::files::Stamp;
use crate::identity::{Binding, PeerName, PublicKey};
use crate::name::LinkName;

/// Most peers of a link that are selected, rather than all.
const MAX_SELECTED: usize = 1000;

/// The pinned keys, as the file had them when it was read.
///
/// One line per peer, as [`PeersLine`] has them; empty lines and those that begin with `#` are remarks. A key has one name, and a
/// name one key. Any other line makes the file malformed, a key type of a newer version too.
#[derive(Debug)]
pub(crate) struct KnownPeers {
    store: PeersStore,
    lines: Vec<PeersLine>,
    stamp: Option<Stamp>,
    reading: Reading,
}

/// Which lines of the file are read.
#[derive(Debug)]
enum Reading {
    All,
    /// Those of the selection, if that says of all the others that they do not matter.
    Selected(Selection),
    /// Each when [`KnownPeers::look_up`] asks for it, in this version of the file; all of them where there is no index.
    AsAsked(Option<PeersFile>),
}

/// The peers that a run has to know, which a large file is not read for as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// Those of these names.
    pub(crate) names: Vec<PeerName>,
    /// Those that were trusted for this link by name, or that it has paired with.
    pub(crate) link: Option<LinkName>,
}

impl KnownPeers {
    /// Reads the file; without one no peer is known.
    ///
    /// # Errors
    /// [`crate::Exit::NotTrusted`] where others can write it, [`crate::Exit::Config`] with the line's number where it is malformed.
    pub(crate) fn load(store: PeersStore) -> Result<Self> {
        Self::read(store, Reading::All)
    }

    /// As [`KnownPeers::load`]; only those of the selection, if that says of all the others that they do not matter.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub(crate) fn load_selected(store: PeersStore, selection: Selection) -> Result<Self> {
        Self::read(store, Reading::Selected(selection))
    }

    /// As [`KnownPeers::load`]; of a large file only those that are [looked up](KnownPeers::look_up).
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub(crate) fn load_as_asked(store: PeersStore) -> Result<Self> {
        Self::read(store, Reading::AsAsked(None))
    }

    fn read(store: PeersStore, reading: Reading) -> Result<Self> {
        let mut known = Self { store, lines: Vec::new(), stamp: None, reading };
        known.reload()?;
        Ok(known)
    }

    fn reload(&mut self) -> Result<()> {
        let selected = match &self.reading {
            Reading::All => None,
            Reading::Selected(selection) => selection.of(&self.store.open()?)?,
            Reading::AsAsked(_) => return self.reload_asked(),
        };
        (self.lines, self.stamp) = if let Some(selected) = selected {
            selected
        } else {
            let file = self.store.read()?;
            let stamp = file.stamp();
            (file.into_lines().unwrap_or_default(), stamp)
        };
        Ok(())
    }

    /// Reads the lines again that were asked for. Without an index all are read, which leaves one for the next time.
    fn reload_asked(&mut self) -> Result<()> {
        let mut file = self.store.open()?;
        if file.is_read() {
            // By the index that was just made; the lines take more memory than all else.
            let indexed = self.store.open()?;
            if indexed.is_read() {
                self.stamp = indexed.stamp();
                self.lines = indexed.into_lines().unwrap_or_default();
                self.reading = Reading::AsAsked(None);
                return Ok(());
            }
            file = indexed;
        }
        let mut lines = Vec::new();
        // Of those that are known because there was no index, most were never asked for.
        if let Reading::AsAsked(Some(_)) = self.reading {
            for line in &self.lines {
                lines.extend(file.find(Subject::Key(line.key.fingerprint().as_bytes()), 1)?);
            }
        }
        (self.lines, self.stamp) = (lines, file.stamp());
        self.reading = Reading::AsAsked(Some(file));
        Ok(())
    }

    /// Whether no peer is known, read or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.are_more()
    }

    /// Whether there may be other peers than those that were read.
    pub(crate) fn are_more(&self) -> bool {
        matches!(self.reading, Reading::AsAsked(Some(_)))
    }

    /// The peer with the key of this fingerprint, if it was not known before.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the file or its index cannot be read.
    pub(crate) fn look_up(&mut self, fingerprint: &Digest) -> Result<Option<&PeersLine>> {
        let Reading::AsAsked(Some(file)) = &self.reading else { return Ok(None) };
        if self.lines.iter().any(|line| line.key.fingerprint().as_bytes() == fingerprint) {
            return Ok(None);
        }
        let found = file.find(Subject::Key(fingerprint), 1)?;
        self.lines.extend(found);
        Ok(self.lines.last().filter(|line| line.key.fingerprint().as_bytes() == fingerprint))
    }

    /// Forgets those of the peers that were looked up; true if there were any.
    pub(crate) fn forget(&mut self, is_forgotten: impl Fn(&Digest) -> bool) -> bool {
        if !self.are_more() {
            return false;
        }
        let before = self.lines.len();
        self.lines.retain(|line| !is_forgotten(line.key.fingerprint().as_bytes()));
        self.lines.len() < before
    }

    /// From the next reading on only this peer matters, if not all do.
    pub(crate) fn narrow_to(&mut self, name: &PeerName) {
        if let Reading::Selected(selection) = &mut self.reading {
            selection.names = vec![name.clone()];
        }
    }

    /// Whether the file was changed since it was read, one stat.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where its directory cannot be searched.
    pub(crate) fn has_changed(&self) -> Result<bool> {
        Ok(self.store.stamp()? != self.stamp)
    }

    /// Reads the file again if it was changed; true where it was. After an error the old state stays.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        if !self.has_changed()? {
            return Ok(false);
        }
        self.reload()?;
        Ok(true)
    }

    /// The file behind it.
    pub(crate) fn store(&self) -> &PeersStore {
        &self.store
    }

    /// All peers, in the file's order.
    pub(crate) fn lines(&self) -> &[PeersLine] {
        &self.lines
    }

    /// Pins a key for one link, and reads the file again.
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub(crate) fn add(&mut self, own: &PublicKey, name: &PeerName, key: &PublicKey, link: &LinkName) -> Result<()> {
        self.add_as(own, name, key, &Binding::to(Some(link)))
    }

    /// As [`KnownPeers::add`]. If no other key is for the link, this also writes down that the link has paired with this one;
    /// otherwise the end of the pairing decides that ([`KnownPeers::note_paired`]).
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub(crate) fn add_paired(
        &mut self,
        own: &PublicKey,
        name: &PeerName,
        key: &PublicKey,
        link: &LinkName,
    ) -> Result<()> {
        let is_other = |line: &PeersLine| ![own, key].contains(&&line.key) && line.binding.allows(link);
        if self.lines.iter().any(is_other) {
            return self.add(own, name, key, link);
        }
        self.add_as(own, name, key, &Binding::paired_with(link))
    }

    fn add_as(&mut self, own: &PublicKey, name: &PeerName, key: &PublicKey, binding: &Binding) -> Result<()> {
        let peer = NewPeer { name: name.clone(), key: key.clone(), line_number: None };
        self.store.trust_as(own, &[peer], binding)?;
        self.reload()
    }

    /// As [`PeersStore::note_paired`]; writes only where that is news.
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub(crate) fn note_paired(&mut self, key: &PublicKey, link: &LinkName) -> Result<()> {
        if self.lines.iter().find(|line| line.key == *key).is_some_and(|line| line.binding.has_paired(link)) {
            return Ok(());
        }
        self.store.note_paired(key, link)?;
        self.reload()
    }
}

impl Selection {
    /// The lines of the selection with the stamp of the file; nothing where the others matter, too.
    fn of(&self, file: &PeersFile) -> Result<Option<(Vec<PeersLine>, Option<Stamp>)>> {
        let mut lines: Vec<PeersLine> = Vec::new();
        for name in &self.names {
            let Some(line) = file.find(Subject::Name(name), 1)?.pop() else { return Ok(None) };
            lines.push(line);
        }
        if let Some(link) = &self.link {
            let mut of_link = file.find(Subject::Link(link), MAX_SELECTED)?;
            let is_bound = |line: &PeersLine| line.binding.allows(link);
            if of_link.len() == MAX_SELECTED || (self.names.is_empty() && !of_link.iter().any(is_bound)) {
                return Ok(None);
            }
            of_link.retain(|line| lines.iter().all(|selected| selected.name != line.name));
            lines.append(&mut of_link);
        } else if self.names.is_empty() {
            return Ok(None);
        }
        lines.sort_unstable_by_key(|line| line.place.start);
        Ok(Some((lines, file.stamp())))
    }
}
