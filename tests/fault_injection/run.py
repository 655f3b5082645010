"""Runs each scenario once for each failure of each system call, and says which promise was broken: see tests/faults."""

import argparse
import functools
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import calls
from scenarios import ABORTED, KILLED, SCENARIOS, STATUSES, Wrong
from tools import Hang, Site

KILL = "signal=SIGKILL"
# Scenarios that have something on disk which the next run continues: they are also killed, at each call, or where the other end
# waits in vain for a quarter of a minute, at the first and the last call of each name.
KILLED_OFTEN = {"send-spool", "send-spool-confirm", "send-spool-stamp", "recv", "recv-json", "recv-gateway", "forget"}
KILLED_SELDOM = {"pair-master", "pair-slave", "code-master", "code-slave", "serve"}
# With --quick, that many of the calls of each of them.
QUICK_KILLS = 2


@dataclass(frozen=True)
class Case:
    """One call of one scenario, and what happens to it."""

    scenario: object
    call: calls.Call
    failure: str

    def __str__(self):
        about = f" ({self.call.about})" if self.call.about else ""
        return f"{self.scenario.name}: {self.call.name} {self.call.when}{about}: {self.failure}"

    def traced(self, trace):
        what = self.failure if "=" in self.failure else f"error={self.failure}"
        inject = f"inject={self.call.name}:{what}:when={self.call.when}"
        return ["strace", "-f", "-o", trace, "-e", f"trace={self.call.name}", "-e", inject]


@dataclass
class Tally:
    """What came of the cases of a scenario."""

    ran: int = 0
    hit: int = 0
    by_status: Counter = field(default_factory=Counter)
    wrong: list = field(default_factory=list)


def main():
    options = arguments()
    scenarios = [scenario for scenario in SCENARIOS if not options.scenario or scenario.name in options.scenario]
    unknown = set(options.scenario) - {scenario.name for scenario in scenarios}
    if unknown:
        raise SystemExit(f"tests/faults: no scenario {', '.join(unknown)}: {', '.join(s.name for s in SCENARIOS)}")
    # As a failure does: the directory goes, and what runs in it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    directory = Path(tempfile.mkdtemp(prefix="sts-faults-"))
    bench = Bench(options.tools, directory)
    try:
        tallies = {scenario.name: run_scenario(bench, scenario, options) for scenario in scenarios}
    finally:
        if not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    report(tallies)
    if any(tally.wrong for tally in tallies.values()):
        sys.exit(1)


def arguments():
    parser = argparse.ArgumentParser(prog="tests/faults", description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="the directory of the executables")
    parser.add_argument("--quick", action="store_true", help="each call once, and its worst error only; a few kills")
    parser.add_argument("--all", action="store_true", help="each call, not only the first and the last of a kind")
    parser.add_argument("--kill", action="store_true", help="only the kills")
    parser.add_argument("--call", help="only calls whose name matches")
    parser.add_argument("--keep", action="store_true", help="keep the files of what failed")
    # A run waits most of the time.
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("-v", "--verbose", action="store_true", help="print each case")
    parser.add_argument("scenario", nargs="*")
    return parser.parse_args()


class Bench:
    """The directory of all runs, with the keys and the templates that they share."""

    def __init__(self, tools, directory):
        self.tools, self.directory = tools.resolve(), directory
        with Site(self.tools, directory / "keys") as site:
            self.keys = []
            for name in ("one", "two"):
                device = site.device(name).make(None)
                site.must(device, "sts-pair", "--key")
                self.keys.append(device.config / "identity.pem")

    def template(self, scenario):
        path = self.directory / f"{scenario.name}-template"
        with Site(self.tools, path) as site:
            scenario.prepare(site, self.keys)
        for left in path.glob("*.err"):
            left.unlink()
        for left in path.glob("*.out"):
            left.unlink()
        return path

    def run(self, scenario, template, path, traced):
        with Site(self.tools, path, template) as site:
            return scenario.run(site, traced)


