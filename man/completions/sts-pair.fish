function __sts_links
    sh -c 'for dir in "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}" /etc/sts; do command ls "$dir" 2>/dev/null; done | LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\)\\.conf\\$/\\1/p"'
end
function __sts_peers
    sh -c 'LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\) sts-rsa .*/\\1/p" "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}/known_peers" /etc/sts/known_peers 2>/dev/null'
end

complete -c sts-pair -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts-pair -l timeout -d 'Give up after TIME: 90, 90s, 1h30m (0: never) [default: 30s, or 10m with --code]' -r
complete -c sts-pair -l name -d 'With --code: the name under which the other device knows this one [default: the host name]' -r
complete -c sts-pair -l to -d 'With --end: end only the sessions with the peer NAME, on a link with several peers' -r -f -a '(__sts_peers)'
complete -c sts-pair -l spool -d 'With --metrics: add the size of the spool DIR of sts-send; may be repeated' -r -F
complete -c sts-pair -l if-older -d 'Keep the session if it is younger than AGE and the peer still has it; for cron' -r
complete -c sts-pair -l trust -d 'Read a public key line from stdin and trust it as NAME\'s, for LINK only or for all links' -r -f -a '(__sts_peers)'
complete -c sts-pair -l forget -d 'Stop trusting the key of NAME, and delete all sessions with it' -r -f -a '(__sts_peers)'
complete -c sts-pair -l peers -d 'Print the keys of the peers of LINK as --trust - reads them, or only of those that publish on topics matching FILTER' -r
complete -c sts-pair -l metrics -d 'Print metrics of all links for Prometheus, or write them to FILE, which is replaced as a whole' -r -F
complete -c sts-pair -l keep -d 'On a master: keep running, and agree on a new session when it is older than AGE or the peer has lost it, until SIGTERM' -r
complete -c sts-pair -s v -d 'Print each step'
complete -c sts-pair -s q -d 'Report only the error that ends the run'
complete -c sts-pair -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts-pair -l json -d 'With --status: print one JSON object per line'
complete -c sts-pair -l watch -d 'With --status: print it every two seconds until SIGINT; on a terminal, each replaces the one before'
complete -c sts-pair -l code -d 'Enrol by one-time code: pair with a device that does not know this one yet, and trust each other from then on'
complete -c sts-pair -l key -d 'Print this device\'s public key line, and its fingerprint on stderr'
complete -c sts-pair -l status -d 'Print peers, sessions and what was received under them, of LINK or of all links, one line per peer; never a secret'
complete -c sts-pair -l end -d 'Tell the peer that the session has ended, and delete all sessions with it'
complete -c sts-pair -l check -d 'Print the configuration as it is used, and check each step of using it: names, connection, topics, clock, session'
complete -c sts-pair -l serve -d 'On a slave: keep running and answer every pairing until SIGTERM; SIGHUP reloads the configuration'
complete -c sts-pair -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts-pair -s V -l version -d 'Print version'
complete -c sts-pair -f -a '(__sts_links)'
