function __sts_links
    sh -c 'for dir in "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}" /etc/sts; do command ls "$dir" 2>/dev/null; done | LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\)\\.conf\\$/\\1/p"'
end
function __sts_peers
    sh -c 'LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\) sts-rsa .*/\\1/p" "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}/known_peers" /etc/sts/known_peers 2>/dev/null'
end

complete -c sts-recv -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts-recv -s n -l lines -d 'Exit after N lines; with a `clientid`, the rest is left for the next run' -r
complete -c sts-recv -l pad -d 'Hide lengths: pad the confirms to a multiple of N bytes' -r
complete -c sts-recv -l timeout -d 'Exit if nothing is received for TIME: 90, 90s, 1h30m (0: never)' -r
complete -c sts-recv -s v -d 'Print each step'
complete -c sts-recv -s q -d 'Report only the error that ends the run'
complete -c sts-recv -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts-recv -s 1 -l once -d 'Follow the first stream that starts, and exit at its end: with 0 only if it is complete'
complete -c sts-recv -l last -d 'Print the newest message that the broker keeps, even one received before, and exit; wait for it 10s or --timeout'
complete -c sts-recv -s b -l binary -d 'With `nosec`: write payloads as they are, without adding newlines'
complete -c sts-recv -l prefix -d 'Write the name of the peer and `: ` before each line'
complete -c sts-recv -l timestamps -d 'Write the time of receipt, in UTC, before each line, and with --prefix before the name'
complete -c sts-recv -l progress -d 'On a terminal, show on stderr how much was received, and how fast'
complete -c sts-recv -l json -d 'Write each line as a JSON object: peer, stream, seq, time, and text, or base64 if it is not UTF-8'
complete -c sts-recv -l wait -d 'If there is no session, wait for the first one; for services'
complete -c sts-recv -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts-recv -s V -l version -d 'Print version'
complete -c sts-recv -f -a '(__sts_links)'
