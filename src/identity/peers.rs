//! `known_peers`: which keys are pinned here, under which names, and for which links.

use std::collections::HashSet;

use super::{Binding, PeerName, PublicKey};
use crate::files::{self, Dir, Guard, Stamp};
use crate::name::{LinkName, did_you_mean, list};
use crate::text::show;
use crate::{Error, Exit, Result};

/// The keys that this device trusts, in the configuration directory.
pub(crate) const KNOWN_PEERS_FILE: &str = "known_peers";
const KNOWN_PEERS_LOCK: &str = "known_peers.lock";
/// Longest file that is read, in bytes: ten thousand peers have one of 6 MB.
const MAX_KNOWN_PEERS_LEN: u64 = 64 << 20;

/// The pinned keys, as the file had them when it was read.
///
/// One line per peer, `NAME sts-rsa BASE64` and a [`Binding`]; empty lines and those that begin with `#` are kept as they are.
/// A key has one name, and a name one key. Any other line makes the file malformed, a key type of a newer version too.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownPeers {
    lines: Vec<PeersLine>,
    stamp: Option<Stamp>,
}

#[derive(Clone, Debug)]
enum PeersLine {
    Peer(PeerName, PublicKey, Binding),
    Remark(String),
}

impl KnownPeers {
    /// Reads the file; without one no peer is known.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where others can write it, [`Exit::Config`] with the line's number where it is malformed.
    pub(crate) fn load(dir: &Dir) -> Result<Self> {
        // Taken before reading: a change in between is then seen as one by the next look.
        let stamp = Self::stamp_of(dir)?;
        let Some(bytes) = files::read_up_to(dir, KNOWN_PEERS_FILE, Guard::Public, MAX_KNOWN_PEERS_LEN)? else {
            return Ok(Self::default());
        };
        let location = show(&dir.join(KNOWN_PEERS_FILE));
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::new(Exit::Config, location.clone()).because("it contains bytes that are not UTF-8"))?;
        Ok(Self { stamp, ..Self::parse(text, &location)? })
    }

    /// Reads the text of the file, which an error calls `location`.
    pub(super) fn parse(text: &str, location: &str) -> Result<Self> {
        let mut known = Self::default();
        // Sets, as comparing each of ten thousand peers with each would take too long.
        let (mut names, mut keys) = (HashSet::new(), HashSet::new());
        for (index, line) in text.lines().enumerate() {
            let bad = |why: String| Error::new(Exit::Config, format!("{location}, line {}", index + 1)).because(why);
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                known.lines.push(PeersLine::Remark(line.to_owned()));
                continue;
            }
            let (name, key, binding) = parse(line).map_err(bad)?;
            if !names.insert(name.clone()) | !keys.insert(key.fingerprint()) {
                known.check_new(&name, &key).map_err(bad)?;
            }
            known.lines.push(PeersLine::Peer(name, key, binding));
        }
        Ok(known)
    }

    /// The stamp of the file as it is now, one stat.
    fn stamp_of(dir: &Dir) -> Result<Option<Stamp>> {
        files::target_stamp(dir, KNOWN_PEERS_FILE)
    }

    /// Whether the file was changed since it was read, one stat.
    ///
    /// # Errors
    /// [`Exit::Failed`] where its directory cannot be searched.
    pub(crate) fn has_changed(&self, dir: &Dir) -> Result<bool> {
        Ok(Self::stamp_of(dir)? != self.stamp)
    }

    /// Reads the file again if it was changed; true where it was. After an error the old state stays.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub(crate) fn refresh(&mut self, dir: &Dir) -> Result<bool> {
        if !self.has_changed(dir)? {
            return Ok(false);
        }
        *self = Self::load(dir)?;
        Ok(true)
    }

    /// All peers, in the file's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerName, &PublicKey)> {
        self.with_bindings().map(|(name, key, _)| (name, key))
    }

    /// All peers, in the file's order, and the links that each is for.
    pub(crate) fn with_bindings(&self) -> impl Iterator<Item = (&PeerName, &PublicKey, &Binding)> {
        self.lines.iter().filter_map(|line| match line {
            PeersLine::Peer(name, key, binding) => Some((name, key, binding)),
            PeersLine::Remark(_) => None,
        })
    }

    fn with_bindings_mut(&mut self) -> impl Iterator<Item = (&PeerName, &PublicKey, &mut Binding)> {
        self.lines.iter_mut().filter_map(|line| match line {
            PeersLine::Peer(name, key, binding) => Some((&*name, &*key, binding)),
            PeersLine::Remark(_) => None,
        })
    }

    /// The name under which exactly these bytes (`SubjectPublicKeyInfo`, DER) are pinned, with the key.
    #[must_use]
    pub(crate) fn by_der(&self, der: &[u8]) -> Option<(&PeerName, &PublicKey)> {
        self.iter().find(|(_, key)| key.der() == der)
    }

    /// The key that is pinned under a name.
    #[must_use]
    pub(crate) fn by_name(&self, name: &PeerName) -> Option<&PublicKey> {
        self.iter().find(|(known, _)| *known == name).map(|(_, key)| key)
    }

    /// Pins a key under a name, for one link or for all of them, and stores the file. Pinning the same pair again adds the link
    /// to those that it is for.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where the key is our own or has another name already, or the name another key; as
    /// [`KnownPeers::load`]; [`Exit::Failed`] where the file cannot be stored, which is then as it was.
    pub(crate) fn add(
        &mut self,
        dir: &Dir,
        own: &PublicKey,
        name: &PeerName,
        key: &PublicKey,
        link: Option<&LinkName>,
    ) -> Result<()> {
        let refuse = |why: String| Error::new(Exit::NotTrusted, format!("cannot trust `{name}`")).because(why);
        if key == own {
            return Err(refuse("that is this device's own key".into()).hint("take the key line from the other device"));
        }
        self.change(dir, |known| {
            if let Some((_, _, binding)) = known.with_bindings_mut().find(|it| it.0 == name && it.1 == key) {
                return Ok(binding.widen(link));
            }
            known.check_new(name, key).map_err(|why| {
                let pinned = known.by_der(key.der()).map_or(name, |(pinned, _)| pinned);
                refuse(why).hint(format!("if that is what you want: sts-pair --forget {pinned}, then trust again"))
            })?;
            known.lines.push(PeersLine::Peer(name.clone(), key.clone(), Binding::to(link)));
            Ok(true)
        })
    }

    /// Writes down that a link has paired with the peer of this key, with which it stays; writes only where that is news.
    ///
    /// # Errors
    /// As [`KnownPeers::add`].
    pub(crate) fn note_paired(&mut self, dir: &Dir, key: &PublicKey, link: &LinkName) -> Result<()> {
        let has_paired = |it: (&PeerName, &PublicKey, &Binding)| it.2.has_paired(link);
        if self.with_bindings().find(|it| it.1 == key).is_some_and(has_paired) {
            return Ok(());
        }
        self.change(dir, |known| {
            let mut changed = false;
            for (_, pinned, binding) in known.with_bindings_mut() {
                changed |= binding.set_paired(link, pinned == key);
            }
            Ok(changed)
        })
    }

    /// Unpins a name, stores the file and returns the key, whose sessions must go too.
    ///
    /// # Errors
    /// [`Exit::Config`] where no peer has this name; as [`KnownPeers::add`].
    pub(crate) fn remove(&mut self, dir: &Dir, name: &PeerName) -> Result<PublicKey> {
        let mut removed = None;
        self.change(dir, |known| {
            removed = known.by_name(name).cloned();
            known.lines.retain(|line| !matches!(line, PeersLine::Peer(known, ..) if known == name));
            Ok(removed.is_some())
        })?;
        removed.ok_or_else(|| {
            let names: Vec<&str> = self.iter().map(|(name, _)| name.as_str()).collect();
            let known = if names.is_empty() { "nobody".into() } else { list(names.iter().copied()) };
            Error::new(Exit::Config, format!("no peer `{name}`"))
                .because(format!("known here: {known}"))
                .hint_if(did_you_mean(name.as_str(), names))
        })
    }

    /// Applies an edit to the file as it is now, under its lock; `self` changes only once the file is stored.
    fn change(&mut self, dir: &Dir, edit: impl FnOnce(&mut Self) -> Result<bool>) -> Result<()> {
        let lock = files::lock(dir, KNOWN_PEERS_LOCK)?;
        let mut known = Self::load(dir)?;
        if edit(&mut known)? {
            files::check_replaceable(dir, KNOWN_PEERS_FILE)?;
            files::replace(dir, &lock, KNOWN_PEERS_FILE, known.to_text().as_bytes())?;
            known.stamp = Self::stamp_of(dir)?;
        }
        *self = known;
        Ok(())
    }

    fn check_new(&self, name: &PeerName, key: &PublicKey) -> std::result::Result<(), String> {
        if let Some((pinned, _)) = self.by_der(key.der()) {
            return Err(format!("this key is already known as `{pinned}`"));
        }
        match self.by_name(name) {
            Some(pinned) => Err(format!("`{name}` is already known with another key, {}", pinned.fingerprint())),
            None => Ok(()),
        }
    }

    pub(super) fn to_text(&self) -> String {
        let line = |line: &PeersLine| match line {
            PeersLine::Peer(name, key, binding) => format!("{}{binding}\n", key.to_line(name)),
            PeersLine::Remark(text) => format!("{text}\n"),
        };
        self.lines.iter().map(line).collect()
    }
}

