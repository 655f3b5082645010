//! From text to settings: lines and `-o` options, each key at most once, each with the location that an error names.

use std::path::{Path, PathBuf};

use super::keys::{ConfigKey, KEY_NAMES, instead_of, key_names};
use super::{ConfigSource, Protection};
use crate::text::{escape, nearest, show, tame};
use crate::{Error, Exit, Result};

/// One key set on the command line, `-o KEY=VALUE`.
#[derive(Clone)]
pub(crate) struct Override {
    name: &'static str,
    key: ConfigKey,
    value: String,
}

impl Override {
    /// Whether it is the key that decides for this protection: that the command line sets another one says nothing of what
    /// was meant.
    pub(super) fn asks_for(&self, protection: &Protection) -> bool {
        self.key
            == match protection {
                Protection::None => ConfigKey::Mode,
                Protection::Sealed(_) | Protection::Legacy(_) => ConfigKey::StsVersion,
            }
    }

    /// Parses `KEY=VALUE`; blanks around either are free.
    ///
    /// # Errors
    /// [`Exit::Usage`] for an unknown key, and for a password or a login in a URL: every user of the machine can see a
    /// command line.
    pub(crate) fn parse(option: &str) -> Result<Self> {
        let (word, value) = option.split_once('=').unwrap_or((option, ""));
        let word = word.trim_matches(BLANKS);
        let usage = |what: String| Error::new(Exit::Usage, what);
        let Some((name, key)) = KEY_NAMES.into_iter().find(|(name, _)| *name == word) else {
            let error = unknown_key(usage("-o".into()), word);
            if option.contains('=') {
                return Err(error);
            }
            return Err(error.hint("-o sets a key of the configuration, as in -o qos=2; output goes to stdout: > FILE"));
        };
        let (value, location) = (value.trim_matches(BLANKS), format!("-o {name}"));
        if !option.contains('=') {
            return Err(usage(location).because("no value").hint(format!("-o {name}=VALUE")));
        }
        if key.may_hold_password(value) {
            let seen = "every user of this machine can see command lines";
            // `password_file` is for the broker's password: a proxy's has no place but its URL.
            let hint = match key {
                ConfigKey::Proxy => {
                    "write `proxy` into the configuration, and let only its owner read that: chmod 600 FILE"
                }
                _ => "write the password to a file that only you can read, and name it: -o password_file=FILE",
            };
            return Err(usage(location).because(seen).hint(hint));
        }
        if value.contains(char::is_control) {
            return Err(usage(location).because("the value contains a control character"));
        }
        Ok(Self { name, key, value: value.to_owned() })
    }
}

/// The blanks that are free around keys and values; a carriage return is what CRLF leaves of its line end.
const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// One key as it was set.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    key: ConfigKey,
    /// The name as written, of those that set the same.
    pub(super) name: &'static str,
    pub(super) value: &'a str,
    /// The line's number; `None` for a `-o`.
    line: Option<usize>,
    source: &'a ConfigSource,
}

impl Setting<'_> {
    pub(super) fn on_command_line(&self) -> bool {
        self.line.is_none()
    }

    /// What it is called in a message about another key.
    pub(super) fn shown(&self) -> String {
        match self.line {
            Some(line) => format!("`{}` on line {line}", self.name),
            None => format!("-o {}", self.name),
        }
    }

    /// How to do without it.
    pub(super) fn removal(&self) -> String {
        if self.on_command_line() { format!("omit {}", self.location()) } else { "remove this line".to_owned() }
    }

    /// Where it was set, as an error begins.
    pub(super) fn location(&self) -> String {
        self.line.map_or_else(|| format!("-o {}", self.name), |line| location(self.source, line))
    }

    /// An error at this location: in the file the configuration is wrong, on the command line its use.
    pub(super) fn error(&self, why: impl std::fmt::Display) -> Error {
        let exit = if self.on_command_line() { Exit::Usage } else { Exit::Config };
        let error = Error::new(exit, self.location()).because(why);
        error.hint_if(self.slip().map(|slip| match slip {
            Slip::Comment => "a comment needs a line of its own".into(),
            Slip::Quotes => "quotes are part of a value: leave them out".into(),
            Slip::LineEnd(name) => format!("a line end is missing before `{name}`"),
        }))
    }

    /// What is probably not meant to be part of the value. It is one all the same, as passwords and topics may need it.
    fn slip(&self) -> Option<Slip> {
        let is_quoted = |quote| self.value.len() > 1 && self.value.starts_with(quote) && self.value.ends_with(quote);
        // Only whole lines are comments.
        if self.value.contains(" #") || self.value.contains("\t#") {
            Some(Slip::Comment)
        } else {
            (is_quoted('"') || is_quoted('\'')).then_some(Slip::Quotes).or_else(|| self.next_line().map(Slip::LineEnd))
        }
    }

    /// The key of a line that was appended to a file without a line end. A key without `_` may be a word of a URL or a password.
    fn next_line(&self) -> Option<&'static str> {
        let (before, _) = self.value.split_once('=')?;
        let before = before.trim_end_matches(BLANKS);
        KEY_NAMES.into_iter().map(|(name, _)| name).find(|name| name.contains('_') && before.ends_with(name))
    }

    /// The warning of a value that any text can be, and that is probably not meant as it is.
    pub(super) fn warning(&self) -> Option<String> {
        let why = match self.slip()? {
            Slip::Comment => "contains ` #` and what follows it: a comment needs a line of its own",
            Slip::Quotes => "contains the quotes around it: leave them out",
            Slip::LineEnd(_) => "contains another key and `=`: a line end is missing before it",
        };
        Some(format!("{}: the value of `{}` {why}", self.location(), self.name))
    }

    /// The error of a value that this key cannot have; `why` says so, or which it can.
    pub(super) fn invalid(&self, why: impl std::fmt::Display) -> Error {
        self.error(format!("invalid value{} for `{}`: {why}", self.quoted(), self.name))
    }

    /// The value for a message, after a blank; nothing where it may hold a password.
    fn quoted(&self) -> String {
        if self.key.may_hold_password(self.value) {
            return String::new();
        }
        format!(" `{}`", tame(self.value))
    }
}

