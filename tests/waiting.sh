# What the cases of tests/interop and tests/brokers wait for: WAIT seconds at most, which is when they give up.

# waituntil COMMAND...: until it succeeds
waituntil() {
	local end=$((SECONDS + WAIT))
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
waitfor() { waituntil grep -q -e "$2" "$1" 2>/dev/null; } # waitfor FILE TEXT: until the file has the text

# status PID: wait for it, twice as long, and set rc to its exit status
status() {
	local end=$((SECONDS + 2 * WAIT))
	while kill -0 "$1" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then kill "$1" 2>/dev/null; rc=timeout; return; fi
		sleep 0.05
	done
	wait "$1"
	rc=$?
}
