_sts_links() { for dir in "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}" /etc/sts; do command ls "$dir" 2>/dev/null; done | LC_ALL=C sed -n "s/^\([A-Za-z0-9][A-Za-z0-9._-]\{0,63\}\)\.conf\$/\1/p"; }
_sts_peers() { LC_ALL=C sed -n "s/^\([A-Za-z0-9][A-Za-z0-9._-]\{0,63\}\) sts-rsa .*/\1/p" "${STS_CONFIG_DIR:-${XDG_CONFIG_HOME:-$HOME/.config}/sts}/known_peers" /etc/sts/known_peers 2>/dev/null; }

_sts__send() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    cmd=""
    opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="sts__send"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        sts__send)
            opts="-o -v -q -b -h -V --no-sandbox --each --binary --confirm --pad --progress --stamp --to --spool --spool-max --will --timeout --help --version"
            [[ ${cur} == -* ]] || opts="$(_sts_links)"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                -o)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --pad)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --to)
                    COMPREPLY=($(compgen -W "$(_sts_peers)" -- "${cur}"))
                    return 0
                    ;;
                --spool)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --spool-max)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --will)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --timeout)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
    esac
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _sts__send -o nosort -o bashdefault -o default sts-send
else
    complete -F _sts__send -o bashdefault -o default sts-send
fi
