#!/usr/bin/env python3
"""Times whole systems under Hako's engines and its peers, in turn, in one run.

    tests/bench/boot.py HAKO [--task TASK]… [--rounds N] [--cpu] [--accel ENGINE]… [--peer qemu] [--peer bochs]

    kernel     Debian's 686 kernel, from its first line to the shell of tests/guests/init
    installer  Debian's installer, from the kernel's first line to “Select a language” (not Bochs: it has no -kernel)
    system     the same kernel with an initial RAM disk of 32 MB, whose only program is system.c: to its start, then each of its parts
    programs   the kernel task's CD with programs of the Debian disk on it: to its shell, then gzip and sqlite3
    memtest    memtest86+ on 256 MB, from its banner to the end of a whole pass without an error (not Bochs)
    idle       the kernel task's shell, left alone for 30 seconds of the host's clock: what that costs (with --cpu; not Bochs)
    disk       Debian's disk: from GRUB's menu to the login, then gzip, sqlite3, python3, perl and gcc

Everything is seen on the first serial line, by the host's clock or, with --cpu, by the processor time of the peer's process:
on a busy host only that can be compared. Prints medians in seconds, and each peer's time over Hako's: more than 1 means that
Hako is faster. Guests come from packaging/fetch-guests.sh (HAKO_GUESTS); peers from Debian.
"""
import argparse
import contextlib
import gzip
import os
import pathlib
import pty
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tty

import run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LONGEST = 1800
# How long a guest is left alone, in seconds.
IDLE = 30
# The instructions that Hako's own default, pentium-m, has.
QEMU_MODEL = "pentium3,+sse2,+clflush"
LIBRARIES = "cat /usr/lib/i386-linux-gnu/*.so* | head -c 30000000"
QUERY = ("create table t(a integer primary key, b text, c integer); with recursive n(x) as (select 1 union all select x + 1 "
         "from n where x < 60000) insert into t select x, hex(x * x), x % 997 from n; create index i on t(c); "
         "select sum(a), sum(length(b)) from t where c in (select c from t where b like '%3737%');")
WORK = {
    "gzip": f"{LIBRARIES} | gzip -6 | md5sum",
    "sqlite3": f'sqlite3 :memory: "{QUERY}"',
    "python3": "python3 -c 'print(len({n * n % 100003: str(n) for n in range(400000)}))'",
    "perl": "perl -e 'for (1 .. 300000) { $h{$_ * $_ % 9973} .= chr(65 + $_ % 26) } print length(join q(), map { $h{$_} } sort keys %h), qq(\\n)'",
    "gcc": "gcc -O2 -x c -S -o - /usr/include/stdlib.h /dev/null 2>/dev/null | md5sum; "
           "echo 'int main(void) { return 0; }' | gcc -O2 -x c -o /tmp/a - && echo made",
    # Long enough that most of the compiler runs again and again: tens of megabytes of translated code.
    "cc1": "seq 400 | sed 's,.*,int f&(int x) { int i; for (i = 0; i < &; i++) x = x * & + i / (x | 1); return x; },' | "
           "gcc -O2 -x c -S -o - - | md5sum",
}
# The same of them that a RAM disk has.
PROGRAMS = {
    "gzip": "cat /lib/*.so* | /usr/bin/gzip -6 | md5sum",
    "sqlite3": f"/usr/bin/{WORK['sqlite3']}",
}
# Their files on the Debian disk, and where the RAM disk has them.
FOLDER = "/usr/lib/i386-linux-gnu"
FILES = {f"/usr/bin/{name}": f"usr/bin/{name}" for name in ("gzip", "sqlite3")} | {
    f"{FOLDER}/{name}": f"lib/{name}"
    for name in ("ld-linux.so.2", "libc.so.6", "libm.so.6", "libz.so.1", "libtinfo.so.6", "libreadline.so.8", "libsqlite3.so.0")}


