"""Prints what the executables of a package are built from, in CycloneDX 1.5, for bin/package: sbom.py TARGET [FEATURES...]

Like THIRD-PARTY-LICENSES, it lists what is linked. A list of all that Cargo.lock names would have an asynchronous runtime in it,
of which no executable has any part (not_linked.py). No time and no random number is in it, so that a package can be built again.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from graph import linked
from not_linked import CRATE


def main():
    target, *features = sys.argv[1:]
    lock = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}
    brings = {crate.name for crate in linked(targets=[target], features=features, without=CRATE)} | {CRATE}
    crates = [crate for crate in linked(targets=[target], features=features) if crate.name in brings]
    components = [component(crate, checksums[crate.name, crate.version]) for crate in crates]
    version = next(package["version"] for package in lock if package["name"] == "sts")
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "sts", "version": version, "bom-ref": f"sts@{version}"}},
        "components": [standard_library(), *components],
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
    license = "MIT OR Apache-2.0"
    return {"type": "library", "bom-ref": "std", "name": "std", "version": version, "licenses": [{"expression": license}]}


main()
