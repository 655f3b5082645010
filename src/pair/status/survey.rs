//! What there is to show: the links with sessions, and the keys that this device trusts, paired or not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Add as _;

use crate::cache::status::{LinkStatus, SessionStatus, links_with_peers, status};
use crate::cache::{Cache, OpenStream, PeerKey, Totals};
use crate::config::Environment;
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
use crate::identity::{Binding, Fingerprint, KnownPeers, PeerName, PeersStore};
use crate::link::unix_time;
use crate::name::{LinkName, did_you_mean};
use crate::report::Reporter;
use crate::session::Standing;
use crate::stream::Gap;
use crate::{Error, Exit, Result};

/// A key that this device trusts.
pub(super) struct TrustedKey {
    pub(super) name: PeerName,
    pub(super) peer: Digest,
    pub(super) binding: Binding,
}

/// All that is known at one moment.
pub(super) struct Survey {
    pub(super) links: Vec<LinkStatus>,
    pub(super) keys: HashMap<Digest, TrustedKey>,
    /// Why some keys are not known.
    pub(super) unread: Vec<Error>,
}

impl Survey {
    /// Looks at all links, or at one of them. What cannot be read is left out. Root may look at any user's.
    ///
    /// # Errors
    /// As [`Survey::begin`], and as [`Cache::look`].
    pub(super) fn take(env: &Environment, only: Option<&LinkName>) -> Result<Self> {
        let (mut survey, links) = Self::begin(env, only)?;
        for (name, peers) in links {
            let link = match Cache::look(&env.runtime_dir(), &name) {
                Ok(cache) => status(&cache, peers, unix_time()),
                Err(error) if error.exit() == Exit::TryAgain => LinkStatus::without_sessions(name),
                Err(error) => return Err(error),
            };
            survey.links.push(link);
        }
        Ok(survey)
    }

    /// Looks which keys are trusted, and which links there are, all or one of them, each with the peers of its sessions.
    ///
    /// # Errors
    /// [`Exit::Config`] if there is no link of this name; otherwise as [`links_with_peers`].
    pub(super) fn begin(
        env: &Environment,
        only: Option<&LinkName>,
    ) -> Result<(Self, BTreeMap<LinkName, Vec<PeerKey>>)> {
        let (keys, unread) = trusted_keys(env);
        let mut links = links_with_peers(&env.runtime_dir())?;
        for link in keys.values().flat_map(|key| key.binding.all_links()) {
            if !links.contains_key(link) {
                links.insert(link.clone(), Vec::new());
            }
        }
        if let Some(only) = only {
            if !links.contains_key(only) && !env.has_configuration(only) {
                let hint = did_you_mean(only.as_str(), links.keys().map(LinkName::as_str));
                return Err(Error::new(Exit::Config, format!("no link `{only}`"))
                    .because("it has no configuration, no session and no trusted key")
                    .hint_if(hint));
            }
            links = BTreeMap::from([(only.clone(), links.remove(only).unwrap_or_default())]);
        }
        Ok((Self { links: Vec::new(), keys, unread }, links))
    }

    /// Reports what could not be read.
    ///
    /// # Errors
    /// The first of it that lacks in what is shown: a program that reads that learns it from the exit status. A directory
    /// that this user may not read, and that no key shown here is from, is only reported.
    pub(super) fn report_unread(&self, report: &Reporter) -> Result<()> {
        self.report_unread_if(self.rows().iter().any(|row| row.name.is_none()), report)
    }

    /// As [`Survey::report_unread`], where the caller knows whether a key is shown that has no name.
    ///
    /// # Errors
    /// As [`Survey::report_unread`].
    pub(super) fn report_unread_if(&self, has_unknown_key: bool, report: &Reporter) -> Result<()> {
        let is_missed = |error: &&Error| has_unknown_key || error.lack().is_some();
        let (missed, others): (Vec<_>, Vec<_>) = self.unread.iter().partition(is_missed);
        let mut missed = self.links.iter().flat_map(|link| &link.broken).chain(missed);
        let first = missed.next();
        for error in others.into_iter().chain(missed) {
            report.warn(error);
        }
        first.map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Whether there is nothing to show of any session.
    pub(super) fn is_without_sessions(&self) -> bool {
        self.links.iter().all(|link| link.sessions.is_empty() && link.broken.is_empty())
    }

    /// One row per peer of each link, those with sessions first; then the keys that are for all links and have no session.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut shown = HashSet::new();
        for link in &self.links {
            let begin = rows.len();
            for sessions in link.sessions.chunk_by(|one, other| one.peer == other.peer) {
                rows.push(self.row(Some(link), sessions[0].peer, sessions));
            }
            let paired: HashSet<_> = link.sessions.iter().map(|session| session.peer).collect();
            rows.extend(self.unpaired(link, &paired));
            if let Some(first) = rows.get_mut(begin) {
                first.first = true;
            }
            shown.extend(rows[begin..].iter().map(|row| *row.fingerprint.as_bytes()));
        }
        rows.extend(self.unshown(&shown));
        rows
    }

    /// Some of the keys, in order of their names. Of a hundred thousand, most have a session, and few are to be sorted.
    fn sorted_keys(&self, is_wanted: impl Fn(&TrustedKey) -> bool) -> Vec<&TrustedKey> {
        let mut keys: Vec<_> = self.keys.values().filter(|key| is_wanted(key)).collect();
        keys.sort_unstable_by(|one, other| (&one.name, one.peer).cmp(&(&other.name, other.peer)));
        keys
    }