def run_scenario(bench, scenario, options):
    template = bench.template(scenario)
    path = bench.directory / f"{scenario.name}-recorded"
    trace = path / "trace"
    recorded = bench.run(scenario, template, path, ["strace", "-f", "-y", "-o", trace])
    if recorded.status != 0:
        raise SystemExit(f"{scenario.name}: {recorded.status} without a failure: {recorded.stderr}")
    cases = list(choose(scenario, calls.read(trace), options))
    print(f"{scenario.name}: {len(cases)} failures", flush=True)
    tally = Tally()
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = pool.map(lambda numbered: attempt(bench, template, *numbered), enumerate(cases))
        for case, outcome in zip(cases, outcomes):
            note(tally, case, outcome, options)
    return tally


def choose(scenario, made, options):
    """The cases of a scenario, from the calls that it made."""
    made = list(dict.fromkeys(call for call in made if not options.call or re.search(options.call, call.name)))
    kinds = by_kind(made, lambda call: call.name if options.quick else (call.name, call.about))
    for kind in kinds if not options.kill else []:
        chosen = kind if options.all else [kind[0]] if options.quick else dict.fromkeys([kind[0], kind[-1]])
        for call in chosen:
            for failure in calls.failures(call)[: 1 if options.quick else None]:
                yield Case(scenario, call, failure)
    if scenario.name in KILLED_OFTEN | KILLED_SELDOM:
        killed = made
        if options.quick:
            killed = sample(scenario, made)
        elif scenario.name in KILLED_SELDOM and not options.all:
            killed = [call for kind in by_kind(made, lambda call: call.name) for call in dict.fromkeys([kind[0], kind[-1]])]
        for call in killed:
            yield Case(scenario, call, KILL)


def by_kind(made, kind_of):
    """The calls of each kind, in order."""
    kinds = {}
    for call in made:
        kinds.setdefault(kind_of(call), []).append(call)
    return list(kinds.values())


def sample(scenario, made):
    """A few of these calls: the same ones whenever this version runs, and other ones in the next version."""
    def place(call):
        return hashlib.sha256(f"{version()} {scenario.name} {call.name} {call.when}".encode()).digest()
    return sorted(made, key=place)[:QUICK_KILLS]


@functools.cache
def version():
    """The commit; a tree without git has none."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


@dataclass
class Outcome:
    hit: bool
    result: object
    wrong: str
    path: Path


def attempt(bench, template, number, case):
    path = bench.directory / f"{case.scenario.name}-{number}"
    trace = path / "trace"
    result, wrong = None, None
    try:
        result = bench.run(case.scenario, template, path, case.traced(trace))
        wrong = verdict(case, result)
    except (Wrong, Hang, AssertionError) as error:
        wrong = f"{error}"
    hit = trace.exists() and calls.injected(trace) > 0
    return Outcome(hit, result, wrong, path)


def verdict(case, result):
    """What is wrong with how the tool ended and what it said, whatever the scenario."""
    if "panicked" in result.stderr:
        return "it panicked: " + result.stderr
    if result.status == KILLED and case.failure == KILL:
        return None
    if result.status == ABORTED and case.call.name in calls.MEMORY:
        return None
    if result.status not in STATUSES:
        return f"status {result.status}: {result.stderr}"
    if result.status and not re.search(r"^sts-\w+: [^\n]+: [^\n]+", result.stderr, re.M):
        return f"status {result.status} without what and why: {result.stderr!r}"
    return None


def note(tally, case, outcome, options):
    """Counts a case, and prints it if something is wrong."""
    tally.ran += 1
    tally.hit += outcome.hit
    status = outcome.result.status if outcome.result else "none"
    tally.by_status[status] += 1
    if options.verbose or outcome.wrong:
        reached = "" if outcome.hit else ", not reached"
        last = " / ".join(outcome.result.stderr.strip().splitlines()[-2:]) if outcome.result else ""
        print(f"{'WRONG' if outcome.wrong else 'ok'}: {case}: status {status}{reached} {last}", flush=True)
    if outcome.wrong:
        print("    " + outcome.wrong.replace("\n", "\n    "), flush=True)
        tally.wrong.append(case)
    if not (outcome.wrong and options.keep):
        shutil.rmtree(outcome.path, ignore_errors=True)


def report(tallies):
    print(f"\n{'scenario':20} {'failures':>8} {'reached':>8} {'wrong':>6}  exit statuses")
    for name, tally in tallies.items():
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.by_status.items(), key=str))
        print(f"{name:20} {tally.ran:8} {tally.hit:8} {len(tally.wrong):6}  {statuses}")


if __name__ == "__main__":
    main()
