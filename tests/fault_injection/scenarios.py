"""What the tools do while one of their calls fails, and what must be true after it.

A scenario has `prepare`, once, which fills the directory that each run gets a copy of; and `run`, which does the work with
one tool traced and returns a Result. `run` raises Wrong, with the promise that was broken.
"""

import re
import subprocess
from dataclasses import dataclass

from tools import LINK, wait_until

LINES = [b"line %d of the input, with some more text\n" % number for number in range(6)]
INPUT = b"".join(LINES)
HALF = b"".join(LINES[:3])
AFTER = b"after it all\n"
# From the master to the slave, and back: as each end names them.
LINK_TOPICS = {"master": ("m2s", "s2m"), "slave": ("m2s", "s2m")}
GATEWAY_TOPICS = {"master": ("plant/s0/up", "plant/s0/down"), "slave": ("plant/+/up", "plant/+/down")}
# In EXIT STATUS of the manual pages. 64, a wrong command line, is none: ours are right.
STATUSES = {0, 1, 65, 69, 75, 76, 77, 78}
KILLED = 128 + 9
# Rust's answer where there is no memory.
ABORTED = 128 + 6


class Wrong(Exception):
    """A promise that was broken."""


@dataclass
class Result:
    """How the traced tool ended, and what it said."""

    status: int
    stderr: str
    stdout: bytes = b""


def check(holds, what):
    if not holds:
        raise Wrong(what)


class Scenario:
    """Two devices that have a session, on the topics of the manual."""

    secure = False
    paired = True
    topics = LINK_TOPICS

    def __init__(self, name):
        self.name = name

    def prepare(self, site, keys):
        site.start_broker(self.secure)
        master, slave = self.devices(site)
        master.make(keys[0])
        slave.make(keys[1])
        self.configure(site)
        self.enrol(master, slave)
        if self.paired:
            agree(site, master, slave)

    def enrol(self, master, slave):
        master.trust("gateway", slave)
        slave.trust("station", master)

    def devices(self, site):
        return site.device("master"), site.device("slave")

    def begin(self, site):
        """The broker of this run, which the devices' configurations name."""
        site.start_broker(self.secure)
        self.configure(site)
        return self.devices(site)

    def configure(self, site):
        master, slave = self.devices(site)
        master.configure(**self.settings(site, "master"))
        slave.configure(**self.settings(site, "slave"))

    def settings(self, site, mode):
        there, back = self.topics[mode]
        subtop, pubtop = (back, there) if mode == "master" else (there, back)
        return {"host": "127.0.0.1", "port": site.port, "subtop": subtop, "pubtop": pubtop, "clientid": f"the-{mode}",
                "sts_mode": mode}


def agree(site, master, slave):
    """A pairing in which nothing fails."""
    waiting = site.start(slave, "sts-pair", "-v", "--timeout", "60", LINK)
    waiting.wait_for("listening on")
    site.must(master, "sts-pair", "--timeout", "60", LINK)
    check(waiting.wait() == 0, f"the next pairing fails: {waiting.stderr()}")


def listen(site, device, *args, **more):
    receiver = site.start(device, "sts-recv", "-v", *args, LINK, **more)
    receiver.wait_for("listening on")
    return receiver


def carries(site, master, slave):
    """The devices' session still carries a line, all of it and once."""
    receiver = listen(site, slave, "-n", "1", "--timeout", "60")
    sender = site.start(master, "sts-send", "--confirm", "--timeout", "60", LINK, stdin=AFTER)
    check(sender.wait() == 0, f"nothing can be sent after it: {sender.stderr()}")
    check(receiver.wait() == 0, f"nothing can be received after it: {receiver.stderr()}")
    check(receiver.stdout() == AFTER, f"received after it: {receiver.stdout()!r}")


def in_order(got):
    """Whole lines of the input, each at most once, in order."""
    lines = got.splitlines(keepends=True)
    places = [LINES.index(line) if line in LINES else None for line in lines]
    return None not in places and places == sorted(set(places))


