//! Options of mosquitto's clients that a user types here from habit, and what does the same.

use std::ffi::OsString;

/// Each with its short and its long name, and what to write here; `TOPIC_KEY` is the key of the topic.
const OPTIONS: [(&str, &str, &str); 17] = [
    ("-h", "--host", "-o host=HOST"),
    ("-p", "--port", "-o port=PORT"),
    ("-L", "--url", "-o url=URL"),
    ("-u", "--username", "-o username=NAME"),
    ("-P", "--pw", "-o password_file=FILE"),
    ("-i", "--id", "-o clientid=ID"),
    ("-t", "--topic", "-o TOPIC_KEY=TOPIC"),
    ("-q", "--qos", "-o qos=QOS"),
    ("-r", "--retain", "-o retain=1"),
    ("-k", "--keepalive", "-o keep_alive=TIME"),
    ("-m", "--message", "echo MESSAGE | sts-send LINK"),
    ("-f", "--file", "sts-send LINK < FILE"),
    ("-l", "--stdin-line", "sts-send --each"),
    ("-s", "--stdin-file", "sts-send -b"),
    ("-C", "", "sts-recv -n N"),
    ("-W", "", "--timeout TIME"),
    ("-d", "--debug", "-v"),
];

/// What to write instead of the options of mosquitto's clients on a command line of `tool` that was refused, or that asks for
/// help with a `-h` that has a value; `None` where there are none.
pub(crate) fn instead(tool: &str, args: &[OsString]) -> Option<String> {
    let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).take_while(|arg| *arg != "--").collect();
    let words = args.iter().zip(args.iter().skip(1).map(Some).chain([None]));
    let found: Vec<_> = words.filter_map(|(word, next)| foreign(word, next.copied())).collect();
    if found.is_empty() {
        return None;
    }
    let topic_key = if tool == "sts-recv" { "subtop" } else { "pubtop" };
    let instead: Vec<_> =
        found.iter().map(|(name, here)| format!("{here} for {name}").replace("TOPIC_KEY", topic_key)).collect();
    let instead = instead.join(", ");
    Some(format!(
        "broker and topics are set in the configuration of the link, sts.conf(5); on a command line: {instead}"
    ))
}

/// The option that a word is, followed by `next`, if it is one that means something else here, or nothing.
fn foreign(word: &str, next: Option<&str>) -> Option<(&'static str, &'static str)> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let (short, long, here) = OPTIONS.into_iter().find(|(short, long, _)| *short == name || *long == name)?;
    let takes_it = match name {
        // Alone, it asks for help.
        "-h" => next.is_some_and(|next| !next.starts_with('-')),
        "-q" => next.is_some_and(|next| ["0", "1", "2"].contains(&next)),
        _ => true,
    };
    takes_it.then_some((if short == name { short } else { long }, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(tool: &str, line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        instead(tool, &args)
    }

    #[test]
    fn each_option_leads_to_what_does_the_same() {
        let hint = on("sts-send", "-h broker -t plant/up -m 21.5").unwrap();
        assert!(
            hint.ends_with(": -o host=HOST for -h, -o pubtop=TOPIC for -t, echo MESSAGE | sts-send LINK for -m"),
            "{hint}"
        );
        let hint = on("sts-recv", "--topic=plant/up -q 1 -C 3").unwrap();
        assert!(hint.ends_with(": -o subtop=TOPIC for --topic, -o qos=QOS for -q, sts-recv -n N for -C"), "{hint}");
    }

    #[test]
    fn our_own_options_are_not_foreign() {
        for line in ["-h", "plant -h", "-h --code", "-q plant", "--each -b -o host=h", "-- -t", "-v --timeout 5"] {
            assert_eq!(on("sts-send", line), None, "{line}");
        }
    }
}
