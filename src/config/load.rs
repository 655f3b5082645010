//! Finding and reading a link's configuration: the only part of this room that looks at files.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::effective::EffectiveValue;
use super::validate::exposed_warning;
use super::{Config, ConfigSource, Environment, LinkName, Override, SecretFile};
use crate::files::{self, NamedFile};
use crate::name::{did_you_mean, list};
use crate::text::{escape, quote, show, utf8};
use crate::{Error, Exit, Result};

/// Longest configuration or password file that is read, in bytes.
const MAX_CONFIG_LEN: u64 = 1 << 20;

/// Options that are commands in other programs, and are taken for a link here.
const COMMANDS: [&str; 9] = ["help", "version", "key", "trust", "forget", "status", "serve", "code", "end"];

/// Where a link's configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    /// The link's name.
    pub(crate) link: LinkName,
    /// Its configuration file.
    pub(crate) path: PathBuf,
    /// The directory with the identity key and the known peers: the file's own where links are looked for by name
    /// there, else [`Environment::identity_dir`].
    pub(crate) identity_dir: PathBuf,
}

/// Finds a link: `argument`, else `$STS_LINK`, else `default`. With a `/` it is a path, else a name.
///
/// # Errors
/// [`Exit::Usage`] for what is neither; [`Exit::Config`] where no configuration has this name, saying where it was
/// looked for.
pub(crate) fn locate(argument: Option<&OsStr>, env: &Environment) -> Result<Located> {
    let word = argument.or(env.link.as_deref()).unwrap_or(OsStr::new("default"));
    let dirs = env.config_dirs();
    let link = link_of(word)?;
    if word.as_bytes().contains(&b'/') {
        let path = PathBuf::from(word);
        let parent = path.parent().filter(|parent| dirs.iter().any(|dir| dir == parent));
        let identity_dir = parent.map_or_else(|| env.identity_dir(), Path::to_path_buf);
        return Ok(Located { link, path, identity_dir });
    }
    let file = format!("{link}.conf");
    // A file that cannot be examined is found all the same: reading it says why.
    let there = |dir: &&PathBuf| !matches!(dir.join(&file).symlink_metadata(), Err(err) if absent(&err));
    if let Some(dir) = dirs.iter().find(there) {
        return Ok(Located { link, path: dir.join(&file), identity_dir: dir.clone() });
    }
    let looked: Vec<String> = dirs.iter().map(|dir| show(&dir.join(&file))).collect();
    let error = Error::new(Exit::Config, format!("no configuration for link `{link}`"))
        .because(format!("there is no {}", looked.join(" and no ")));
    Err(error.hint(match link.as_str().strip_suffix(".conf") {
        Some(name) => format!("use `{name}` for the link, or `./{link}` for the file here"),
        None => hint_for_no_link(&link, argument.or(env.link.as_deref()).is_some(), &links_in(&dirs)),
    }))
}

/// The name of the link that a command line names, whether it has a configuration or not.
///
/// # Errors
/// [`Exit::Usage`] for what is not a name, and not a path that leads to one.
pub(crate) fn link_of(word: &OsStr) -> Result<LinkName> {
    if !word.as_bytes().contains(&b'/') {
        return link_name(word.as_bytes());
    }
    let name = Path::new(word).file_name().unwrap_or_default().as_bytes();
    link_name(name.strip_suffix(b".conf").unwrap_or(name))
}

/// What to do about a link without a configuration, which was `named` or is the default one.
fn hint_for_no_link(link: &LinkName, named: bool, known: &[LinkName]) -> String {
    if COMMANDS.contains(&link.as_str()) {
        return format!("did you mean --{link}? actions are options");
    }
    if let Some(near) = did_you_mean(link.as_str(), known.iter().map(LinkName::as_str)) {
        return near;
    }
    if named && Path::new(link.as_str()).is_file() {
        return format!("use `./{link}` for the configuration file here; to send a file: sts-send LINK < {link}");
    }
    match (named, known) {
        (true, _) => "create one as described in sts.conf(5), or give the path of a file, with a `/` in it".into(),
        (false, []) => "give a link, or the path of a file; sts.conf(5) describes the format".into(),
        (false, known) => format!("give one of the links: {}", list(known.iter().map(LinkName::as_str))),
    }
}

/// The links that have a configuration in these directories, in alphabetical order.
fn links_in(dirs: &[PathBuf]) -> Vec<LinkName> {
    let entries = dirs.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten();
    let name = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(".conf")?.parse().ok();
    let mut names: Vec<LinkName> = Vec::new();
    for link in entries.filter_map(|entry| name(entry.path())) {
        if let Err(at) = names.binary_search(&link) {
            names.insert(at, link);
        }
    }
    names
}