class Send(Scenario):
    """sts-send while another device receives."""

    def __init__(self, name, *args, spool=False):
        super().__init__(name)
        self.args = [*args, *(["--spool", "spool"] if spool else [])]
        self.spool = spool

    def feed(self, site, master, receiver, words, traced):
        """Starts the sender with all of its input."""
        return site.start(master, *words, traced=traced, stdin=INPUT)

    def run(self, site, traced):
        master, slave = self.begin(site)
        receiver = listen(site, slave)
        words = ["sts-send", *self.args, "--each", "--timeout", "20", LINK]
        sender = self.feed(site, master, receiver, words, traced)
        status = sender.wait()
        later = site.start(master, "sts-send", *self.args, "--timeout", "60", LINK, stdin=AFTER)
        check(later.wait() == 0, f"nothing can be sent after it: {later.stderr()}")
        wait_until("the last line", lambda: receiver.stdout().endswith(AFTER) or receiver.ended())
        # What comes out of order is given up after ten seconds; a duplicate would be here by then.
        check(receiver.terminate() == 0, f"the receiver fails: {receiver.stderr()}")
        got = receiver.stdout().removesuffix(AFTER)
        delivered = status == 0 or (status == 75 and self.spool)
        check(got == INPUT if delivered else in_order(got), f"received with status {status}: {got!r}")
        return Result(status, sender.stderr())


class SendPause(Send):
    """The same, with nothing to send for a while: the rest of the input comes once all before it is delivered."""

    def feed(self, site, master, receiver, words, traced):
        sender = site.start(master, *words, traced=traced, stdin=HALF, pause=True)
        wait_until("half of the input", lambda: receiver.stdout() == HALF or sender.ended() or receiver.ended())
        sender.resume(INPUT.removeprefix(HALF))
        return sender


class Secure(Send):
    """The same over TLS, with a name that has to be looked up."""

    secure = True

    def prepare(self, site, keys):
        make_certificates(site.dir)
        super().prepare(site, keys)

    def settings(self, site, mode):
        settings = super().settings(site, mode)
        del settings["host"], settings["port"]
        return settings | {"url": f"mqtts://localhost:{site.secure_port}", "ca_file": site.dir / "ca.pem"}


def make_certificates(path):
    """An authority, and a broker's certificate for localhost."""
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    authority = [*new, "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"]
    request = [*new, "-subj", "/CN=localhost", "-keyout", "broker.key", "-out", "broker.csr"]
    (path / "names").write_text("subjectAltName=DNS:localhost\n")
    sign = ["openssl", "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", "broker.pem"]
    for words in (authority, request, sign):
        subprocess.run(words, cwd=path, check=True, capture_output=True)


class Receive(Scenario):
    """sts-recv into a file, and again if it ends early, until the sender has its confirm of everything."""

    def __init__(self, name, *args, text=None):
        super().__init__(name)
        self.args = args
        self.text = text or (lambda line: re.escape(line))

    def run(self, site, traced):
        master, slave = self.begin(site)
        out = site.dir / "received"
        wanted = ["-v", *self.args, "-n", str(len(LINES)), "--timeout", "40", LINK]
        receiver = site.start(slave, "sts-recv", *wanted, traced=traced, stdout=out)
        receiver.wait_for("listening on")
        sender = site.start(master, "sts-send", "--each", "--confirm", "--timeout", "80", LINK, stdin=INPUT)
        status = receiver.wait()
        early = out.read_bytes()
        check(status != 0 or early.count(b"\n") == len(LINES), f"{early!r} with status 0")
        # With -n, the rest is for the next run; without a rest, there still is the sender's end.
        rest = listen(site, slave, *self.args, stdout=out)
        sent = sender.wait()
        check(sent == 0, f"the sender fails with {sent}: {sender.stderr()}")
        check(rest.terminate() == 0, f"the next receiver fails: {rest.stderr()}")
        got = out.read_bytes()
        expected = [self.text(line) for line in LINES]
        exactly = re.compile(b"".join(expected))
        # A kill between a write and its record repeats what that one write contained, and so does a record that fails, which
        # is said: sts-recv(1).
        repeats = re.compile(b"".join(b"(?:%s)+" % line for line in expected))
        killed = status in (KILLED, ABORTED) or "the next run writes " in receiver.stderr()
        complete = exactly.fullmatch(got) or (killed and (repeats.fullmatch(got) or self.repeated(early, got, expected)))
        check(complete, f"received with status {status}: {got!r}")
        return Result(status, receiver.stderr())

    def repeated(self, early, got, expected):
        """Whether the next run began with a copy of the last lines of the one that was killed."""
        rest = got.removeprefix(early)
        return any(
            re.fullmatch(b"".join(expected[:done]), early) and re.fullmatch(b"".join(expected[back:]), rest)
            for done in range(len(expected) + 1)
            for back in range(done + 1)
        )


