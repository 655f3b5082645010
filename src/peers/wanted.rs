//! The names to which a link is restricted: by the configuration, by `--to`, or as a run stays with the peer that it began
//! with.

use std::collections::HashMap;

use crate::handshake::{AcceptedPeers, Peer};
use crate::name::{PeerName, did_you_mean};
use crate::{Error, Exit, Result};

/// These names; none where nothing restricts the link.
#[derive(Debug)]
pub(super) struct Wanted {
    names: Vec<PeerName>,
    source: Source,
    /// All of them were trusted at some time: one that is not any more is no typing error.
    were_trusted: bool,
}

/// Where the names come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// `peer`.
    Config,
    /// `--to`.
    Option,
    /// The run itself.
    Run,
}

impl Wanted {
    /// The names that `peer` gives; none where the configuration does not say.
    pub(super) fn configured(names: Vec<PeerName>) -> Self {
        Self { names, source: Source::Config, were_trusted: false }
    }

    /// The name of an accepted peer that the user gave.
    pub(super) fn given(name: PeerName) -> Self {
        Self { names: vec![name], source: Source::Option, were_trusted: true }
    }

    /// The name of an accepted peer with which the run stays.
    pub(super) fn kept(name: PeerName) -> Self {
        Self { names: vec![name], source: Source::Run, were_trusted: true }
    }

    pub(super) fn names(&self) -> &[PeerName] {
        &self.names
    }

    /// All of them are trusted now.
    pub(super) fn are_trusted(&mut self) {
        self.were_trusted = true;
    }

    /// The peers of these names.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where one of the names is not pinned.
    pub(super) fn find(&self, pinned: impl Iterator<Item = Peer>) -> Result<AcceptedPeers> {
        let by_name: HashMap<_, _> = pinned.map(|peer| (peer.name.clone(), peer)).collect();
        let find = |name: &PeerName| {
            by_name.get(name).cloned().ok_or_else(|| self.not_trusted(name, by_name.keys().map(PeerName::as_str)))
        };
        self.names.iter().map(find).collect()
    }

    fn not_trusted<'a>(&self, name: &PeerName, known: impl Iterator<Item = &'a str>) -> Error {
        let (what, why) = match self.source {
            Source::Config => (format!("`peer = {name}`"), "no key is trusted under this name"),
            Source::Option => (format!("`--to {name}`"), "no key is trusted under this name"),
            Source::Run => (format!("cannot reach {name}"), "its key is not trusted"),
        };
        let why = if self.were_trusted { format!("{why} any more") } else { why.to_owned() };
        let typed_wrongly = if self.were_trusted { None } else { did_you_mean(name.as_str(), known) };
        Error::new(Exit::NotTrusted, what).because(why).hint(typed_wrongly.unwrap_or_else(|| {
            format!("run sts-pair --key on the other device, and pipe its line into: sts-pair --trust {name}")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::stranger;

    #[test]
    fn another_name_is_proposed_for_one_that_was_never_trusted() {
        let name = |name: &str| -> PeerName { name.parse().unwrap() };
        let other = || [Peer { name: name("s1"), key: stranger(1) }].into_iter();
        let said = |wanted: &Wanted| {
            let error = wanted.find(other()).unwrap_err();
            (error.to_string(), error.hint_text().unwrap().to_owned())
        };
        let mut configured = Wanted::configured(vec![name("s0")]);
        let (what, hint) = said(&configured);
        assert!(what.contains("`peer = s0`") && hint.contains("did you mean `s1`?"), "{what}; {hint}");
        configured.are_trusted();
        for (wanted, named) in
            [(configured, "`peer = s0`"), (Wanted::given(name("s0")), "`--to s0`"), (Wanted::kept(name("s0")), "s0")]
        {
            let (what, hint) = said(&wanted);
            assert!(what.contains(named) && what.contains("any more") && !hint.contains("s1"), "{what}; {hint}");
        }
        assert!(Wanted::configured(vec![name("s1")]).find(other()).is_ok());
    }
}