/// What a value has that is probably not meant to be part of it.
enum Slip {
    /// Other formats take it off.
    Comment,
    /// As [`Slip::Comment`].
    Quotes,
    /// This key, which begins the next line.
    LineEnd(&'static str),
}

/// All keys that are set, each once.
pub(super) struct Settings<'a> {
    pub(super) source: &'a ConfigSource,
    settings: Vec<Setting<'a>>,
}

impl<'a> Settings<'a> {
    /// A path in the configuration is relative to the directory of the file that it stands in.
    pub(super) fn resolve(&self, value: &str) -> PathBuf {
        self.source.path.parent().unwrap_or(Path::new("")).join(value)
    }

    pub(super) fn parse(source: &'a ConfigSource, text: &'a str, overrides: &'a [Override]) -> Result<Self> {
        let mut settings: Vec<Setting<'a>> = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.split('\n').enumerate() {
            let number = index + 1;
            let error = |why: String| Error::new(Exit::Config, location(source, number)).because(why);
            let line = line.trim_matches(BLANKS);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((word, value)) = line.split_once('=') else {
                let error = error("not a line of the form `key = value`".into());
                return Err(error.hint(hint_for_no_setting(line)));
            };
            let word = word.trim_matches(BLANKS);
            let Some((name, key)) = KEY_NAMES.into_iter().find(|(name, _)| *name == word) else {
                return Err(unknown_key(Error::new(Exit::Config, location(source, number)), word));
            };
            let value = value.trim_matches(BLANKS);
            if value.contains(|c: char| c.is_control() && c != '\t') {
                return Err(error(format!("the value of `{name}` contains a control character")));
            }
            if let Some(first) = settings.iter().find(|setting| setting.key == key) {
                return Err(error(format!("`{name}` is already set by {}", first.shown())));
            }
            settings.push(Setting { key, name, value, line: Some(number), source });
        }
        let in_file = settings.len();
        for option in overrides {
            let setting = Setting { key: option.key, name: option.name, value: &option.value, line: None, source };
            if let Some(first) = settings[in_file..].iter().find(|earlier| earlier.key == option.key) {
                return Err(setting.error(format!("already set by {}", first.shown())));
            }
            settings.push(setting);
        }
        Ok(Self { source, settings })
    }

    /// What a key is set to, the command line before the file; `None` where it has its default.
    pub(super) fn get(&self, key: ConfigKey) -> Option<Setting<'a>> {
        self.settings.iter().rfind(|setting| setting.key == key).filter(|setting| !setting.value.is_empty()).copied()
    }
}

fn location(source: &ConfigSource, line: usize) -> String {
    format!("{}, line {line}", show(&source.path))
}

/// What to do about a line without `=`.
fn hint_for_no_setting(line: &str) -> String {
    let (word, _) = line.split_once([':', ' ', '\t']).unwrap_or((line, ""));
    match KEY_NAMES.iter().find(|(name, _)| *name == word) {
        Some((name, _)) => format!("write `{name} = ` and the value"),
        None if line.starts_with('[') => "there are no sections: remove this line".into(),
        None => "a comment begins with `#`".into(),
    }
}

fn unknown_key(error: Error, word: &str) -> Error {
    // A long word is not a mistyped key, and may be a secret in the wrong location.
    let shown: String = word.chars().take(32).collect();
    let error = error.because(format!("unknown key `{}`", escape(&shown)));
    if let Some(hint) = instead_of(word) {
        return error.hint(hint);
    }
    match nearest(word, key_names()) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error.hint(format!("the keys are {}", key_names().collect::<Vec<_>>().join(", "))),
    }
}