class Gateway(Receive):
    """The same on a link with many peers, with their names."""

    topics = GATEWAY_TOPICS

    def __init__(self, name):
        super().__init__(name, "--prefix", text=lambda line: b"station: " + re.escape(line))


class Pairing(Scenario):
    """A pairing of which one end is traced."""

    def __init__(self, name, end, paired=False, code=None, trusting=True):
        super().__init__(name)
        self.end, self.paired, self.code, self.trusting = end, paired, code, trusting

    def enrol(self, master, slave):
        if self.trusting:
            super().enrol(master, slave)

    def run(self, site, traced):
        master, slave = self.begin(site)
        more = {"env": {"STS_CODE": self.code}} if self.code else {}
        code = ["--code"] if self.code else []
        limit = {"master": 60, "slave": 60, self.end: 15}
        waiting = site.start(slave, "sts-pair", "-v", *code, "--timeout", str(limit["slave"]), LINK,
                             traced=traced if self.end == "slave" else None, **more)
        waiting.wait_for("listening on")
        starting = site.start(master, "sts-pair", *code, "--timeout", str(min(limit.values())), LINK,
                              traced=traced if self.end == "master" else None, **more)
        this, other = (starting, waiting) if self.end == "master" else (waiting, starting)
        status = this.wait()
        if self.end == "master" and status:
            other.kill()
        else:
            other.wait()
        if status == 0 and other.child.returncode == 0:
            carries(site, master, slave)
        if self.code:
            # A code is used up, and one end may already trust the other: people begin again.
            again = site.start(slave, "sts-pair", "-v", "--code", "--timeout", "60", LINK, **more)
            again.wait_for("listening on")
            site.must(master, "sts-pair", "--code", "--timeout", "60", LINK, **more)
            check(again.wait() == 0, f"the next enrolment fails: {again.stderr()}")
        else:
            agree(site, master, slave)
        carries(site, master, slave)
        return Result(status, this.stderr())


class Serve(Scenario):
    """A gateway that answers two pairings, and is told to stop."""

    def run(self, site, traced):
        master, slave = self.begin(site)
        serving = site.start(slave, "sts-pair", "-v", "--serve", LINK, traced=traced)
        serving.wait_for("listening on")
        for _ in range(2):
            if not serving.ended():
                site.start(master, "sts-pair", "--timeout", "8", LINK).wait()
        alive = not serving.ended()
        status = terminate_traced(serving)
        agree(site, master, slave)
        carries(site, master, slave)
        check(not alive or status in (0, 1, KILLED), f"status {status} after a signal")
        return Result(status, serving.stderr())