/// Parses the line of a peer: a name, a key, and the fields of a [`Binding`].
fn parse(line: &str) -> std::result::Result<(PeerName, PublicKey, Binding), String> {
    let mut words = line.split_ascii_whitespace();
    let pinned: Vec<_> = words.by_ref().take(3).collect();
    let (name, key) = PublicKey::from_line(&pinned.join(" ")).map_err(|why| why.to_string())?;
    Ok((name, key, Binding::parse(words)?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::key::tests::keys;

    fn home() -> (tempfile::TempDir, Dir) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Public).unwrap();
        (home, dir)
    }

    fn name(text: &str) -> PeerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_is_pinned_found_and_forgotten() {
        let (_home, dir) = home();
        let [own, one, two] = keys();
        let mut known = KnownPeers::load(&dir).unwrap();
        known.add(&dir, own, &name("one"), one, None).unwrap();
        known.add(&dir, own, &name("two"), two, None).unwrap();
        known.add(&dir, own, &name("two"), two, None).unwrap();
        let read = KnownPeers::load(&dir).unwrap();
        assert_eq!(read.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(read.by_der(two.der()).unwrap(), (&name("two"), two));
        assert_eq!(read.by_name(&name("one")), Some(one));
        assert!(read.by_der(own.der()).is_none() && read.by_der(&[]).is_none());
        assert_eq!(known.remove(&dir, &name("one")).unwrap(), *one);
        assert!(KnownPeers::load(&dir).unwrap().by_name(&name("one")).is_none());
        let err = known.remove(&dir, &name("one")).unwrap_err();
        assert_eq!((err.exit(), err.to_string()), (Exit::Config, "no peer `one`: known here: two".into()));
        let err = known.remove(&dir, &name("tow")).unwrap_err();
        assert_eq!(err.hint_text(), Some("did you mean `two`?"));
    }

    #[test]
    fn ambiguity_is_refused() {
        let (_home, dir) = home();
        let [own, one, two] = keys();
        let mut known = KnownPeers::default();
        known.add(&dir, own, &name("one"), one, None).unwrap();
        for (again, key) in [("uno", one), ("one", two), ("me", own)] {
            assert_eq!(known.add(&dir, own, &name(again), key, None).unwrap_err().exit(), Exit::NotTrusted);
        }
        for (again, key) in [("uno", one), ("one", two)] {
            let text = format!("{}\n\n{}", one.to_line(&name("one")), key.to_line(&name(again)));
            fs::write(dir.join(KNOWN_PEERS_FILE), text).unwrap();
            let err = KnownPeers::load(&dir).unwrap_err();
            assert!(err.exit() == Exit::Config && err.to_string().contains("known_peers, line 3: "), "{err}");
        }
    }

    #[test]
    fn remarks_and_order_stay() {
        let (_home, dir) = home();
        let [own, one, two] = keys();
        let text = format!("# ours\r\n\n  # indented\n{}\n# end", two.to_line(&name("two")));
        fs::write(dir.join(KNOWN_PEERS_FILE), &text).unwrap();
        let mut known = KnownPeers::load(&dir).unwrap();
        known.add(&dir, own, &name("one"), one, None).unwrap();
        let expected = format!("{}\n{}\n", text.replace('\r', ""), one.to_line(&name("one")));
        assert_eq!(fs::read_to_string(dir.join(KNOWN_PEERS_FILE)).unwrap(), expected);
    }

    #[test]
    fn a_key_for_one_link_and_the_peer_that_a_link_paired_with_are_written_down() {
        let (_home, dir) = home();
        let [own, one, two] = keys();
        let (plant, depot): (LinkName, LinkName) = ("plant".parse().unwrap(), "depot".parse().unwrap());
        let mut known = KnownPeers::default();
        known.add(&dir, own, &name("one"), one, Some(&plant)).unwrap();
        known.add(&dir, own, &name("two"), two, None).unwrap();
        known.note_paired(&dir, two, &plant).unwrap();
        known.note_paired(&dir, two, &depot).unwrap();
        let fields = |known: &KnownPeers| known.with_bindings().map(|it| it.2.to_string()).collect::<Vec<_>>();
        assert_eq!(fields(&KnownPeers::load(&dir).unwrap()), [" link=plant", " paired=plant,depot"]);
        // A link is with one peer, and a key can be for more links.
        known.note_paired(&dir, one, &plant).unwrap();
        known.add(&dir, own, &name("one"), one, Some(&depot)).unwrap();
        assert_eq!(fields(&KnownPeers::load(&dir).unwrap()), [" link=plant,depot paired=plant", " paired=depot"]);
        known.remove(&dir, &name("one")).unwrap();
        assert_eq!(fields(&known), [" paired=depot"]);
        fs::write(dir.join(KNOWN_PEERS_FILE), two.to_line(&name("two")) + " for=plant").unwrap();
        let err = KnownPeers::load(&dir).unwrap_err();
        assert!(err.to_string().contains("line 1: unknown field `for=plant`"), "{err}");
    }

    #[test]
    fn others_may_read_but_not_write_it() {
        let (_home, dir) = home();
        KnownPeers::default().add(&dir, &keys()[0], &name("one"), &keys()[1], None).unwrap();
        let chmod = |mode| fs::set_permissions(dir.join(KNOWN_PEERS_FILE), fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o644);
        assert!(KnownPeers::load(&dir).is_ok());
        chmod(0o664);
        let err = KnownPeers::load(&dir).unwrap_err();
        let remedy = format!("chmod go-w {}", dir.join(KNOWN_PEERS_FILE).display());
        assert_eq!((err.exit(), err.hint_text()), (Exit::NotTrusted, Some(&*remedy)));
    }

    #[test]
    fn a_change_elsewhere_is_noticed_and_kept() {
        let (_home, dir) = home();
        let [own, one, two] = keys();
        let mut here = KnownPeers::load(&dir).unwrap();
        let mut elsewhere = here.clone();
        assert!(!here.refresh(&dir).unwrap());
        elsewhere.add(&dir, own, &name("one"), one, None).unwrap();
        assert!(here.by_name(&name("one")).is_none());
        // Not refreshed first: the edit is made on the file as it is.
        here.add(&dir, own, &name("two"), two, None).unwrap();
        assert!(here.by_name(&name("one")).is_some());
        assert!(elsewhere.refresh(&dir).unwrap() && elsewhere.by_name(&name("two")).is_some());
        assert!(!elsewhere.refresh(&dir).unwrap());
        fs::write(dir.join(KNOWN_PEERS_FILE), "broken").unwrap();
        assert!(elsewhere.refresh(&dir).is_err());
        assert!(elsewhere.by_name(&name("two")).is_some());
    }
}
