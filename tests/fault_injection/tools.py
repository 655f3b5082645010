"""What a scenario is made of: a broker, devices with their directories, and tools that run, traced or not."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

# How long anything may take before it counts as hanging: a busy machine is slow, and the tools' own limits are shorter.
PATIENCE = 90
LINK = "gateway"


class Hang(Exception):
    """Something did not happen within PATIENCE."""


def wait_until(what, condition):
    """Returns once `condition` holds; Hang names `what` it waited for otherwise."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Hang(f"waited {PATIENCE} s for {what}")
        time.sleep(0.005)


class Process:
    """A running tool. Its outputs are files, so that they outlive it; it is ended with all that it started.

    With `pause`, its standard input stays open after `stdin`, until `resume`.
    """

    def __init__(self, site, name, words, env, stdin=None, stdout=None, pause=False):
        self.name = name
        self.out = stdout or site.dir / f"{name}.out"
        self.err = site.dir / f"{name}.err"
        if stdin is not None:
            (site.dir / f"{name}.in").write_bytes(stdin)
        # A pipe, as in a shell: its end comes with the end of cat.
        self.feeder = None
        source = subprocess.DEVNULL
        if stdin is not None:
            rest = subprocess.PIPE if pause else subprocess.DEVNULL
            self.feeder = subprocess.Popen(["cat", site.dir / f"{name}.in", "-"], stdin=rest, stdout=subprocess.PIPE)
            source = self.feeder.stdout
        with open(self.out, "ab") as out, open(self.err, "ab") as err:
            self.child = subprocess.Popen(
                words, stdin=source, stdout=out, stderr=err, env=env, cwd=site.dir, start_new_session=True
            )
        if self.feeder:
            self.feeder.stdout.close()
        site.processes.append(self)

    def stderr(self):
        return self.err.read_text(errors="replace")

    def stdout(self):
        return self.out.read_bytes()

    def resume(self, rest):
        """Gives the rest of standard input after a pause, and ends it."""
        try:
            with self.feeder.stdin as source:
                source.write(rest)
        except BrokenPipeError:
            pass  # The tool has ended, and cat with it.

    def ended(self):
        return self.child.poll() is not None

    def wait_for(self, needle):
        """Returns once `needle` is on stderr, or the process has ended."""
        wait_until(f"{self.name} to say {needle!r}", lambda: self.ended() or needle in self.stderr())

    def wait(self):
        """The exit status, 128 + n for signal n."""
        wait_until(f"{self.name} to end", self.ended)
        return self.child.returncode if self.child.returncode >= 0 else 128 - self.child.returncode

    def terminate(self):
        """Asks the tool to end, and waits for it."""
        if not self.ended():
            os.killpg(self.child.pid, signal.SIGTERM)
        return self.wait()

    def kill(self):
        if not self.ended():
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        if self.feeder:
            self.feeder.kill()
            self.feeder.wait()


class Site:
    """The directory of one run: a broker's files, and one directory for each device. Everything ends with it."""

    def __init__(self, tools, path, template=None):
        self.tools = tools
        self.dir = Path(path)
        self.processes = []
        self.broker = None
        if template:
            shutil.copytree(template, self.dir, symlinks=True)
        else:
            self.dir.mkdir(parents=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
        if self.broker:
            self.broker.kill()
            self.broker.wait()

    def start_broker(self, secure=False):
        """A mosquitto on a free port of loopback; `secure` adds one with TLS."""
        while True:
            self.port, self.secure_port = free_port(), free_port()
            lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root", "log_dest stderr"]
            if secure:
                lines += [f"listener {self.secure_port} 127.0.0.1", f"certfile {self.dir}/broker.pem",
                          f"keyfile {self.dir}/broker.key"]
            (self.dir / "mosquitto.conf").write_text("\n".join(lines) + "\n")
            with open(self.dir / "mosquitto.log", "wb") as log:
                self.broker = subprocess.Popen(["mosquitto", "-c", self.dir / "mosquitto.conf"], stderr=log)
            log = self.dir / "mosquitto.log"
            wait_until("mosquitto", lambda: " running" in log.read_text() or self.broker.poll() is not None)
            if self.broker.poll() is None:
                return

    def device(self, name):
        return Device(self, name)

    def start(self, device, tool, *args, traced=None, stdin=None, stdout=None, pause=False, name=None, env=None):
        """Starts a tool of this device; `traced` are the words that run it under strace."""
        words = [*(traced or []), self.tools / tool, *args]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("STS_", "XDG_"))}
        clean |= {"STS_CONFIG_DIR": str(device.config), "STS_RUNTIME_DIR": str(device.runtime)} | (env or {})
        name = name or f"{device.name}-{tool}-{len(self.processes)}"
        return Process(self, name, [str(word) for word in words], clean, stdin, stdout, pause)

    def must(self, device, tool, *args, **more):
        """Runs a tool that has to succeed."""
        process = self.start(device, tool, *args, **more)
        status = process.wait()
        assert status == 0, f"{process.name}: {status}: {process.stderr()}"
        return process


class Device:
    """A device's directories, and how they are filled."""

    def __init__(self, site, name):
        self.site = site
        self.name = name
        self.config = site.dir / name / "config"
        self.runtime = site.dir / name / "run"

    def make(self, key):
        for path in (self.config, self.runtime):
            path.mkdir(parents=True, mode=0o700)
        if key:
            shutil.copy(key, self.config / "identity.pem")
            (self.config / "identity.pem").chmod(0o600)
        return self

    def configure(self, **settings):
        path = self.config / f"{LINK}.conf"
        path.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        path.chmod(0o600)

    def trust(self, name, other):
        key = self.site.must(other, "sts-pair", "--key").stdout()
        self.site.must(self, "sts-pair", "--trust", name, stdin=key)


def free_port():
    """A port below those of outgoing connections, on which nothing listens now."""
    while True:
        port = 20_000 + int.from_bytes(os.urandom(2)) % 12_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