    /// The keys that are trusted for a link by name, or that it has paired with, and that are not among the `paired` ones.
    pub(super) fn unpaired<'a>(
        &'a self,
        link: &'a LinkStatus,
        paired: &HashSet<Digest>,
    ) -> impl Iterator<Item = Row<'a>> {
        let is_of_link = |key: &TrustedKey| key.binding.all_links().any(|name| *name == link.link);
        let unpaired = self.sorted_keys(|key| is_of_link(key) && !paired.contains(&key.peer));
        unpaired.into_iter().map(|key| self.row(Some(link), key.peer, &[]))
    }

    /// The keys that are for all links, and are not `shown` with any.
    pub(super) fn unshown(&self, shown: &HashSet<Digest>) -> impl Iterator<Item = Row<'_>> {
        let unshown = self.sorted_keys(|key| key.binding.is_for_all_links() && !shown.contains(&key.peer));
        unshown.into_iter().map(|key| self.row(None, key.peer, &[]))
    }

    /// The row of a peer of a link.
    pub(super) fn row<'a>(
        &'a self,
        link: Option<&'a LinkStatus>,
        peer: Digest,
        sessions: &'a [SessionStatus],
    ) -> Row<'a> {
        let name = self.keys.get(&peer).map(|key| &key.name);
        Row { link, first: false, name, fingerprint: Fingerprint::from(peer), sessions }
    }
}

/// All keys that are trusted in a directory where links are looked for, of which the first one counts; and why some are
/// not known.
fn trusted_keys(env: &Environment) -> (HashMap<Digest, TrustedKey>, Vec<Error>) {
    let (mut keys, mut unread) = (HashMap::new(), Vec::new());
    for dir in env.config_dirs().iter().rev() {
        let known = Dir::look(dir, Guard::Public)
            .and_then(|dir| dir.map(|dir| KnownPeers::load(PeersStore::new(dir, None))).transpose());
        match known {
            Ok(Some(known)) => keys.extend(known.lines().iter().map(|line| {
                let peer = *line.key.fingerprint().as_bytes();
                (peer, TrustedKey { name: line.name.clone(), peer, binding: line.binding.clone() })
            })),
            Ok(None) => {}
            Err(error) => unread.push(env.explain(error)),
        }
    }
    (keys, unread)
}

/// One peer of one link.
pub(super) struct Row<'a> {
    /// `None` for a key that is for all links and has no session on any.
    pub(super) link: Option<&'a LinkStatus>,
    /// The first row of its link, which shows what is counted for the link as a whole.
    pub(super) first: bool,
    /// `None` if its key is no longer trusted.
    pub(super) name: Option<&'a PeerName>,
    pub(super) fingerprint: Fingerprint,
    /// All of its sessions, newest first; empty if it has not paired.
    pub(super) sessions: &'a [SessionStatus],
}

impl<'a> Row<'a> {
    /// The current session, else the newest.
    pub(super) fn session(&self) -> Option<&'a SessionStatus> {
        self.sessions.iter().find(|session| session.standing == Standing::Current).or(self.sessions.first())
    }

    /// What was received under all sessions that are kept.
    pub(super) fn received(&self) -> Totals {
        self.sessions.iter().map(|session| session.received.totals()).fold(Totals::default(), Totals::add)
    }

    /// What was received in all, under sessions that are gone, too.
    pub(super) fn received_ever(&self) -> Totals {
        self.received()
            + self.link.and_then(|link| link.past.get(self.fingerprint.as_bytes())).copied().unwrap_or_default()
    }

    /// When the last pairing was, in seconds since 1970.
    pub(super) fn last_pairing(&self) -> Option<u64> {
        self.sessions.iter().map(|session| session.created).max()
    }

    pub(super) fn streams_sent(&self) -> u64 {
        self.sessions.iter().map(|session| session.streams_reserved).sum()
    }

    /// The ranges of stream numbers of which no message was received.
    pub(super) fn missing(&self) -> impl Iterator<Item = (u32, u32)> {
        self.sessions.iter().flat_map(|session| session.missing.iter())
    }

    /// How many streams these are.
    pub(super) fn missing_streams(&self) -> u64 {
        self.missing().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The latest gaps, oldest session first.
    pub(super) fn latest_gaps(&self) -> impl Iterator<Item = &'a Gap> {
        self.sessions.iter().rev().flat_map(|session| &session.received.latest)
    }

    /// The open streams, oldest session first.
    pub(super) fn open_streams(&self) -> impl Iterator<Item = &'a OpenStream> {
        self.sessions.iter().rev().flat_map(|session| &session.open)
    }

    pub(super) fn rejected(&self) -> u64 {
        self.link.iter().flat_map(|link| &link.rejected).map(|(_, count)| count).sum()
    }

    /// Seconds until cron replaces the current session, 0 if it is due.
    pub(super) fn next(&self) -> Option<u64> {
        let session = self.session().filter(|session| session.standing == Standing::Current)?;
        let rotation = self.link?.rotation?;
        Some(session.age.map_or(0, |age| rotation.saturating_sub(age)))
    }
}
