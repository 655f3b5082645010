//! Changes of `known_peers`, line by line: every other line stays as it is, byte for byte, and the file is replaced
//! once per change. Only a line that is added to a large file is appended to it, so that a device with flash writes
//! hundreds of bytes instead of megabytes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::file::{KNOWN_PEERS_FILE, PeersFile, PeersStore};
use super::index::{MIN_INDEXED_LEN, PeersIndex, Subject};
use super::line::PeersLine;
use crate::files::{self, Lock, Part, Stamp};
use crate::identity::{Binding, PeerName, PublicKey};
use crate::name::{LinkName, did_you_mean, list};
use crate::{Error, Exit, Result};

const KNOWN_PEERS_LOCK: &str = "known_peers.lock";

/// A key to trust.
pub(crate) struct NewPeer {
    /// Under this name.
    pub(crate) name: PeerName,
    /// The key.
    pub(crate) key: PublicKey,
    /// The line of the list on standard input that it is from, if there is one.
    pub(crate) line_number: Option<usize>,
}

/// A peer to forget.
pub(crate) struct FormerPeer {
    /// Under this name.
    pub(crate) name: PeerName,
    /// As [`NewPeer::line_number`].
    pub(crate) line_number: Option<usize>,
}

/// A line that is replaced or removed, or added where the place is the end of the file.
struct Edit {
    place: Range<u64>,
    line: Option<PeersLine>,
}

impl PeersStore {
    /// Pins keys under names, for one link or for all of them, all of them or none, and stores the file. Pinning the same pair
    /// again adds the link to those that it is for.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where a key is our own or has another name already, or a name another key; as
    /// [`super::KnownPeers::load`]; [`Exit::Failed`] where the file cannot be stored, which is then as it was.
    pub(crate) fn trust(&self, own: &PublicKey, peers: &[NewPeer], link: Option<&LinkName>) -> Result<()> {
        self.trust_as(own, peers, &Binding::to(link))
    }

    /// As [`PeersStore::trust`], with what is known of the links.
    pub(super) fn trust_as(&self, own: &PublicKey, peers: &[NewPeer], binding: &Binding) -> Result<()> {
        self.change(2 * peers.len(), |file| {
            let (mut edits, mut names, mut keys) = (Vec::new(), HashMap::new(), HashMap::new());
            for peer in peers {
                let edit = to_trust(file, own, peer, binding)?;
                let others = [names.insert(&peer.name, peer), keys.insert(peer.key.fingerprint(), peer)];
                match others.into_iter().flatten().find_map(|other| peer.conflict(other)) {
                    Some(error) => return Err(error),
                    // The same once more.
                    None if others.iter().any(Option::is_some) => {}
                    None => edits.extend(edit),
                }
            }
            Ok((edits, ()))
        })
    }

    /// Writes down that a link has paired with the peer of this key, with which it stays; writes only where that is news.
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub(crate) fn note_paired(&self, key: &PublicKey, link: &LinkName) -> Result<()> {
        self.change(2, |file| {
            let mut lines = file.find(Subject::Link(link), usize::MAX)?;
            lines.retain(|line| line.key != *key);
            lines.extend(file.find_key(key)?);
            let edit = |mut line: PeersLine| {
                let is_paired = line.key == *key;
                line.binding.set_paired(link, is_paired).then(|| Edit { place: line.place.clone(), line: Some(line) })
            };
            Ok((lines.into_iter().filter_map(edit).collect(), ()))
        })
    }

    /// Unpins names, all of them or none, and stores the file; a name may be there more than once. Returns the lines, whose
    /// sessions must go too, in the order of the file.
    ///
    /// # Errors
    /// [`Exit::Config`] where no peer has one of the names; as [`PeersStore::trust`].
    pub(crate) fn forget(&self, peers: &[FormerPeer]) -> Result<Vec<PeersLine>> {
        let forgotten = self.change(peers.len(), |file| {
            let mut lines = BTreeMap::new();
            for peer in peers {
                match file.find(Subject::Name(&peer.name), 1)?.pop() {
                    Some(line) => drop(lines.insert(line.place.start, line)),
                    None => return Ok((Vec::new(), Err(peer))),
                }
            }
            let removed = lines.values().map(|line| Edit { place: line.place.clone(), line: None });
            Ok((removed.collect(), Ok(lines.into_values().collect())))
        })?;
        match forgotten {
            Ok(lines) => Ok(lines),
            Err(unknown) => Err(self.no_peer(unknown)?),
        }
    }

