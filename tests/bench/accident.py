#!/usr/bin/env python3
"""The accident that Hako was made for, by one script on QEMU and on Hako.

    tests/bench/accident.py HAKO [--rounds N] [--seed N]

Linux writes files to an ext4 disk and keeps their check sums in memory. Its state is saved, it goes on writing (files go, new ones
take their blocks), it is switched off, and the saved state is loaded. Then all files are read from the disk and the file system is
unmounted and checked by e2fsck -fn:

    qemu raw        a raw disk, the state kept apart: “migrate exec:cat>state”, then -incoming
    hako raw        the same disk in place: “savevm” must be refused; Save & Close, another boot of the disk, then its state: refused too
    hako adopted    the same disk, adopted by “savevm -a” (the image is only read from then on), then -loadvm
    hako qcow2      the disk as qcow2, “savevm”, then -loadvm

Needs e2fsprogs, qemu-system-x86 and qemu-utils; guests come from packaging/fetch-guests.sh (HAKO_GUESTS).
"""
import argparse
import collections
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from linux_guest import Guest, Refused, Stuck

# Seconds that one look of the guest at its own disk may take.
LONGEST_LOOK = 120

WRITER = r"""cat >/tmp/write <<'END'
n=$(cat /tmp/n)
for i in $(seq $1); do
    n=$((n + 1))
    file=/mnt/work/$((n % 5))/$n
    mkdir -p ${file%/*}
    dd if=/dev/urandom of=$file bs=1k count=$((n * $2 % 190 + 1)) 2>/dev/null
    sum=$(md5sum <$file)
    echo "${sum%% *}  $file" >>/tmp/sums
    if [ $(wc -l </tmp/sums) -gt 40 ]; then
        old=$(head -n 1 /tmp/sums)
        rm "${old#*  }"
        sed -i 1d /tmp/sums
    fi
done
echo $n >/tmp/n
END
"""


def run(*command):
    return subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)


