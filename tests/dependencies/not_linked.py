"""Fails unless the executables contain nothing of what rumqttc alone brings: see tests/supply_chain.

rumqttc is here for the packets of MQTT. Its event loop, which is not used, brings an asynchronous runtime. The linker leaves
out every function that nothing refers to. A debug build is not stripped and inlines nothing across crates on its own: each
function that is left has a symbol, in which the name of its crate stands after its length, in both of Rust's schemes. So a
crate of which no symbol speaks has no function there. A release build starts from the same references, and keeps less.
"""

import re
import subprocess
import sys
from pathlib import Path

from graph import RUNTIME_OF as CRATE
from graph import linked

# What is in each executable for sure: if no symbol speaks of these, symbols are not what this script thinks.
PRESENT = ["sts", "rumqttc", "rustls", "ring"]


def symbols_of(executable):
    return subprocess.run(["nm", executable], check=True, stdout=subprocess.PIPE, text=True).stdout


def speaks_of(symbols, crate):
    name = crate.replace("-", "_")
    found = re.finditer(rf"{len(name)}{name}(?![a-z_])", symbols)
    return any(not symbols[match.start() - 1].isdigit() for match in found)


def main():
    before, after = [{crate.name for crate in crates} for crates in (linked(), linked(without=CRATE))]
    brought = sorted(before - after - {CRATE})
    if not brought:
        sys.exit(f"tests/supply_chain: {CRATE} brings nothing: is tests/dependencies/not_linked.py still needed?")
    wrong = []
    for tool in ("sts-pair", "sts-send", "sts-recv"):
        symbols = symbols_of(Path(sys.argv[1]) / tool)
        lacking = [crate for crate in PRESENT if not speaks_of(symbols, crate)]
        if lacking:
            sys.exit(f"tests/supply_chain: {tool} has no symbols of {', '.join(lacking)}: is it a debug build?")
        wrong += [f"{tool} contains code of {crate}" for crate in brought if speaks_of(symbols, crate)]
    if wrong:
        sys.exit("\n".join(f"tests/supply_chain: {what}, which {CRATE} alone brings" for what in wrong))
    print(f"no executable contains code of what {CRATE} brings: {', '.join(brought)}")


if __name__ == "__main__":
    main()