    fn no_peer(&self, FormerPeer { name, line_number }: &FormerPeer) -> Result<Error> {
        let lines = self.read()?.into_lines().unwrap_or_default();
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        let known = if names.is_empty() { "nobody".into() } else { list(names.iter().copied()) };
        let meant = did_you_mean(name.as_str(), names);
        let hint = match line_number {
            None => meant,
            Some(_) => Some(["nothing was changed".into()].into_iter().chain(meant).collect::<Vec<_>>().join("; ")),
        };
        Ok(Error::new(Exit::Config, format!("{}no peer `{name}`", place(*line_number)))
            .because(format!("known here: {known}"))
            .hint_if(hint))
    }

    /// Applies edits to the file as it is now, under its lock; they take about this many look-ups.
    fn change<T>(&self, lookups: usize, edits: impl FnOnce(&PeersFile) -> Result<(Vec<Edit>, T)>) -> Result<T> {
        let lock = files::lock(self.dir(), KNOWN_PEERS_LOCK)?;
        let mut file = self.open()?;
        file.prepare(lookups)?;
        let (mut edits, result) = edits(&file)?;
        if !edits.is_empty() {
            files::check_replaceable(self.dir(), KNOWN_PEERS_FILE)?;
            edits.sort_by_key(|edit| edit.place.start);
            self.write(&lock, file, edits)?;
        }
        Ok(result)
    }

    /// Replaces the file by one with these edits, in order of their places, and its index.
    fn write(&self, lock: &Lock, file: PeersFile, edits: Vec<Edit>) -> Result<()> {
        let edited = Edited::of(edits, file.len(), file.ends_open()?);
        let appended = match (file.stamp(), edited.appended_to(file.len())) {
            (Some(old), Some(line)) => files::append_line(self.dir(), lock, KNOWN_PEERS_FILE, &old, line)?,
            _ => None,
        };
        let (old, index) = file.into_parts();
        let Some(old) = old else {
            // The first one that reads it makes an index.
            return files::replace(self.dir(), lock, KNOWN_PEERS_FILE, edited.new_text().as_bytes());
        };
        let is_appended = appended.is_some();
        let written = match appended {
            Some(written) => written,
            None => files::replace_parts(self.dir(), lock, KNOWN_PEERS_FILE, &old, &edited.parts)?,
        };
        let index = if is_appended {
            index.after_appending(&edited.lines)
        } else {
            index.after(|at| edited.moved(at), &edited.lines)
        };
        match index {
            Ok(index) => self.store_index(&index, &written),
            Err(_) => Ok(()),
        }
    }

    /// Stores the index of what was `written`, if that is still there: an editor takes no lock.
    pub(super) fn store_index(&self, index: &PeersIndex, written: &Stamp) -> Result<()> {
        if let (Some(dir), Some(stamp)) = (self.index_dir(), self.stamp()?)
            && stamp.is_same_content(written)
        {
            index.store(dir, &stamp);
        }
        Ok(())
    }
}

impl PeersFile {
    fn find_key(&self, key: &PublicKey) -> Result<Option<PeersLine>> {
        Ok(self.find(Subject::Key(key.fingerprint().as_bytes()), 1)?.pop())
    }
}

/// What pins a key; nothing if that is so already.
fn to_trust(file: &PeersFile, own: &PublicKey, peer: &NewPeer, binding: &Binding) -> Result<Option<Edit>> {
    if peer.key == *own {
        let refused = peer.refused("that is this device's own key".into());
        return Err(refused.hint("take the key line from the other device"));
    }
    let new = PeersLine::new(&peer.name, &peer.key, binding.clone());
    let pinned = match file.find_key(&peer.key)? {
        Some(pinned) => Some(pinned),
        None => file.find(Subject::Name(&peer.name), 1)?.pop(),
    };
    let Some(mut pinned) = pinned else {
        return Ok(Some(Edit { place: file.len()..file.len(), line: Some(new) }));
    };
    if pinned.name == new.name && pinned.key == new.key {
        let place = pinned.place.clone();
        return Ok(pinned.binding.widen(binding).then_some(Edit { place, line: Some(pinned) }));
    }
    let why = new.conflict(&pinned).unwrap_or_default();
    Err(peer
        .refused(why)
        .hint(format!("if that is what you want: sts-pair --forget {}, then trust again", pinned.name)))
}

