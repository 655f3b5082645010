# The steps of tests/run, sourced by it, one after the other, and some beside the others:
#
#   step COMMAND...     prints COMMAND, and runs it
#   beside COMMAND...   the same in the background, with what it prints kept
#   join                waits for what runs beside, and prints that
#
# A step that fails ends the script with its exit status, and with it all that runs beside it. What fails beside the others ends
# the script before its next step. tests/steps tries that.
beside= beside_dir=

step() {
    [ ! -e "${beside_dir:-/nowhere}/status" ] || join
    printf '\n$ %s\n' "$*"
    "$@"
}

beside() {
    [ -z "$beside" ] || { echo "$0: one thing beside the others is enough" >&2 && exit 70; }
    printf '\n$ %s  # beside what follows\n' "$*"
    beside_dir=$(mktemp -d "${TMPDIR:-/tmp}/sts-tests.XXXXXX")
    trap end_beside EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # In a session of its own, so that nothing of it outlives a signal to all of it.
    setsid sh -c '"$@"; echo $? >"$0.new" && mv "$0.new" "$0"' "$beside_dir/status" "$@" \
        >"$beside_dir/output" 2>&1 </dev/null &
    beside=$!
}

join() {
    [ -n "$beside" ] || return 0
    wait "$beside" || :
    beside=
    printf '\nbeside the steps above:\n'
    cat "$beside_dir/output"
    # Without a status, it was killed.
    beside_status=$(cat "$beside_dir/status" 2>/dev/null || echo 1)
    rm -rf "$beside_dir"
    beside_dir=
    [ "$beside_status" = 0 ] || exit "$beside_status"
}

end_beside() {
    trap '' INT TERM HUP
    if [ -n "$beside" ]; then
        kill -s TERM -- "-$beside" 2>/dev/null || :
        wait "$beside" 2>/dev/null || :
        printf '\nbeside the step that failed:\n'
        tail -n 50 "$beside_dir/output"
    fi
    [ -z "$beside_dir" ] || rm -rf "$beside_dir"
}
