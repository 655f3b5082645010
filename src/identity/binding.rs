//! Which links a pinned key is for, and which of them have paired with it: the fields after the key in `known_peers`.

use std::fmt;

use crate::name::LinkName;

const LINK_FIELD: &str = "link=";
const PAIRED_FIELD: &str = "paired=";
/// In place of a link's name: all links.
const ANY_LINK: &str = "*";

/// The links of a key. By default it is for all links, and none has paired with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The links that it was trusted for by name.
    links: Vec<LinkName>,
    /// Whether it is for no other link.
    is_exclusive: bool,
    /// The links that paired with it last.
    paired: Vec<LinkName>,
}

impl Binding {
    /// For this link and no other; for all links where none is named.
    pub(super) fn to(link: Option<&LinkName>) -> Self {
        Self { links: link.into_iter().cloned().collect(), is_exclusive: link.is_some(), paired: Vec::new() }
    }

    /// As [`Binding::to`] this link, which has paired with the key.
    pub(super) fn paired_with(link: &LinkName) -> Self {
        Self { paired: vec![link.clone()], ..Self::to(Some(link)) }
    }

    /// Parses the fields after the key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut binding = Self::default();
        for field in fields {
            let (list, is_link) = match (field.strip_prefix(LINK_FIELD), field.strip_prefix(PAIRED_FIELD)) {
                (Some(list), _) => (list, true),
                (_, Some(list)) => (list, false),
                _ => return Err(format!("unknown field `{}`", field.escape_default())),
            };
            binding.is_exclusive |= is_link;
            let mut is_for_all = false;
            for name in list.split(',') {
                if is_link && name == ANY_LINK {
                    is_for_all = true;
                    continue;
                }
                let Ok(link) = name.parse() else {
                    return Err(format!("`{}` is not a valid link", name.escape_default()));
                };
                if is_link { binding.links.push(link) } else { binding.paired.push(link) }
            }
            binding.is_exclusive &= !is_for_all;
        }
        Ok(binding)
    }

    /// Whether the key may be used on a link at all.
    pub(crate) fn allows(&self, link: &LinkName) -> bool {
        !self.is_exclusive || self.names(link)
    }

    /// Whether the key was trusted for this link by name.
    pub(crate) fn names(&self, link: &LinkName) -> bool {
        self.links.contains(link)
    }

    /// Whether this link paired with the key last.
    pub(crate) fn has_paired(&self, link: &LinkName) -> bool {
        self.paired.contains(link)
    }

    /// The links that the key was trusted for by name.
    pub(crate) fn links(&self) -> &[LinkName] {
        &self.links
    }

    /// The links that it was trusted for by name, or that paired with it last; a link may come twice.
    pub(crate) fn all_links(&self) -> impl Iterator<Item = &LinkName> {
        self.links.iter().chain(&self.paired)
    }

    /// Whether any link may use the key.
    pub(crate) fn is_for_all_links(&self) -> bool {
        !self.is_exclusive
    }

    /// Makes the key good for the links of another binding besides those that it is for, and notes with which of them it has
    /// paired; true if that is a change.
    pub(super) fn widen(&mut self, other: &Self) -> bool {
        let before = self.links.len();
        let new: Vec<_> = other.links.iter().filter(|link| !self.names(link)).cloned().collect();
        self.links.extend(new);
        let is_for_all = !other.is_exclusive && std::mem::replace(&mut self.is_exclusive, false);
        let has_paired = other.paired.iter().filter(|link| self.set_paired(link, true)).count() > 0;
        self.links.len() > before || is_for_all || has_paired
    }

    /// Notes whether this link paired with the key last; true if that is a change.
    pub(super) fn set_paired(&mut self, link: &LinkName, paired: bool) -> bool {
        if self.has_paired(link) == paired {
            return false;
        }
        if paired {
            self.paired.push(link.clone());
        } else {
            self.paired.retain(|other| other != link);
        }
        true
    }
}

/// The fields, each after a blank; nothing where all of it is the default.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (field, is_for_all, links) in
            [(LINK_FIELD, !self.is_exclusive, &self.links), (PAIRED_FIELD, false, &self.paired)]
        {
            if links.is_empty() {
                continue;
            }
            write!(f, " {field}{}", if is_for_all { ANY_LINK } else { "" })?;
            let mut comma = if is_for_all { "," } else { "" };
            for link in links {
                write!(f, "{comma}{link}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> LinkName {
        name.parse().unwrap()
    }

    fn parsed(text: &str) -> Result<Binding, String> {
        Binding::parse(text.split_ascii_whitespace())
    }

    #[test]
    fn text_leads_back_to_its_binding() {
        for text in ["", " link=a", " link=a,b", " link=*,a", " paired=a", " link=a paired=a,b"] {
            assert_eq!(parsed(text).unwrap().to_string(), text);
        }
        assert_eq!(parsed("link=*").unwrap(), Binding::default());
        for bad in ["link=", "link=a,", "link=a,,b", "link=../a", "paired=*", "comment", "links=a", "link=a b"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_for_all_links_stays_one_and_one_for_a_link_gets_more() {
        let (a, b) = (link("a"), link("b"));
        let to = Binding::to;
        let mut all = to(None);
        assert!(all.allows(&a) && !all.names(&a) && all.is_for_all_links());
        assert!(all.widen(&to(Some(&a))) && !all.widen(&to(Some(&a))) && !all.widen(&to(None)));
        assert!(all.names(&a) && all.allows(&b));
        let mut one = to(Some(&a));
        assert!(one.allows(&a) && !one.allows(&b) && !one.is_for_all_links());
        assert!(one.widen(&to(Some(&b))) && one.allows(&b));
        assert!(!one.allows(&link("c")) && one.widen(&to(None)) && one.allows(&link("c")));
        assert!(one.is_for_all_links() && one.links() == [a.clone(), b]);
        assert!(one.set_paired(&a, true) && !one.set_paired(&a, true) && one.has_paired(&a));
        assert!(one.set_paired(&a, false) && !one.has_paired(&a));
        let paired = Binding::paired_with(&a);
        assert_eq!(paired.to_string(), " link=a paired=a");
        assert!(one.widen(&paired) && !one.widen(&paired) && one.has_paired(&a));
    }
}
