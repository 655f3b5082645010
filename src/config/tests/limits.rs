//! Claim: a value may be as long as the manual says, and no longer.

use super::*;

/// Parses a configuration whose password file has this text.
fn parse_with_secret(text: &str, secret: &str) -> Result<Config> {
    let source = ConfigSource { link: "gw".parse().unwrap(), path: "etc/gw.conf".into() };
    let mut read = |_: &Path| Ok(SecretFile { text: Zeroizing::new(secret.to_owned()), exposed: false });
    Config::parse(&source, text, &[], &mut read).map(|parsed| parsed.config)
}

/// That the longest value is taken, and one that has a byte more is not.
fn assert_limit(max: usize, try_len: impl Fn(usize) -> Result<Config>) {
    try_len(max).unwrap();
    assert_eq!(try_len(max + 1).unwrap_err().exit(), Exit::Config);
}

#[test]
fn each_value_has_the_longest_length_that_its_protocol_has() {
    for (line, max) in [
        ("username = ", 65_535),
        ("username = u\npassword = ", 65_535),
        ("url = mqtt://h\nclientid = ", 65_519),
        ("mqtt_version = 3\nclientid = ", 23),
        ("url = mqtts://h\ntls_alpn = ", 255),
        ("url = unix:///", 106),
    ] {
        assert_limit(max, |len| parse_with_secret(&format!("{MASTER}{line}{}\n", "x".repeat(len)), ""));
    }
    let url = |name: usize, word: usize| {
        let text = format!("{MASTER}url = mqtt://{}:{}@h\n", "n".repeat(name), "w".repeat(word));
        parse_with_secret(&text, "")
    };
    assert_limit(65_535, |len| url(len, 1));
    assert_limit(65_535, |len| url(1, len));
    let proxy = |name: usize, word: usize| {
        let text = format!("{MASTER}proxy = socks5://{}:{}@h:1\n", "n".repeat(name), "w".repeat(word));
        parse_with_secret(&text, "")
    };
    assert_limit(255, |len| proxy(len, 1));
    assert_limit(255, |len| proxy(1, len));
    let with_file = format!("{MASTER}username = u\npassword_file = secret\n");
    assert_limit(65_535, |len| parse_with_secret(&with_file, &("x".repeat(len) + "\n")));
    let nodes = |count: usize| (0..count).map(|number| format!("h{number}")).collect::<Vec<_>>().join(",");
    assert_limit(32, |count| parse_with_secret(&format!("{MASTER}host = {}\n", nodes(count)), ""));
}

#[test]
fn a_password_file_has_one_line() {
    let text = format!("{MASTER}username = u\npassword_file = secret\n");
    for secret in ["word", "word\n", "word\r\n"] {
        assert_eq!(password(&parse_with_secret(&text, secret).unwrap()), "word");
    }
    for secret in ["", "\n", "\r\n", "two\nlines\n", "word\n\n", "a\tb\n"] {
        let err = parse_with_secret(&text, secret).unwrap_err();
        assert!(err.to_string().ends_with("secret must be one line of 1 to 65535 bytes"), "{err}");
    }
}

#[test]
fn a_will_may_have_a_topic_of_its_own_where_nothing_is_sealed() {
    let config = parse(&format!("{NOSEC}will_topic = gone\n"));
    assert_eq!(config.will_topic.as_ref().map(Topic::as_str), Some("gone"));
    assert_eq!(parse(NOSEC).will_topic, None);
}

#[test]
fn of_a_short_word_no_other_one_is_guessed() {
    assert_eq!(failure(&format!("{MASTER}retain = 11\n"), &[]).2, "");
    assert_eq!(failure(&format!("{MASTER}aes = 'gc'\n"), &[]).2, "quotes are part of a value: leave them out");
}