class Diary:
    """One round with one way to save."""

    def __init__(self, way, hako, folder, chance):
        self.way, self.hako, self.folder, self.chance = way, hako, folder, chance
        self.raw = folder / "disk.img"
        run("truncate", "-s", "64M", self.raw)
        run("mke2fs", "-q", "-t", "ext4", self.raw)
        self.disk = (self.raw, "raw")
        if way == "hako qcow2":
            self.disk = (folder / "disk.qcow2", "qcow2")
            run("qemu-img", "convert", "-O", "qcow2", self.raw, self.disk[0])
        self.guest = self.start()
        self.guest.wait_for("guest# ")
        self.guest.send(WRITER)
        self.guest.run("mount -t ext4 /dev/sda /mnt && mkdir /mnt/work; echo 0 >/tmp/n")
        self.write(20, 60)

    def start(self, *extra):
        return Guest(self.way.split()[0], self.hako, self.folder, 96, self.disk, extra)

    def write(self, least, most):
        code, text = self.guest.run(f"sh /tmp/write {self.chance.randint(least, most)} {self.chance.randrange(31, 199, 2)}")
        if code:
            print(f"{self.way}: the guest's writer ended with {code}: {text[-300:]}", file=sys.stderr)
        if self.chance.random() < 0.5:
            self.guest.run("sync")

    def save(self):
        if self.way == "qemu raw":
            self.guest.qmp("migrate", uri=f"exec:cat >'{self.folder}/state'")
            while (status := self.guest.qmp("query-migrate").get("status")) != "completed":
                if status in ("failed", "cancelled"):
                    raise SystemExit(f"QEMU's migration {status}: {self.guest.said()}")
                time.sleep(0.02)
            self.guest.qmp("cont")
        elif self.way == "hako adopted":
            self.guest.monitor("savevm -a day")
        else:
            self.guest.monitor("savevm day")

    def load(self):
        if self.way == "qemu raw":
            return self.start("-incoming", f"exec:cat '{self.folder}/state'")
        return self.start("-loadvm", "day")

    def look(self):
        """What is wrong after the load, in words; empty: nothing."""
        problems = []
        try:
            problems += self.ask_guest()
        except Stuck as stuck:
            problems.append(f"the guest hangs ({LONGEST_LOOK} s): {str(stuck)[-200:]}")
        return problems + self.check()

    def ask_guest(self):
        """What the guest finds wrong. It goes on from where it was before anybody looks."""
        ask = lambda command: self.guest.run(command, LONGEST_LOOK)[1]
        ask(f"sh /tmp/write {self.chance.randint(3, 12)} 61")
        ask("sync; echo 3 >/proc/sys/vm/drop_caches")
        bad, files = [int(word) for word in re.findall(r"\d+", ask("md5sum -c /tmp/sums 2>&1 | grep -vc ': OK$'; wc -l </tmp/sums"))[:2]]
        log = ask("dmesg | grep -c -E 'EXT4-fs (error|warning)'; grep -c ' /mnt ext4 ro' /proc/mounts")
        shouts, read_only = [int(word) for word in re.findall(r"\d+", log)[:2]]
        problems = []
        if bad:
            problems.append(f"{bad} of {files} files are not what was written")
        if shouts:
            problems.append(f"{shouts} complaints of the guest's ext4{', which has turned read-only' if read_only else ''}")
        code, _ = self.guest.run("umount /mnt", LONGEST_LOOK)
        if code:
            problems.append("it cannot be unmounted")
        return problems

    def check(self):
        image = self.raw
        if self.way.startswith("hako"):
            # The present as a snapshot of its own, whose disk is written out.
            self.guest.monitor("savevm end")
            self.guest.quit()
            exported = self.folder / "exported"
            said = run(self.hako, "snapshot", "export", self.folder / "data/states/bench", "end", exported)
            if said.returncode:
                return [f"the disk cannot be exported: {said.stderr.strip()}"]
            image = self.folder / "end.img"
            run("qemu-img", "convert", "-O", "raw", next(exported.glob("*.qcow2")), image)
        else:
            self.guest.quit()
        said = run("e2fsck", "-fn", image)
        if said.returncode == 0:
            return []
        count = sum(bool(re.search(r"\? no$|^Inode|differences|wrong|invalid|corrupt|Unattached", line)) for line in said.stdout.splitlines())
        return [f"e2fsck -fn ends with {said.returncode} and finds {count} faults"]

    def accident(self):
        self.save()
        self.write(30, 120)
        self.guest.run("sync")
        self.guest.quit()
        self.guest = self.load()
        self.guest.wake()
        return self.look()

    def in_place(self):
        """Raw in place: what Hako says instead."""
        try:
            self.save()
            return ["“savevm” of a raw disk in place was not refused"]
        except Refused as refused:
            print(f"   savevm: {refused}")
        problems = []
        state = self.folder / "closed"
        self.guest.qmp("x-save-and-close", folder=str(state))
        self.guest.child.wait(60)
        self.guest.end()
        # Somebody boots the disk in between, and writes.
        kept = self.folder / "kept"
        shutil.copytree(state, kept)
        self.guest = Guest("qemu", self.hako, self.folder, 96, self.disk)
        self.guest.wait_for("guest# ")
        self.guest.run("mount -t ext4 /dev/sda /mnt && echo changed >/mnt/work/changed && umount /mnt")
        self.guest.quit()
        before = self.raw.read_bytes()
        try:
            self.guest = self.start("-loadvm", f"{kept}/")
            self.guest.run("true")
            problems.append("a state was loaded though its disk had been written to")
        except Refused as refused:
            print(f"   -loadvm: {refused}")
        except Stuck:
            print(f"   -loadvm: {self.guest.said()}")
        if self.raw.read_bytes() != before:
            problems.append("something was written to the disk")
        return problems


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("given up"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=2006)
    options = parser.parse_args()
    version = run("qemu-system-i386", "--version").stdout
    print(version.splitlines()[0])
    hurt = collections.Counter()
    for way in ["qemu raw", "hako raw", "hako adopted", "hako qcow2"]:
        chance = random.Random(options.seed)
        for number in range(1, options.rounds + 1):
            with tempfile.TemporaryDirectory() as name:
                diary = Diary(way, options.hako, pathlib.Path(name), chance)
                try:
                    problems = diary.in_place() if way == "hako raw" else diary.accident()
                finally:
                    diary.guest.end()
            hurt[way] += bool(problems)
            fine = "refused, and nothing was written" if way == "hako raw" else "every file is right, e2fsck -fn is clean"
            print(f"{way}, round {number}: {'; '.join(problems) or fine}", flush=True)
    print("; ".join(f"{way}: {hurt[way]} of {options.rounds} hurt" for way in ["qemu raw", "hako raw", "hako adopted", "hako qcow2"]))
    # The baseline must show the accident, else the script proves nothing.
    return 1 if any(hurt[way] for way in hurt if way != "qemu raw") or not hurt["qemu raw"] else 0


if __name__ == "__main__":
    sys.exit(main())
