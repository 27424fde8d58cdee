"""A Linux guest under Hako or QEMU, worked by its serial line and by QMP: what accident.py and snapshots.py share."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LONGEST = 900


def fetched(name):
    """A guest's file, from packaging/fetch-guests.sh."""
    folder = pathlib.Path(os.environ.get("HAKO_GUESTS", pathlib.Path.home() / ".cache/hako/guests"))
    if not (folder / name).exists():
        subprocess.run([ROOT / "packaging/fetch-guests.sh", folder, name], check=True)
    return folder / name


class Refused(Exception):
    """A command that the machine refuses, in its words."""


class Stuck(Exception):
    """The guest does not come to what it should."""


class Guest:
    """Debian's kernel with busybox and modules for disks. `peer` is "hako" or "qemu"; `disk` is (path, format)."""

    def __init__(self, peer, hako, folder, memory, disk, extra=()):
        self.peer = peer
        self.begun = time.monotonic()
        self.text = b""
        self.heard = threading.Condition()
        # (time, bytes so far) of each read: when the guest was silent.
        self.times = []
        self.closed = False
        self.events = []
        socket_path = folder / "qmp"
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()
        command = [hako, "run", "-name", "bench", "-accel", "jit"] if peer == "hako" else ["qemu-system-i386", "-accel", "tcg"]
        command += ["-display", "none", "-nic", "none", "-monitor", "none", "-serial", "stdio", "-m", memory,
                    "-qmp", f"unix:{socket_path},server=on,wait=off", "-kernel", fetched("vmlinuz-686"), "-initrd",
                    fetched("initrd-storage.gz"), "-append", "console=ttyS0 cryptomgr.notests", "-drive",
                    f"file={disk[0]},format={disk[1]},if=ide,index=0", *extra]
        self.errors = open(folder / f"{peer}.errors", "w+b")
        self.child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.errors, env=dict(os.environ, HAKO_DATA=str(folder / "data"), HAKO_LOG="warn,vm_core::runner=debug"))
        threading.Thread(target=self.listen, daemon=True).start()
        give_up = time.monotonic() + 60
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(socket_path))
                break
            except OSError:
                self.socket.close()
                if self.child.poll() is not None or time.monotonic() > give_up:
                    self.end()
                    raise Refused(self.said()) from None
                time.sleep(0.002)
        # A file to read and write in one would forget what it has read ahead.
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.qmp("qmp_capabilities")

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    def listen(self):
        while part := os.read(self.child.stdout.fileno(), 65536):
            with self.heard:
                self.text += part
                self.times.append((time.monotonic(), part))
                self.heard.notify_all()
        with self.heard:
            self.closed = True
            self.heard.notify_all()

    def wait_for(self, word, longest=LONGEST):
        """The text up to the end of `word`."""
        word = word.encode()
        with self.heard:
            if not self.heard.wait_for(lambda: word in self.text or self.closed, longest) or word not in self.text:
                raise Stuck(f"{self.peer} did not come to {word!r}: {self.text[-800:]!r} {self.said()}")
            before, self.text = self.text.split(word, 1)
            return before.decode(errors="replace").replace("\r", "")

    def wake(self):
        """Waits until a loaded guest listens: what is typed before the state is in is lost."""
        for _ in range(60):
            self.send("\n")
            with contextlib.suppress(Stuck):
                self.wait_for("guest# ", 2)
                break
        # The prompts of further lines.
        time.sleep(0.5)
        with self.heard:
            self.text = b""

    def send(self, text):
        self.child.stdin.write(text.encode())
        self.child.stdin.flush()

    def run(self, command, longest=LONGEST):
        """Runs a command in the guest's shell; its exit code and what it prints."""
        # What is typed is shown, and must look neither like the beginning nor like the end.
        self.send(f"echo be''gin; {command}; echo do''ne $?\n")
        self.wait_for("\nbegin\r\n", longest)
        text = self.wait_for("done ", longest)
        return int(self.wait_for("guest# ", longest).split()[0]), text

    def qmp(self, name, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.readline() or '{"error": {"desc": "the machine has ended"}}')
            if "event" in answer:
                self.events.append(answer)
            if "error" in answer:
                raise Refused(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def monitor(self, line):
        """A line for the monitor, which prints nothing where it does what it is told."""
        if said := self.qmp("human-monitor-command", **{"command-line": line}).strip():
            raise Refused(said)

    def quit(self):
        """Pulls the plug."""
        with contextlib.suppress(Refused, OSError):
            self.qmp("quit")
        self.child.wait(60)
        self.end()

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        with contextlib.suppress(AttributeError, OSError):
            self.socket.close()
