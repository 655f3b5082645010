#!/usr/bin/env python3
"""A second implementation of sts-protocol(7), written from the manual page alone.

It is a readable reference and a test peer, not a tool for use: it keeps secrets
in Python objects, runs in no constant time, and can be told to misbehave.

One module per section of the page:

    primitives, spake2   Primitives
    suites               Suites
    frames               Header, Messages, and the layouts of HANDSHAKE
    handshake            HANDSHAKE, Key schedule, Rules, Enrolment by code
    codes                Enrolment by code (the symbols of a code)
    sessions             SESSIONS, Lost ends (what a sender tells)
    still_there          Still there
    keytree              Stream keys
    sealed               SEALED MESSAGES, Kinds, Preamble, Later versions
    sender               Streams, Sequences, Confirms, Wills
    receiver             The receiver, Lost ends, The end of a session
    script               odd and hostile frames
    noise                an attacker on the broker
    link                 MQTT

Exit statuses are those of the tools. Events are JSON lines on standard error.
"""
import argparse
import base64
import json
import os
import signal
import sys
import time

import codes
import handshake
import sessions
import still_there
from primitives import Identity, Invalid, fingerprint, load_public


def say(event, /, **fields):
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)


def read_public_line(text):
    """A public key line: the field that is a SubjectPublicKeyInfo in base64."""
    for field in text.split():
        try:
            spki = base64.b64decode(field + "=" * (-len(field) % 4), validate=True)
            load_public(spki)
            return spki
        except (ValueError, Invalid):
            continue
    raise SystemExit("no public key in this line")


def public_line(spki):
    return "sts-rsa " + base64.b64encode(spki).decode()


def make_link(args, role_of, will=None, suffix=""):
    from link import Link
    host, _, port = args.broker.rpartition(":")
    client = args.clientid and args.clientid + suffix
    return Link(host or "127.0.0.1", int(port), args.pub, args.sub, client or "", will, args.qos,
                clean=not client or role_of != "recv")


def topics(args):
    """The topics of the handshake: (M to S, S to M)."""
    if args.channel:
        return args.channel + "/m2s", args.channel + "/s2m"
    return (args.pub, args.sub) if args.role == "master" else (args.sub, args.pub)


# Commands