def terminate_traced(process):
    """SIGTERM for the tool and not for strace, which would leave it."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.child.pid)], capture_output=True, text=True).stdout
    subprocess.run(["kill", "-TERM", *(children.split() or [str(process.child.pid)])], check=False, capture_output=True)
    return process.wait()


class Old(Scenario):
    """Two devices with sts_version = 1, of which each is the old program for the other."""

    def enrol(self, master, slave):
        pass

    def settings(self, site, mode):
        return super().settings(site, mode) | {"sts_version": 1}

    def carries(self, site, master, slave):
        """A line in each direction; the first one after a failure may be garbled."""
        for sending, receiving in ((master, slave), (slave, master)):
            receiver = listen(site, receiving)
            for line in (b"may be garbled\n", AFTER):
                sender = site.start(sending, "sts-send", "--timeout", "60", LINK, stdin=line)
                check(sender.wait() == 0, f"nothing can be sent after it: {sender.stderr()}")
            wait_until("the last line", lambda: receiver.stdout().endswith(AFTER) or receiver.ended())
            check(receiver.terminate() == 0, f"nothing can be received after it: {receiver.stderr()}")


class OldPairing(Old):
    """A pairing of which one end is traced, in place of an older session."""

    def __init__(self, name, end):
        super().__init__(name)
        self.end = end

    def run(self, site, traced):
        master, slave = self.begin(site)
        of = {self.end: traced}
        waiting = site.start(slave, "sts-pair", "-v", "--timeout", "8", LINK, traced=of.get("slave"))
        waiting.wait_for("listening on")
        starting = site.start(master, "sts-pair", "--timeout", "8", LINK, traced=of.get("master"))
        ended = {"master": starting.wait(), "slave": waiting.wait()}
        if list(ended.values()) == [0, 0]:
            self.carries(site, master, slave)
        agree(site, master, slave)
        self.carries(site, master, slave)
        return Result(ended[self.end], (starting if self.end == "master" else waiting).stderr())


class OldSend(Old):
    """sts-send --spool while another device receives; nothing is acknowledged, so a broken connection may lose a line."""

    spool = ["--spool", "spool"]

    def run(self, site, traced):
        master, slave = self.begin(site)
        receiver = listen(site, slave)
        sender = site.start(master, "sts-send", *self.spool, "--timeout", "20", LINK, traced=traced, stdin=INPUT)
        status = sender.wait()
        later = site.start(master, "sts-send", *self.spool, "--timeout", "60", LINK, stdin=b"may be garbled\n" + AFTER)
        check(later.wait() == 0, f"nothing can be sent after it: {later.stderr()}")
        wait_until("the last line", lambda: receiver.stdout().endswith(AFTER) or receiver.ended())
        check(receiver.terminate() == 0, f"the receiver fails: {receiver.stderr()}")
        got = receiver.stdout().removesuffix(AFTER).removesuffix(b"may be garbled\n")
        check(in_order(got), f"received with status {status}: {got!r}")
        check(status or "connection" in sender.stderr() or got == INPUT, f"lost without a word: {got!r}")
        self.carries(site, master, slave)
        return Result(status, sender.stderr())


class OldReceive(Old):
    """sts-recv while another device sends: what it does not write is lost, and the next run reads what comes then."""

    def run(self, site, traced):
        master, slave = self.begin(site)
        receiver = site.start(slave, "sts-recv", "-v", "-n", str(len(LINES)), "--timeout", "8", LINK, traced=traced)
        receiver.wait_for("listening on")
        site.must(master, "sts-send", "--timeout", "60", LINK, stdin=INPUT)
        status = receiver.wait()
        got = receiver.stdout()
        check(in_order(got), f"received with status {status}: {got!r}")
        check(status != 0 or got == INPUT, f"{got!r} with status 0")
        self.carries(site, master, slave)
        return Result(status, receiver.stderr())


class OldEnd(Old):
    """sts-pair --end: the keys are gone, whatever fails, or the error says that they are not."""

    def run(self, site, traced):
        master, slave = self.begin(site)
        process = site.start(master, "sts-pair", "--end", "--timeout", "8", LINK, traced=traced)
        status = process.wait()
        again = site.start(master, "sts-pair", "--end", "--timeout", "8", LINK).wait()
        check(again == 75 if status == 0 else again in (0, 75), f"the next end: {again}: {process.stderr()}")
        agree(site, master, slave)
        self.carries(site, master, slave)
        return Result(status, process.stderr())


class Once(Scenario):
    """A command that prints something and ends; the next one prints the same."""

    def __init__(self, name, *args, stdin=None, bare=False, again=0):
        super().__init__(name)
        # With a bare device, there is nothing yet, neither a key nor a session.
        self.args, self.stdin, self.bare, self.again = args, stdin, bare, again

    def run(self, site, traced):
        master, slave = self.begin(site)
        stdin = site.must(slave, "sts-pair", "--key").stdout() if self.stdin == "key" else None
        device = site.device("bare").make(None) if self.bare else master
        process = site.start(device, "sts-pair", *self.args, traced=traced, stdin=stdin, name="traced")
        status = process.wait()
        again = site.start(device, "sts-pair", *self.args, stdin=stdin, name="again")
        check(again.wait() in (0, self.again), f"the next run fails: {again.stderr()}")
        if status == 0:
            got, expected = ages(process.stdout()), ages(again.stdout())
            check(got == expected, f"it printed {got!r}, and then {expected!r}: {process.stderr()}")
        agree(site, master, slave)
        carries(site, master, slave)
        return Result(status, process.stderr(), process.stdout())


class Forget(Scenario):
    """A list of peers is forgotten: all of them or none, and then their sessions."""

    def prepare(self, site, keys):
        super().prepare(site, keys)
        # The link stays with the station, with which it has paired.
        _, slave = self.devices(site)
        for name in ("other", "third"):
            slave.trust(name, site.device(name).make(None))

    def run(self, site, traced):
        master, slave = self.begin(site)
        listed = b"station\n# from another plant\nother\n"
        process = site.start(slave, "sts-pair", "--forget", "-", traced=traced, stdin=listed)
        status = process.wait()
        left = [line.split()[0] for line in (slave.config / "known_peers").read_text().splitlines()]
        check(left in (["station", "other", "third"], ["third"]), f"{left} are left with status {status}")
        if status == 0:
            check(left == ["third"], "nothing was forgotten with status 0")
            shown = site.must(slave, "sts-pair", "--status").stdout()
            check(b"station" not in shown and b"SHA256" not in shown, f"sessions are left with status 0: {shown!r}")
        for name in left if left == ["third"] else []:
            site.must(slave, "sts-pair", "--forget", name)
        slave.trust("station", master)
        agree(site, master, slave)
        carries(site, master, slave)
        return Result(status, process.stderr())


def ages(text):
    """What --status prints, without what changes with time."""
    return re.sub(rb"(?:\d+(?:\.\d+)?(?: ?(?:ms|min|[smhd]))?)+\b", b"#", text)


def json_line(line):
    return rb'\{[^\n]*"text":"%s"[^\n]*\}\n' % re.escape(line.rstrip(b"\n"))


CODE = "QP4-SHQ-V80"
SCENARIOS = [
    Send("send"),
    Send("send-confirm", "--confirm"),
    SendPause("send-pause", "--confirm"),
    Send("send-spool", spool=True),
    Send("send-spool-confirm", "--confirm", spool=True),
    Send("send-spool-stamp", "--stamp", spool=True),
    Secure("send-tls"),
    Receive("recv"),
    Receive("recv-json", "--json", text=json_line),
    Gateway("recv-gateway"),
    Pairing("pair-master", "master"),
    Pairing("pair-slave", "slave", paired=True),
    Pairing("code-master", "master", code=CODE, trusting=False),
    Pairing("code-slave", "slave", code=CODE, trusting=False),
    Serve("serve"),
    OldPairing("old-pair-master", "master"),
    OldPairing("old-pair-slave", "slave"),
    OldSend("old-send"),
    OldReceive("old-recv"),
    OldEnd("old-end"),
    Once("status", "--status"),
    Once("check", "--check", LINK),
    Once("metrics", "--metrics"),
    Once("key", "--key", bare=True),
    Once("trust", "--trust", "other", stdin="key", bare=True),
    Forget("forget"),
    Once("end", "--end", LINK, again=75),
]