class Machine:
    """A machine, and its first serial line as a terminal of the host."""

    def __init__(self, engine, hako, folder, arguments, cpu):
        self.engine = engine
        self.cpu = cpu
        self.master, slave = pty.openpty()
        tty.setraw(slave, termios.TCSANOW)
        self.text = self.said = b""
        line = os.ttyname(slave)
        if engine == "bochs":
            command = bochs(folder, line, arguments)
        else:
            command = ["qemu-system-i386", "-accel", "tcg,thread=single", "-cpu", QEMU_MODEL] if engine == "qemu" else [hako, "run", "-accel", engine]
            command += ["-display", "none", "-nic", "none", "-monitor", "none", "-serial", "stdio", "-m", arguments["memory"]]
            if "kernel" in arguments:
                command += ["-kernel", arguments["kernel"], "-append", arguments["append"]]
            if "initrd" in arguments:
                command += ["-initrd", arguments["initrd"]]
            if "cd" in arguments:
                command += ["-cdrom", arguments["cd"], "-boot", "d"]
            if "disk" in arguments:
                command += ["-drive", f"file={arguments['disk']},format=raw,if=ide,index=0", "-snapshot"]
        environment = dict(os.environ, TERM="linux", BXSHARE="/usr/share/bochs", HAKO_DATA=str(folder / "data"))
        self.errors = open(folder / f"{engine}.errors", "wb")
        # Bochs has the serial line where its settings say, the others on standard input and output.
        ends = {"stdin": subprocess.DEVNULL, "stdout": self.errors} if engine == "bochs" else {"stdin": slave, "stdout": slave}
        self.child = subprocess.Popen([str(part) for part in command], **ends, stderr=self.errors, start_new_session=True,
                                      env=environment)
        self.slave = slave
        if engine == "bochs":
            threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        """Bochs draws on a terminal of its own, and stops where nobody reads there."""
        said = pathlib.Path(self.errors.name)
        while self.child.poll() is None:
            if place := re.search(rb'connected to screen "([^"]*)"', said.read_bytes()):
                with contextlib.suppress(OSError), open(place[1], "rb", buffering=0) as screen:
                    while screen.read(65536):
                        pass
                return
            time.sleep(0.05)

    def wait_for(self, word):
        """Reads on until `word` has come; the host's time of it."""
        give_up = time.monotonic() + LONGEST
        os.set_blocking(self.master, False)
        while word.encode() not in self.text:
            if time.monotonic() > give_up or self.child.poll() is not None:
                raise SystemExit(f"{self.engine} did not come to {word!r}: {self.text[-500:]!r}")
            try:
                self.text += os.read(self.master, 65536)
            except BlockingIOError:
                time.sleep(0.005)
        self.said, self.text = self.text.split(word.encode(), 1)
        return self.now()

    def now(self):
        """The host's time, or the process's."""
        if not self.cpu:
            return time.monotonic()
        return run.processor_time(self.child.pid)

    def send(self, text):
        os.write(self.master, text.encode())

    def end(self):
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)
        self.errors.close()


def bochs(folder, line, arguments):
    """Debian's Bochs, which boots disks and CDs only."""
    drives, boot = "", "disk"
    if "disk" in arguments:
        sectors = arguments["disk"].stat().st_size // 512
        # Its volatile disks leave the image as it is.
        drives += (f"ata0-master: type=disk, path={arguments['disk']}, mode=volatile, cylinders={sectors // 1008}, heads=16, spt=63,"
                   f" journal={folder}/journal\n")
    if "cd" in arguments:
        drives += f"ata1-master: type=cdrom, path={arguments['cd']}, status=inserted\n"
        boot = "cdrom"
    (folder / "bochsrc").write_text(
        f"megs: {arguments['memory']}\nromimage: file=/usr/share/bochs/BIOS-bochs-latest\n"
        f"vgaromimage: file=/usr/share/vgabios/vgabios.bin\n{drives}boot: {boot}\ncom1: enabled=1, mode=term, dev={line}\n"
        "ata0: enabled=1\nata1: enabled=1\nclock: sync=none\ncpu: model=p2_klamath\ndisplay_library: term\n"
        f"log: {folder}/bochs.log\npanic: action=fatal\nerror: action=report\n")
    # Debian's Bochs waits in its debugger; "c" lets it go.
    (folder / "commands").write_text("c\n")
    return ["bochs", "-q", "-f", folder / "bochsrc", "-rc", folder / "commands"]


def kernel(machine):
    begin = machine.wait_for("Linux version")
    return {"kernel": machine.wait_for("guest# ") - begin}


