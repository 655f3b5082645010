"""Prints what the executables of a package are built from, in CycloneDX 1.5, for bin/package: sbom.py TARGET [FEATURES...]

Like THIRD-PARTY-LICENSES, it lists what the executables contain. A list of all that Cargo.lock names would have an asynchronous
runtime in it, of which no executable has any part (not_linked.py). No time and no random number is in it, so that a package can be built again.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from graph import contained


def main():
    target, *features = sys.argv[1:]
    lock = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    crates = contained(targets=[target], features=features)
    components = [component(crate, checksums[crate.name, crate.version]) for crate in crates]
    version = next(package["version"] for package in lock if package["name"] == "sts")
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "sts", "version": version, "bom-ref": f"sts@{version}"}},
        "components": [standard_library(), *(statically_linked() if "-musl" in target else []), *components],
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


def component(crate, checksum):
    purl = f"pkg:cargo/{crate.name}@{crate.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": crate.name,
        "version": crate.version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": checksum}],
        "licenses": [{"expression": crate.license}],
    }


def standard_library():
    command = [os.environ.get("RUSTC", "rustc"), "--version"]
    version = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
    return library("std", version, "MIT OR Apache-2.0")


def statically_linked():
    """The C library and the rest that no crate brings; musl is the one of this zig, or of the Rust above."""
    zig = re.search(r"^ziglang==(.+)$", Path("bin/package.txt").read_text(), re.M)[1]
    parts = {"musl": "MIT", "compiler-rt": "MIT", "libunwind": "Apache-2.0 WITH LLVM-exception"}
    return [library(name, f"zig {zig}", license) for name, license in parts.items()]


def library(name, version, license):
    return {"type": "library", "bom-ref": name, "name": name, "version": version, "licenses": [{"expression": license}]}


main()