def cmd_keygen(args):
    key = Identity.generate()
    fd = os.open(args.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as f:
        f.write(key.pem())
    cmd_pub(args)


def cmd_pub(args):
    spki = Identity.load(args.key).spki
    print(public_line(spki))
    print(fingerprint(spki), file=sys.stderr)


def cmd_code(args):
    print(codes.shown(codes.generate()))


def cmd_pair(args):
    store, identity = sessions.Store(args.state), Identity.load(args.key)
    pins = sessions.pins(store.load())
    for p in args.peer or []:
        name, _, path = p.partition("=")
        with open(path) as f:
            pins[name] = read_public_line(f.read())

    def on_pin(name, spki):
        with store.edit() as state:
            state["pins"][name] = base64.b64encode(spki).decode()
        say("pinned", name=name, fingerprint=fingerprint(spki))

    trust = handshake.Trust(pins, on_pin)
    m2s, s2m = topics(args)
    code = codes.read(args.code).encode() if args.code else None
    make = handshake.Master if args.role == "master" else handshake.Slave
    machine = make(identity, args.name, trust, m2s.encode(), s2m.encode(), args.suite, code,
                   args.siblings, lambda text: say("note", text=text), args.hashes,
                   bytes.fromhex(args.features))

    def on_session(schedule, peer, spki, standing, proven):
        session = sessions.new_session(schedule, args.role, args.suite, peer, spki, identity.spki,
                                       m2s, s2m, time.time())
        with store.edit() as state:
            sessions.store(state, session, standing, proven, time.time())
        say("session", id=schedule.id.hex(), peer=peer, standing=standing)

    machine.on_session = on_session
    link = make_link(args, "pair", suffix="-pair")
    if args.if_older is not None:
        young = sessions.current(store.load())
        if young and sessions.age(young) < args.if_older:
            word = ask(args, store, link, young, bytes.fromhex(young["id"]), machine)
            if word == "here":
                say("kept", id=young["id"])
                link.close()
                return 0
    if isinstance(machine, handshake.Master):
        machine.poll(0)
        machine.waits.due = 0
    end = time.monotonic() + args.timeout
    while machine.status is None and time.monotonic() < end:
        out = machine.poll(time.monotonic())
        m = link.get(0.02)
        while m:
            out += machine.receive(m[1], time.monotonic())
            m = link.get(0.001)
        for frame, qos in out:
            link.send(frame, qos)
    link.close()
    if machine.status == 0:
        say("paired")
    return 75 if machine.status is None else machine.status


def ask(args, store, link, under, asked, machine=None, wait=3.0):
    """Section "Still there": ask at once and after 1 and 2 seconds; 'here', 'lost', 'deleted' or None."""
    fresh = os.urandom(16)
    question = still_there.question(under, fresh, asked)
    start, sent, restarted = time.monotonic(), 0, False
    while time.monotonic() < start + wait:
        if sent < 3 and time.monotonic() >= start + sent:
            link.send(question, 0)
            sent += 1
        m = link.get(0.02)
        if not m:
            continue
        word = still_there.read_answer(under, m[1], fresh, asked)
        if word:
            with store.edit() as state:
                s = sessions.find(state, under["id"])
                if s:
                    s["proven"] = True
            say("answer", word=word)
            return word
        with store.edit() as state:
            answer = still_there.answer(state, m[1], time.time())
        if answer:
            link.send(question, 0)
            link.send(answer, 0)
            if not restarted:
                restarted, start = True, time.monotonic()
        elif machine and args.role == "slave":
            for frame, qos in machine.receive(m[1], time.monotonic()):
                link.send(frame, qos)
            if machine.attempts:
                return None
    return None


def cmd_ask(args):
    store = sessions.Store(args.state)
    state = store.load()
    under = sessions.current(state) or (state["sessions"] or [None])[0]
    if not under:
        return 75
    asked = bytes.fromhex(args.about or under["id"])
    link = make_link(args, "ask", suffix="-ask")
    word = ask(args, store, link, under, asked)
    link.close()
    print(word or "silence")
    return {"here": 0, "lost": 65, "deleted": 66, None: 75}[word]


def lines(stream, binary):
    """Standard input, cut after newlines, or as it is read."""
    if not binary:
        yield from iter(stream.readline, b"")
    else:
        yield from iter(lambda: stream.read1(65000), b"")


def cmd_send(args):
    from sender import Sender
    store = sessions.Store(args.state)
    if not sessions.current(store.load()):
        say("no session")
        return 75
    s = Sender(store, lambda will: make_link(args, "send", will, "-send"), say,
               args.confirm, args.retain, args.pad,
               args.will.encode() if args.will is not None else None, args.timeout,
               stamp=args.stamp)
    count, last = 0, b""
    for line in lines(sys.stdin.buffer, args.binary):
        if s.status is not None:
            break
        if not args.binary and not line.endswith(b"\n"):
            last = line
            break
        s.data(line)
        count += 1
        if count == args.rotate_after:
            say("waiting for a new session")
            while sessions.current(store.load())["id"] == s.session["id"]:
                s.check(0.1)
        if args.delay:
            s.check(args.delay)
        while args.confirm and sum(map(len, s.frames.values())) > 2 << 20:
            s.check(0.02)
    if args.die:
        say("dying", stream=s.stream.number)
        time.sleep(0.5)
        os._exit(9)
    if s.status is None:
        s.rotate()
        s.close(content=last)
    return s.finish()


def cmd_kill(args):
    from sender import Sender
    store = sessions.Store(args.state)
    s = Sender(store, lambda will: make_link(args, "send", will, "-send"), say)
    s.kill()
    status = s.finish()
    with store.edit() as state:
        key = s.session["peer_key"]
        for x in list(state["sessions"]):
            if x["peer_key"] == key:
                sessions.delete(state, x)
    return status


def cmd_recv(args):
    from receiver import Receiver
    store, out = sessions.Store(args.state), sys.stdout.buffer
    count = [0]

    def write(data):
        out.write(data)
        out.flush()
        count[0] += data.count(b"\n")

    link = make_link(args, "recv", suffix="")
    r = Receiver(store, write, link.send, say, args.hold, pad=args.pad)
    say("ready")
    start = heard = time.monotonic()
    ended_at, stopped = None, []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while True:
        m = link.get(0.02)
        now = time.monotonic()
        if m:
            heard = now
            r.frame(m[1], m[2])
        r.poll()
        if r.finished:
            return 65 if r.lost else 0
        if args.once and r.ended and not m:
            ended_at = ended_at or now
            if not r.over_keys or r.settled or now > ended_at + 30:
                break
        if args.lines and count[0] >= args.lines:
            break
        if args.timeout and now - heard > args.timeout:
            break
        if stopped and not m:
            break
        if args.run_for and now - start > args.run_for:
            break
    r.poll(late=True)
    r.poll(late=True)
    link.close()
    return 65 if r.lost else 0


def cmd_last(args):
    from receiver import newest_kept
    link, got = make_link(args, "last", suffix="-last"), []
    end = time.monotonic() + args.timeout
    while time.monotonic() < end and not got:
        m = link.get(0.1)
        if m and m[2]:
            got.append(m[1])
    link.close()
    data = newest_kept(sessions.Store(args.state).load(), got)
    if data is None:
        return 75
    sys.stdout.buffer.write(data)
    return 0


def cmd_answer(args):
    """Answer questions, and nothing else."""
    store, link = sessions.Store(args.state), make_link(args, "answer", suffix="-answer")
    say("ready")
    end = time.monotonic() + args.timeout
    while time.monotonic() < end:
        m = link.get(0.1)
        if m:
            with store.edit() as state:
                answer = still_there.answer(state, m[1], time.time(), args.broken or ())
            if answer:
                link.send(answer, 0)
                say("asked")
    link.close()
    return 0


def cmd_script(args):
    import script
    store = sessions.Store(args.state)
    link = make_link(args, "script", suffix="-script")
    status = script.run(sys.stdin, store, link, say)
    link.close()
    return status


def cmd_clear(args):
    """Delete what the broker keeps on both topics."""
    link = make_link(args, "clear", suffix="-clear")
    for topic in (args.pub, args.sub):
        link.client.publish(topic, b"", 1, retain=True)
    link.close()
    return 0


def cmd_noise(args):
    """Attack everything on both topics."""
    import noise
    pub, sub = args.pub, args.sub
    args.sub, args.qos = "#", 0
    link = make_link(args, "noise", suffix="-noise")
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    say("ready")
    noise.run(link, [pub, sub], args.timeout, say, stopped)
    link.close()
    return 0


def cmd_status(args):
    """The state without its secrets."""
    state = sessions.Store(args.state).load()
    for s in state["sessions"]:
        print(json.dumps({k: s[k] for k in (
            "id", "standing", "role", "suite", "peer", "proven", "received", "next_stream",
            "sent")} | {"streams": {n: st["next"] for n, st in s["streams"].items()},
                        "ended": [[e["stream"], e["count"]] for e in s["ended"]],
                        "recv_nodes": sorted(s["recv_nodes"]),
                        "send_nodes": sorted(s["send_nodes"])}))
    for g in state["gaps"]:
        print(json.dumps({"gap": g}))
    return 0


def cmd_trust(args):
    """Pin a public key line from standard input under a name."""
    spki = read_public_line(sys.stdin.read())
    with sessions.Store(args.state).edit() as state:
        state["pins"][args.name] = base64.b64encode(spki).decode()
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--state", default="state.json", help="this peer's state file")
    add("--broker", default="127.0.0.1:1883")
    add("--pub", help="topic to publish on")
    add("--sub", help="topic to subscribe to")
    add("--channel", help="name of the link in the handshake, instead of the topics")
    add("--role", choices=("master", "slave"))
    add("--key", default="id.pem", help="the identity key, PKCS#8 in PEM")
    add("--clientid")
    add("--qos", type=int, default=1)
    add("--timeout", type=float, help="30 seconds; of recv: without a frame, by default never")
    add("--pad", type=int, default=0)
    sub = p.add_subparsers(dest="command", required=True)

    def command(name, function):
        c = sub.add_parser(name, parents=[common], help=(function.__doc__ or name).strip())
        c.set_defaults(function=function)
        return c.add_argument

    command("keygen", cmd_keygen)
    command("pub", cmd_pub)
    command("code", cmd_code)
    command("trust", cmd_trust)("--name", required=True)
    add = command("pair", cmd_pair)
    add("--name", default="peer", help="the name of this device")
    add("--peer", action="append", help="NAME=FILE: a pinned public key line")
    add("--suite", default="gcm", choices=("gcm", "cbc", "ecb"))
    add("--code", help="pair by one-time code")
    add("--if-older", type=float)
    add("--siblings", type=int, default=0, help="further leaves under each signature")
    add("--hashes", type=int, help="as many hashes under each signature")
    add("--features", default="00000000")
    add = command("send", cmd_send)
    add("--confirm", action="store_true")
    add("--retain", action="store_true", help="ask the broker to keep data; tell so")
    add("--stamp", action="store_true", help="say when each line was read")
    add("--binary", action="store_true")
    add("--will", help="bytes of a will")
    add("--delay", type=float, default=0, help="seconds between frames")
    add("--rotate-after", type=int, default=0, help="after N frames, wait for a new session")
    add("--die", action="store_true", help="exit without closing the stream or the connection")
    command("kill", cmd_kill)
    add = command("recv", cmd_recv)
    add("--once", action="store_true")
    add("--lines", type=int, default=0)
    add("--hold", type=float, default=10)
    add("--run-for", type=float, default=0)
    command("last", cmd_last)
    command("ask", cmd_ask)("--about", help="session id, in hexadecimal")
    command("answer", cmd_answer)("--broken", action="append")
    command("script", cmd_script)
    command("clear", cmd_clear)
    command("noise", cmd_noise)
    command("status", cmd_status)
    args = p.parse_args()
    if args.timeout is None:
        args.timeout = 0 if args.command == "recv" else 30
    sys.exit(args.function(args) or 0)


if __name__ == "__main__":
    main()