def installer(machine):
    begin = machine.wait_for("Linux version")
    return {"installer": machine.wait_for("Select a language") - begin}


def memtest(machine):
    begin = machine.wait_for("Memtest86+")
    return {"memtest": machine.wait_for("Pass:  1        Errors: 0") - begin}


def idle(machine):
    machine.wait_for("guest# ")
    # What a boot leaves to do later.
    time.sleep(10)
    begin = machine.now()
    time.sleep(IDLE)
    return {f"{IDLE} s idle": machine.now() - begin}


def system(machine):
    begin = machine.wait_for("Linux version")
    times = {"boot": machine.wait_for("ready") - begin}
    for name in ["syscalls", "pipes", "fork", "exec", "faults"]:
        begin = machine.wait_for(f"start {name}")
        times[name] = machine.wait_for(f"end {name}") - begin
    return times


def work(machine, shell, commands, answers):
    """Times commands in a shell of its own; all machines have to answer the same."""
    machine.send(f"exec env PS1='do''ne> ' PS2= {shell}\n")
    machine.wait_for("done> ")
    machine.send("stty -echo; dmesg -n 1\n")
    machine.wait_for("done> ")
    times = {}
    for name, command in commands.items():
        begin = machine.now()
        machine.send(command + "\n")
        times[name] = machine.wait_for("done> ") - begin
        # What was typed may be shown, in pieces; the answer is the last line.
        answer = machine.said.replace(b"\r", b"").split(b"\n")[-2:-1]
        if answers.setdefault(name, answer) != answer:
            raise SystemExit(f"{machine.engine}: {name} answers {answer}, others {answers[name]}")
    return times


def programs(machine, answers={}):
    begin = machine.wait_for("Linux version")
    times = {"to the shell": machine.wait_for("guest# ") - begin}
    return times | work(machine, "sh", PROGRAMS, answers)


def disk(machine, answers={}):
    machine.wait_for("Debian 686-pae")
    time.sleep(1)
    begin = machine.now()
    machine.send("\r")
    times = {"disk to login": machine.wait_for("hako login: ") - begin}
    machine.send("root\n")
    machine.wait_for("Password: ")
    machine.send("hako\n")
    machine.wait_for("root@hako:~# ")
    return times | work(machine, "dash", WORK, answers)


def guests(names):
    """Fetches guests and returns where they are."""
    cache = os.environ.get("XDG_CACHE_HOME", str(pathlib.Path.home() / ".cache"))
    folder = pathlib.Path(os.environ.get("HAKO_GUESTS", f"{cache}/hako/guests"))
    subprocess.run([ROOT / "packaging/fetch-guests.sh", folder, *names], check=True)
    return [folder / name for name in names]