/// A link's configuration, found, read and parsed.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// Where it was found.
    pub(crate) located: Located,
    /// What it says.
    pub(crate) config: Config,
    /// What is probably not meant, a line each.
    pub(crate) warnings: Vec<String>,
    /// The command line asks for the protection that the link has, whatever the file says: plaintext by `sts_mode`, a version
    /// of the protocol by `sts_version`.
    pub(crate) is_protection_asked_for: bool,
    /// The password files that it names.
    pub(crate) secret_files: Vec<PathBuf>,
}

/// Finds, reads and parses a link's configuration: everything a tool does before it begins.
///
/// # Errors
/// As [`Override::parse`], [`locate`], [`Config::parse`] and [`Config::check_supported`]; [`Exit::Config`] where the file
/// cannot be read, [`Exit::Failed`] where the machine fails to read it, [`Exit::NotTrusted`] where others than this
/// user and root can change it, or what its path leads through.
pub(crate) fn load(argument: Option<&OsStr>, options: &[String], env: &Environment) -> Result<Loaded> {
    let overrides = options.iter().map(|option| Override::parse(option)).collect::<Result<Vec<_>>>()?;
    let located = locate(argument, env)?;
    let path = &located.path;
    let shown = show(path);
    let file = read(&located, env)?;
    let bytes = &file.bytes;
    let text =
        utf8(bytes).map_err(|line| Error::new(Exit::Config, format!("{shown}, line {line}")).because("not UTF-8"))?;
    let source = ConfigSource { link: located.link.clone(), path: path.clone() };
    let mut secret_files = Vec::new();
    let mut parsed = Config::parse(&source, text, &overrides, &mut |path: &Path| {
        secret_files.push(path.to_owned());
        read_secret(path)
    })?;
    parsed.config.check_supported()?;
    if parsed.password_in_text && file.is_exposed {
        parsed.warnings.push(exposed_warning("password", path));
    }
    if let Some(client) = parsed.config.mqtt.endpoint.tls.as_ref().and_then(|tls| tls.client.as_ref())
        && files::is_exposed(&client.key)
    {
        parsed.warnings.push(exposed_warning("key", &client.key));
    }
    let is_protection_asked_for = overrides.iter().any(|option| option.asks_for(&parsed.config.protection));
    Ok(Loaded { config: parsed.config, warnings: parsed.warnings, located, is_protection_asked_for, secret_files })
}

/// The value of each key of a configuration that was loaded so, and where it is from.
///
/// # Errors
/// As [`load`].
pub(crate) fn explain(
    argument: Option<&OsStr>,
    options: &[String],
    env: &Environment,
    config: &Config,
) -> Result<Vec<EffectiveValue>> {
    let overrides = options.iter().map(|option| Override::parse(option)).collect::<Result<Vec<_>>>()?;
    let located = locate(argument, env)?;
    let file = read(&located, env)?;
    let source = ConfigSource { link: located.link.clone(), path: located.path };
    config.effective(&source, &String::from_utf8_lossy(&file.bytes), &overrides)
}

/// The error of a file that the user named: the configuration is wrong, unless it was the machine that failed.
fn of_named_file(error: Error) -> Error {
    if error.exit() == Exit::NotTrusted || error.lack().is_some() { error } else { error.exit_as(Exit::Config) }
}

/// Reads a configuration, which may hold a password.
fn read(located: &Located, env: &Environment) -> Result<NamedFile> {
    let path = &located.path;
    let (error, is_absent) = match files::read_path(path, MAX_CONFIG_LEN) {
        Ok(Some(file)) => return Ok(file),
        Ok(None) => (Error::new(Exit::Config, format!("cannot read {}: No such file or directory", show(path))), true),
        Err(_) if path.is_dir() => {
            (Error::new(Exit::Config, format!("cannot read {}: it is a directory", show(path))), false)
        }
        Err(error) => (of_named_file(error), false),
    };
    Err(match hint_for_unreadable(located, env, is_absent) {
        Some(hint) => error.hint_if_none(hint),
        None => env.explain(error),
    })
}

fn link_name(bytes: &[u8]) -> Result<LinkName> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::new(Exit::Usage, format!("`{}` is not a valid link", escape(bytes))).because(why).hint(
            "give a name such as gateway, or a path with a `/` in it, of which the last part, without .conf, is a name",
        )
    };
    std::str::from_utf8(bytes).map_err(|err| bad(&err))?.parse().map_err(|why| bad(&why))
}