/// How an error begins that is about a line of standard input.
fn place(line_number: Option<usize>) -> String {
    line_number.map(|number| format!("stdin, line {number}: ")).unwrap_or_default()
}

impl NewPeer {
    fn refused(&self, why: String) -> Error {
        Error::new(Exit::NotTrusted, format!("{}cannot trust `{}`", place(self.line_number), self.name)).because(why)
    }

    /// The error of being in one list with this one before it; `None` where both can be.
    fn conflict(&self, before: &Self) -> Option<Error> {
        let number = before.line_number.unwrap_or_default();
        let why = match (self.name == before.name, self.key == before.key) {
            (true, true) | (false, false) => return None,
            (true, false) => format!("line {number} has another key for this name"),
            (false, true) => format!("line {number} has this key as `{}`", before.name),
        };
        Some(self.refused(why).hint("nothing was changed: correct the list, then trust it again"))
    }
}

/// The file after its edits.
struct Edited {
    parts: Vec<Part>,
    /// The new lines, each with its place in the new file.
    lines: Vec<PeersLine>,
    /// The places of the edits in the old file, with how many bytes longer the new one is after each of them.
    places: Vec<(Range<u64>, i64)>,
}

impl Edited {
    /// The edits, in order of their places, of a file of `len` bytes that may end without a newline.
    fn of(edits: Vec<Edit>, len: u64, ends_open: bool) -> Self {
        let mut edited = Self { parts: Vec::new(), lines: Vec::new(), places: Vec::new() };
        let (mut from, mut to) = (0, 0);
        for Edit { place, line } in edits {
            let kept = place.start - from;
            edited.push_kept(from..place.start);
            to += kept;
            from = place.end;
            if let Some(mut line) = line {
                if place.start == len && ends_open && kept > 0 {
                    edited.push_new("\n");
                    to += 1;
                }
                let text = format!("{line}\n");
                edited.push_new(&text);
                line.place = to..to + text.len() as u64;
                to = line.place.end;
                edited.lines.push(line);
            }
            edited.places.push((place, to.cast_signed() - from.cast_signed()));
        }
        edited.push_kept(from..len);
        edited
    }

    fn push_kept(&mut self, range: Range<u64>) {
        if !range.is_empty() {
            self.parts.push(Part::Kept(range));
        }
    }

    fn push_new(&mut self, text: &str) {
        if let Some(Part::New(last)) = self.parts.last_mut() {
            last.push_str(text);
        } else {
            self.parts.push(Part::New(text.to_owned()));
        }
    }

    /// The line that is all that is new, if it follows the others of a large file, which has `len` bytes.
    fn appended_to(&self, len: u64) -> Option<&str> {
        match (&self.parts[..], &self.lines[..]) {
            ([Part::Kept(kept), Part::New(text)], [line]) if *kept == (0..len) && len >= MIN_INDEXED_LEN => {
                (line.place.start == len).then_some(text)
            }
            _ => None,
        }
    }

    /// What is new, without what is kept.
    fn new_text(&self) -> String {
        let new = self.parts.iter().filter_map(|part| match part {
            Part::New(text) => Some(text.as_str()),
            Part::Kept(_) => None,
        });
        new.collect()
    }

    /// Where a line of the old file is now; `None` if an edit took its place.
    fn moved(&self, at: u64) -> Option<u64> {
        let number = self.places.partition_point(|(place, _)| place.end <= at);
        if self.places.get(number).is_some_and(|(place, _)| place.contains(&at)) {
            return None;
        }
        let longer = number.checked_sub(1).map_or(0, |before| self.places[before].1);
        at.checked_add_signed(longer)
    }
}