def entry(name, mode, content=b"", device=(0, 0)):
    """A file of a cpio archive in the format that the kernel reads ("newc")."""
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0]
    pad = lambda part: part + b"\0" * (-len(part) % 4)
    return pad(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0") + pad(content)


def tasks(folder):
    """Each task: what it needs, made when it is asked for; what is measured; who cannot do it."""

    def kernel_cd(more=b"", words=""):
        image, initrd = guests(["vmlinuz-686", "initrd.gz"])
        with tempfile.TemporaryDirectory(dir=folder) as tree:
            boot = pathlib.Path(tree) / "boot"
            (boot / "grub").mkdir(parents=True)
            (boot / "vmlinuz").write_bytes(image.read_bytes())
            # The kernel takes one archive after the other, packed or not, each at a multiple of four.
            first = initrd.read_bytes()
            (boot / "initrd").write_bytes(first + b"\0" * (-len(first) % 4) + more)
            (boot / "grub/grub.cfg").write_text(
                f"set timeout=0\nmenuentry x {{ linux /boot/vmlinuz console=ttyS0{words}\n initrd /boot/initrd\n}}\n")
            iso = folder / "kernel.iso"
            iso.unlink(missing_ok=True)
            subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tree], check=True, capture_output=True)
        return {"memory": 128, "cd": iso}

    def programs_cd():
        disk = f"{guests(['debian-12.img'])[0]}?offset=1048576"
        parts = [entry(name, 0o40755) for name in ("usr", "usr/bin", "lib")]
        debugfs = lambda request: subprocess.run(["debugfs", "-R", request, disk], check=True, capture_output=True, text=True).stdout
        for source, name in FILES.items():
            if link := re.search(r'Fast link dest: "([^"]*)"', debugfs(f"stat {source}")):
                source = f"{FOLDER}/{link[1]}"
            copy = folder / "copy"
            debugfs(f"dump {source} {copy}")
            parts.append(entry(name, 0o100755, copy.read_bytes()))
            copy.unlink()
        parts.append(entry("TRAILER!!!", 0))
        return kernel_cd(b"".join(parts), " cryptomgr.notests")

    def system_kernel():
        program = folder / "system"
        subprocess.run(["gcc", "-m32", "-O2", "-static", run.HERE / "system.c", "-o", program], check=True)
        # Half of it is words, half is noise, as what a distribution packs.
        text = b"".join(b"%d words of number %x\n" % (n, n * n) for n in range(600000))[:16 << 20]
        noise = random.Random(1).randbytes(15 << 20)
        archive = b"".join([
            entry("dev", 0o40755), entry("dev/console", 0o20600, device=(5, 1)), entry("init", 0o100755, program.read_bytes()),
            entry("text", 0o100644, text), entry("noise", 0o100644, noise), entry("TRAILER!!!", 0)])
        initrd = folder / "system.gz"
        initrd.write_bytes(gzip.compress(archive, 6))
        return {"memory": 256, "kernel": guests(["vmlinuz-686"])[0], "initrd": initrd, "append": "console=ttyS0 panic=-1"}

    def installer_kernel():
        image, initrd = guests(["installer-linux", "installer-text.gz"])
        return {"memory": 512, "kernel": image, "initrd": initrd, "append": "console=ttyS0 TERM=linux"}

    def idle_kernel():
        image, initrd = guests(["vmlinuz-686", "initrd.gz"])
        return {"memory": 128, "kernel": image, "initrd": initrd, "append": "console=ttyS0 cryptomgr.notests"}

    return {
        "kernel": (kernel_cd, kernel, ()),
        "installer": (installer_kernel, installer, ("bochs",)),
        "memtest": (lambda: {"memory": 256, "kernel": guests(["memtest86+.bin"])[0], "append": "console=ttyS0,115200"},
                    memtest, ("bochs",)),
        "idle": (idle_kernel, idle, ("bochs",)),
        "system": (system_kernel, system, ("bochs",)),
        "programs": (programs_cd, programs, ()),
        "disk": (lambda: {"memory": 512, "disk": guests(["debian-12.img"])[0]}, disk, ()),
    }


def compare(task, engines, hako, rounds, cpu, folder):
    """All engines in turn, some rounds: for each thing measured the median of each."""
    prepare, measure, _ = task
    arguments = prepare()
    times = {}
    for _ in range(rounds):
        for engine in engines:
            machine = Machine(engine, hako, folder, arguments, cpu)
            try:
                for what, seconds in measure(machine).items():
                    times.setdefault(what, {}).setdefault(engine, []).append(seconds)
            finally:
                machine.end()
    return {what: {engine: statistics.median(values) for engine, values in by_engine.items()}
            for what, by_engine in times.items()}


def main():
    # Whoever gives up ends the machine, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("given up"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="processor seconds")
    parser.add_argument("--accel", action="append", help="engine of Hako (interp)")
    parser.add_argument("--peer", action="append", choices=["bochs", "qemu"], default=[])
    parser.add_argument("--task", action="append", choices=["kernel", "installer", "memtest", "idle", "system", "programs", "disk"])
    options = parser.parse_args()
    ours = options.accel or ["interp"]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        known = tasks(folder)
        for task in options.task or list(known):
            engines = [engine for engine in ours + options.peer if engine not in known[task][2]]
            for what, median in compare(known[task], engines, options.hako, options.rounds, options.cpu, folder).items():
                cells = [f"{engine} {median[engine]:7.2f} s" for engine in engines]
                cells += [f"{peer}/{engine} {median[peer] / median[engine]:5.2f}"
                          for engine in ours for peer in engines if peer not in ours]
                print(f"{what:14}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