/// What to do about a configuration that cannot be read: the path of another one, if one was meant.
fn hint_for_unreadable(located: &Located, env: &Environment, is_absent: bool) -> Option<String> {
    let Located { link, path, .. } = located;
    let file = format!("{link}.conf");
    let sibling = path.with_file_name(&file);
    if sibling != *path && sibling.is_file() {
        return Some(format!("did you mean {}?", quote(&sibling)));
    }
    if !is_absent {
        return None;
    }
    let is_link = env.config_dirs().iter().any(|dir| dir.join(&file).is_file());
    Some(if is_link {
        format!("to use the link in the configuration directory: {link}")
    } else {
        "create it as described in sts.conf(5)".into()
    })
}

fn absent(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads a password file, as far as that is one.
fn read_secret(path: &Path) -> Result<SecretFile> {
    let failed =
        |why: &dyn std::fmt::Display| Error::new(Exit::Config, format!("cannot read {}", show(path))).because(why);
    let file = files::read_path(path, MAX_CONFIG_LEN).map_err(of_named_file)?;
    let file = file.ok_or_else(|| failed(&io::Error::from(Errno::NOENT)))?;
    let text = std::str::from_utf8(&file.bytes).map_err(|_| failed(&"not UTF-8"))?;
    Ok(SecretFile { text: Zeroizing::new(text.to_owned()), exposed: file.is_exposed })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOSEC: &str = "sts_mode = nosec\nsubtop = a\npubtop = a\nusername = u\npassword = p\n";

    fn env(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn put(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_link_is_a_name_or_a_path() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("sts");
        put(&dir.join("gateway.conf"), NOSEC, 0o600);
        put(&dir.join("default.conf"), NOSEC, 0o600);
        let xdg = home.path().to_str().unwrap();
        let here = env(&[("XDG_CONFIG_HOME", xdg), ("STS_LINK", "gateway")]);
        let found = locate(None, &here).unwrap();
        assert_eq!(
            (found.link.as_str(), &found.path, &found.identity_dir),
            ("gateway", &dir.join("gateway.conf"), &dir)
        );
        let plain = env(&[("XDG_CONFIG_HOME", xdg)]);
        assert_eq!(locate(None, &plain).unwrap().link.as_str(), "default");
        for (path, link) in [
            ("./gateway.conf", "gateway"),
            ("/tmp/nosec", "nosec"),
            ("../a/gw.v2", "gw.v2"),
            ("./a.conf.conf", "a.conf"),
        ] {
            let found = locate(Some(path.as_ref()), &plain).unwrap();
            assert_eq!((found.link.as_str(), found.path.to_str().unwrap(), &found.identity_dir), (link, path, &dir));
        }
        for bad in ["", ".", "..", "-x", "a b", "/", "./", "./.conf", "a/..", "./a b", "\u{1b}[31m"] {
            let err = locate(Some(bad.as_ref()), &plain).unwrap_err();
            assert!(err.exit() == Exit::Usage && !err.to_string().contains('\u{1b}'), "{bad:?}: {err}");
        }
        let err = locate(Some("absent".as_ref()), &plain).unwrap_err();
        assert_eq!(err.exit(), Exit::Config);
        assert!(err.to_string().contains("sts/absent.conf and no /etc/sts/absent.conf"), "{err}");
        let err = locate(Some("gateway.conf".as_ref()), &plain).unwrap_err();
        assert_eq!(err.hint_text(), Some("use `gateway` for the link, or `./gateway.conf` for the file here"));
    }

    #[test]
    fn another_link_or_file_that_was_probably_meant_is_named() {
        let home = tempfile::tempdir().unwrap();
        let here = env(&[("STS_CONFIG_DIR", home.path().to_str().unwrap())]);
        let hint = |link: &str| {
            let link = (!link.is_empty()).then_some(OsStr::new(link));
            load(link, &[], &here).unwrap_err().hint_text().unwrap_or_default().to_owned()
        };
        assert!(hint("").starts_with("give a link, or the path of a file"));
        put(&home.path().join("plant.conf"), NOSEC, 0o600);
        put(&home.path().join("gateway.conf"), NOSEC, 0o600);
        put(&home.path().join("sub/plant.conf"), NOSEC, 0o600);
        assert_eq!(hint(""), "give one of the links: gateway, plant");
        assert_eq!(hint("plnat"), "did you mean `plant`?");
        assert_eq!(hint("status"), "did you mean --status? actions are options");
        assert!(hint("elsewhere").starts_with("create one as described in sts.conf(5)"));
        let path = |name: &str| home.path().join(name).display().to_string();
        assert_eq!(hint(&path("plant")), format!("did you mean {}?", path("plant.conf")));
        assert_eq!(hint(&path("nowhere/plant")), "to use the link in the configuration directory: plant");
        assert_eq!(hint(&path("nowhere/else")), "create it as described in sts.conf(5)");
        fs::create_dir(home.path().join("gateway")).unwrap();
        assert_eq!(hint(&path("gateway")), format!("did you mean {}?", path("gateway.conf")));
    }

    #[test]
    fn modes_are_looked_at() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("gw.conf");
        let here = env(&[("STS_CONFIG_DIR", home.path().to_str().unwrap())]);
        let by_name = || load(Some("gw".as_ref()), &[], &here);
        assert_eq!(by_name().unwrap_err().exit(), Exit::Config);
        put(&path, NOSEC, 0o600);
        assert!(by_name().unwrap().warnings.is_empty());
        put(&path, NOSEC, 0o644);
        let warning = format!("other users can read the password in {0}: chmod 600 {0}", path.display());
        assert_eq!(by_name().unwrap().warnings, [warning]);
        put(&path, NOSEC, 0o664);
        let err = by_name().unwrap_err();
        assert_eq!(
            (err.exit(), err.hint_text().unwrap()),
            (Exit::NotTrusted, &*format!("chmod go-w {}", path.display()))
        );
        assert_eq!(load(Some(path.as_ref()), &[], &here).unwrap_err().exit(), Exit::NotTrusted);
        put(&path, [NOSEC.as_bytes(), b"\n# \xff"].concat(), 0o600);
        assert!(by_name().unwrap_err().to_string().ends_with("gw.conf, line 7: not UTF-8"));
        assert!(
            load(Some(home.path().join("x").as_ref()), &[], &here).unwrap_err().to_string().contains("No such file")
        );
        assert_eq!(load(Some("gw".as_ref()), &["password=x".into()], &here).unwrap_err().exit(), Exit::Usage);
    }

    /// Reading address 0 of a process fails with EIO (proc(5)), as a broken disk does.
    const BROKEN: &str = "/proc/self/mem";

    #[test]
    fn what_the_machine_fails_to_read_does_not_make_the_configuration_wrong() {
        let home = tempfile::tempdir().unwrap();
        let here = env(&[("STS_CONFIG_DIR", home.path().to_str().unwrap())]);
        let secret = NOSEC.replace("password = p", &format!("password_file = {BROKEN}"));
        put(&home.path().join("gw.conf"), secret, 0o600);
        for link in [BROKEN, "gw"] {
            let err = load(Some(link.as_ref()), &[], &here).unwrap_err();
            assert!(err.to_string().contains("cannot read /proc/self/mem: Input/output error"), "{err}");
            assert_eq!(err.exit(), Exit::Failed);
        }
        // A password file that is not one does.
        put(&home.path().join("gw.conf"), NOSEC.replace("password = p", "password_file = long"), 0o600);
        put(&home.path().join("long"), vec![b'x'; (1 << 20) + 1], 0o600);
        let err = load(Some("gw".as_ref()), &[], &here).unwrap_err();
        assert!(err.exit() == Exit::Config && err.to_string().contains("longer than"), "{err}");
    }

    #[test]
    fn a_password_file_is_read_beside_the_configuration() {
        let home = tempfile::tempdir().unwrap();
        let here = env(&[("STS_CONFIG_DIR", home.path().to_str().unwrap())]);
        let secret = home.path().join("secret");
        put(&home.path().join("gw.conf"), NOSEC.replace("password = p", "password_file = secret"), 0o644);
        let load = || load(Some("gw".as_ref()), &[], &here);
        let err = load().unwrap_err();
        assert!(err.to_string().contains("line 5: cannot read "), "{err}");
        assert!(err.to_string().contains("secret: No such file or directory"), "{err}");
        for (text, word) in [("word", "word"), ("word\n", "word"), ("word \r\n", "word "), ("a=#b", "a=#b")] {
            put(&secret, text, 0o600);
            let loaded = load().unwrap();
            assert_eq!(loaded.config.mqtt.login.unwrap().password.unwrap().expose(), word);
            assert!(loaded.warnings.is_empty());
        }
        for (mode, warnings) in [(0o604, 1), (0o400, 0), (0o444, 1)] {
            fs::remove_file(&secret).unwrap();
            put(&secret, "word", mode);
            assert_eq!(load().unwrap().warnings.len(), warnings, "{mode:o}");
        }
        fs::remove_file(&secret).unwrap();
        for bad in [&b""[..], b"\n", b"two\nlines\n", b"a\0b", b"\xff"] {
            put(&secret, bad, 0o600);
            assert_eq!(load().unwrap_err().exit(), Exit::Config, "{bad:?}");
        }
    }
}
