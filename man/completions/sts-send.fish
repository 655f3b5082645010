function __sts_links
    sh -c 'for dir in "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}" /etc/sts; do command ls "$dir" 2>/dev/null; done | LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\)\\.conf\\$/\\1/p"'
end
function __sts_peers
    sh -c 'LC_ALL=C sed -n "s/^\\([A-Za-z0-9][A-Za-z0-9._-]\\{0,63\\}\\) sts-rsa .*/\\1/p" "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}/known_peers" /etc/sts/known_peers 2>/dev/null'
end

complete -c sts-send -s o -d 'Set a configuration key, overriding the file; may be repeated' -r
complete -c sts-send -l pad -d 'Hide lengths: pad what is encrypted to a multiple of N bytes' -r
complete -c sts-send -l to -d 'Send to the peer NAME, on a link with several peers' -r -f -a '(__sts_peers)'
complete -c sts-send -l spool -d 'Keep input on disk until it is acknowledged; what an earlier run left there is sent first' -r -F
complete -c sts-send -l spool-max -d 'Let at most BYTES bytes wait in the spool; the number may be followed by k, M or G' -r
complete -c sts-send -l will -d 'Have the broker send TEXT to the receiver if this run dies, fails, or loses its connection' -r
complete -c sts-send -l timeout -d 'Give up after TIME without an acknowledgement: 90, 90s, 1h30m (0: never)' -r
complete -c sts-send -s v -d 'Print each step'
complete -c sts-send -s q -d 'Report only the error that ends the run'
complete -c sts-send -l no-sandbox -d 'Do not give up access to files, ports and system calls that this run does not need; for systems where that fails'
complete -c sts-send -l each -d 'Send each line as a separate message; with `nosec`, without its newline'
complete -c sts-send -s b -l binary -d 'Do not wait for newlines'
complete -c sts-send -l confirm -d 'Wait until the receiver has written everything, and resend what the broker lost'
complete -c sts-send -l progress -d 'On a terminal, show on stderr how much was sent, how fast, and how long it will take'
complete -c sts-send -l stamp -d 'Say in each message when its first byte was read, for `sts-recv --json`'
complete -c sts-send -s h -l help -d 'Print help (see more with \'--help\')'
complete -c sts-send -s V -l version -d 'Print version'
complete -c sts-send -f -a '(__sts_links)'
