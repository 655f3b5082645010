"""The crates that the executables are built from, as cargo knows them."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The targets that the project is tested on, and those of the packages in README.
TARGETS = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "armv7-unknown-linux-gnueabihf",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-musleabihf",
    "riscv64gc-unknown-linux-musl",
    "mipsel-unknown-linux-musl",
]
# Here for the packets of MQTT; it brings an asynchronous runtime, of which no executable has any part (not_linked.py).
RUNTIME_OF = "rumqttc"


@dataclass(frozen=True)
class Crate:
    """A package of the registry."""

    name: str
    version: str
    license: str
    directory: Path
    authors: tuple

    def __str__(self):
        return f"{self.name} {self.version}"


def linked(without=None, targets=TARGETS, features=()):
    """The foreign crates that may be part of an executable: not those that are needed to build or to test only. Of those, what
    is there `without` one of them. `features` are options of cargo."""
    packages = {(package["name"], package["version"]): package for package in metadata(targets)["packages"] if package["source"]}
    found = set()
    for target in targets:
        words = ["tree", "-p", "sts", "--edges", "normal,no-proc-macro", "--target", target, *features]
        words += ["--prefix", "none", "--format", "{p}", *(["--prune", without] if without else [])]
        for line in cargo(*words).splitlines():
            name, version = line.split()[:2]
            package = packages.get((name, version.removeprefix("v")))
            if package:
                found.add(crate(package))
    return sorted(found, key=lambda crate: (crate.name, crate.version))


def contained(targets=TARGETS, features=()):
    """Of the linked crates, those of which an executable contains code."""
    names = {crate.name for crate in linked(targets=targets, features=features, without=RUNTIME_OF)} | {RUNTIME_OF}
    return [crate for crate in linked(targets=targets, features=features) if crate.name in names]


def metadata(targets):
    # Of other platforms' crates cargo would download the sources, which no build has needed.
    platforms = [word for target in targets for word in ("--filter-platform", target)]
    return json.loads(cargo("metadata", "--format-version", "1", *platforms))


def cargo(*words):
    return subprocess.run(["cargo", *words, "--locked"], check=True, stdout=subprocess.PIPE, text=True).stdout


def crate(package):
    license = (package["license"] or "").replace("/", " OR ")
    return Crate(package["name"], package["version"], license, Path(package["manifest_path"]).parent, tuple(package["authors"]))
