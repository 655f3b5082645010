"""Fails unless SECURITY.md has a row for each crate that foreign bytes or keys pass through: see tests/supply_chain."""

import re
import sys
from pathlib import Path

from graph import linked
from not_linked import CRATE

# What is linked, and gets neither: arithmetic of types, macros, constants, words for errors, what the machine has.
NEITHER = set("""
    anstyle bitflags cfg-if clap_builder clap_lex cpubits cpufeatures crypto-common enumflags2 errno itoa linux-raw-sys log
    num-traits once_cell signal-hook-registry strsim terminal_size thiserror typenum
""".split())


def main():
    text = Path("SECURITY.md").read_text().split("## What it is built from")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    crates = {crate.name for crate in linked()}
    # What only rumqttc brings is in no executable, as not_linked.py shows.
    contained = {crate.name for crate in linked(without=CRATE)} | {CRATE}
    complaints = [f"{name} has no row, and is not in NEITHER" for name in sorted(contained - named - NEITHER)]
    complaints += [f"{name} has a row, and is not linked" for name in sorted(named - crates)]
    complaints += [f"{name} is in NEITHER, and is not linked" for name in sorted(NEITHER - crates)]
    for complaint in complaints:
        print(f"tests/supply_chain: SECURITY.md: {complaint}")
    sys.exit(bool(complaints))


main()
