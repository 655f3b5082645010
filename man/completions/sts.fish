function __sts_links
    sh -c 'for dir in "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}" /etc/sts; do command ls "$dir" 2>/dev/null; done | LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\)\\.conf\\$/\\1/p"'
end
function __sts_peers
    sh -c 'LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\) sts-rsa .*/\\1/p" "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}/known_peers" /etc/sts/known_peers 2>/dev/null'
end

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_sts_global_optspecs
    string join \n h/help V/version
end

function __fish_sts_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_sts_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_sts_using_subcommand
    set -l cmd (__fish_sts_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c sts -n "__fish_sts_needs_command" -s h -l help -d 'Print help'
complete -c sts -n "__fish_sts_needs_command" -s V -l version -d 'Print version'
complete -c sts -n "__fish_sts_needs_command" -f -a "pair" -d 'Agree on a session key with the device at the other end of a link'
complete -c sts -n "__fish_sts_needs_command" -f -a "send" -d 'Encrypt standard input and send it to the device at the other end of a link'
complete -c sts -n "__fish_sts_needs_command" -f -a "recv" -d 'Decrypt what the device at the other end of a link sends, and write it to standard output'
complete -c sts -n "__fish_sts_using_subcommand pair" -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -l timeout -d 'Give up after TIME: 90, 90s, 1h30m (0: never) [default: 30s, or 10m with --code]' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -l name -d 'With --code: the name under which the other device knows this one [default: the host name]' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -l to -d 'With --end: end only the sessions with the peer NAME, on a link with several peers' -r -f -a '(__sts_peers)'
complete -c sts -n "__fish_sts_using_subcommand pair" -l spool -d 'With --metrics: add the size of the spool DIR of sts-send; may be repeated' -r -F
complete -c sts -n "__fish_sts_using_subcommand pair" -l if-older -d 'Keep the session if it is younger than AGE and the peer still has it; for cron' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -l trust -d 'Read a public key line from stdin and trust it as NAME\'s, for LINK only or for all links' -r -f -a '(__sts_peers)'
complete -c sts -n "__fish_sts_using_subcommand pair" -l forget -d 'Stop trusting the key of NAME, and delete all sessions with it' -r -f -a '(__sts_peers)'
complete -c sts -n "__fish_sts_using_subcommand pair" -l peers -d 'Print the keys of the peers of LINK as --trust - reads them, or only of those that publish on topics matching FILTER' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -l metrics -d 'Print metrics of all links for Prometheus, or write them to FILE, which is replaced as a whole' -r -F
complete -c sts -n "__fish_sts_using_subcommand pair" -l keep -d 'On a master: keep running, and agree on a new session when it is older than AGE or the peer has lost it, until SIGTERM' -r
complete -c sts -n "__fish_sts_using_subcommand pair" -s v -d 'Print each step'
complete -c sts -n "__fish_sts_using_subcommand pair" -s q -d 'Report only the error that ends the run'
complete -c sts -n "__fish_sts_using_subcommand pair" -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts -n "__fish_sts_using_subcommand pair" -l json -d 'With --status: print one JSON object per line'
complete -c sts -n "__fish_sts_using_subcommand pair" -l watch -d 'With --status: print it every two seconds until SIGINT; on a terminal, each replaces the one before'
complete -c sts -n "__fish_sts_using_subcommand pair" -l code -d 'Enrol by one-time code: pair with a device that does not know this one yet, and trust each other from then on'
complete -c sts -n "__fish_sts_using_subcommand pair" -l key -d 'Print this device\'s public key line, and its fingerprint on stderr'
complete -c sts -n "__fish_sts_using_subcommand pair" -l status -d 'Print peers, sessions and what was received under them, of LINK or of all links, one line per peer; never a secret'
complete -c sts -n "__fish_sts_using_subcommand pair" -l end -d 'Tell the peer that the session has ended, and delete all sessions with it'
complete -c sts -n "__fish_sts_using_subcommand pair" -l check -d 'Print the configuration as it is used, and check each step of using it: names, connection, topics, clock, session'
complete -c sts -n "__fish_sts_using_subcommand pair" -l serve -d 'On a slave: keep running and answer every pairing until SIGTERM; SIGHUP reloads the configuration'
complete -c sts -n "__fish_sts_using_subcommand pair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts -n "__fish_sts_using_subcommand pair" -s V -l version -d 'Print version'
complete -c sts -n "__fish_sts_using_subcommand send" -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts -n "__fish_sts_using_subcommand send" -l pad -d 'Hide lengths: pad what is encrypted to a multiple of N bytes' -r
complete -c sts -n "__fish_sts_using_subcommand send" -l to -d 'Send to the peer NAME, on a link with several peers' -r -f -a '(__sts_peers)'
complete -c sts -n "__fish_sts_using_subcommand send" -l spool -d 'Keep input on disk until it is acknowledged; what an earlier run left there is sent first' -r -F
complete -c sts -n "__fish_sts_using_subcommand send" -l spool-max -d 'Let at most BYTES bytes wait in the spool; the number may be followed by k, M or G' -r
complete -c sts -n "__fish_sts_using_subcommand send" -l will -d 'Have the broker send TEXT to the receiver if this run dies, fails, or loses its connection' -r
complete -c sts -n "__fish_sts_using_subcommand send" -l timeout -d 'Give up after TIME without an acknowledgement: 90, 90s, 1h30m (0: never)' -r
complete -c sts -n "__fish_sts_using_subcommand send" -s v -d 'Print each step'
complete -c sts -n "__fish_sts_using_subcommand send" -s q -d 'Report only the error that ends the run'
complete -c sts -n "__fish_sts_using_subcommand send" -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts -n "__fish_sts_using_subcommand send" -l each -d 'Send each line as a separate message; with `nosec`, without its newline'
complete -c sts -n "__fish_sts_using_subcommand send" -s b -l binary -d 'Do not wait for newlines'
complete -c sts -n "__fish_sts_using_subcommand send" -l confirm -d 'Wait until the receiver has written everything, and resend what the broker lost'
complete -c sts -n "__fish_sts_using_subcommand send" -l progress -d 'On a terminal, show on stderr how much was sent, how fast, and how long it will take'
complete -c sts -n "__fish_sts_using_subcommand send" -l stamp -d 'Say in each message when its first byte was read, for `sts-recv --json`'
complete -c sts -n "__fish_sts_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts -n "__fish_sts_using_subcommand send" -s V -l version -d 'Print version'
complete -c sts -n "__fish_sts_using_subcommand recv" -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts -n "__fish_sts_using_subcommand recv" -s n -l lines -d 'Exit after N lines; with a `clientid`, the rest is left for the next run' -r
complete -c sts -n "__fish_sts_using_subcommand recv" -l pad -d 'Hide lengths: pad the confirms to a multiple of N bytes' -r
complete -c sts -n "__fish_sts_using_subcommand recv" -l timeout -d 'Exit if nothing is received for TIME: 90, 90s, 1h30m (0: never)' -r
complete -c sts -n "__fish_sts_using_subcommand recv" -s v -d 'Print each step'
complete -c sts -n "__fish_sts_using_subcommand recv" -s q -d 'Report only the error that ends the run'
complete -c sts -n "__fish_sts_using_subcommand recv" -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts -n "__fish_sts_using_subcommand recv" -s 1 -l once -d 'Follow the first stream that starts, and exit at its end: with 0 only if it is complete'
complete -c sts -n "__fish_sts_using_subcommand recv" -l last -d 'Print the newest message that the broker keeps, even one received before, and exit; wait for it 10s or --timeout'
complete -c sts -n "__fish_sts_using_subcommand recv" -s b -l binary -d 'With `nosec`: write payloads as they are, without adding newlines'
complete -c sts -n "__fish_sts_using_subcommand recv" -l prefix -d 'Write the name of the peer and `: ` before each line'
complete -c sts -n "__fish_sts_using_subcommand recv" -l timestamps -d 'Write the time of receipt, in UTC, before each line, and with --prefix before the name'
complete -c sts -n "__fish_sts_using_subcommand recv" -l progress -d 'On a terminal, show on stderr how much was received, and how fast'
complete -c sts -n "__fish_sts_using_subcommand recv" -l json -d 'Write each line as a JSON object: peer, stream, seq, time, and text, or base64 if it is not UTF-8'
complete -c sts -n "__fish_sts_using_subcommand recv" -l wait -d 'If there is no session, wait for the first one; for services'
complete -c sts -n "__fish_sts_using_subcommand recv" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts -n "__fish_sts_using_subcommand recv" -s V -l version -d 'Print version'
complete -c sts -n "not __fish_sts_needs_command" -f -a '(__sts_links)'
