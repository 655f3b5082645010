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

    /// Parses the fields after the key.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut binding = Self::default();
        for field in fields {
            if let Some(list) = field.strip_prefix(LINK_FIELD) {
                binding.is_exclusive = !list.split(',').any(|link| link == ANY_LINK);
                binding.links = names(list.split(',').filter(|link| *link != ANY_LINK))?;
            } else if let Some(list) = field.strip_prefix(PAIRED_FIELD) {
                binding.paired = names(list.split(','))?;
            } else {
                let field = field.escape_default();
                return Err(format!("unknown field `{field}`: it may be {LINK_FIELD}LINK or {PAIRED_FIELD}LINK"));
            }
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

    /// Makes the key good for another link, or for all of them, besides those that it is for; true if that is a change.
    pub(super) fn widen(&mut self, link: Option<&LinkName>) -> bool {
        match link {
            Some(link) if self.names(link) => false,
            Some(link) => {
                self.links.push(link.clone());
                true
            }
            None => std::mem::replace(&mut self.is_exclusive, false),
        }
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
        let any = (!self.is_exclusive).then_some(ANY_LINK);
        let list = |links: &[LinkName]| links.iter().map(LinkName::to_string).collect::<Vec<_>>().join(",");
        match any {
            _ if self.links.is_empty() => {}
            Some(any) => write!(f, " {LINK_FIELD}{any},{}", list(&self.links))?,
            None => write!(f, " {LINK_FIELD}{}", list(&self.links))?,
        }
        if self.paired.is_empty() { Ok(()) } else { write!(f, " {PAIRED_FIELD}{}", list(&self.paired)) }
    }
}

fn names<'a>(list: impl Iterator<Item = &'a str>) -> Result<Vec<LinkName>, String> {
    list.map(|name| name.parse().map_err(|why| format!("`{}` cannot name a link: {why}", name.escape_default())))
        .collect()
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
        let mut all = Binding::to(None);
        assert!(all.allows(&a) && !all.names(&a));
        assert!(all.widen(Some(&a)) && !all.widen(Some(&a)) && !all.widen(None));
        assert!(all.names(&a) && all.allows(&b));
        let mut one = Binding::to(Some(&a));
        assert!(one.allows(&a) && !one.allows(&b));
        assert!(one.widen(Some(&b)) && one.allows(&b));
        assert!(!one.allows(&link("c")) && one.widen(None) && one.allows(&link("c")));
        assert!(one.set_paired(&a, true) && !one.set_paired(&a, true) && one.has_paired(&a));
        assert!(one.set_paired(&a, false) && !one.has_paired(&a));
    }
}
