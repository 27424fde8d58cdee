#!/usr/bin/env python3
"""Snapshots of Hako beside QEMU's savevm and loadvm on qcow2: the same guest, the same memory, in turn, in one run.

    tests/bench/snapshots.py HAKO [--memory MIB]… [--ram empty|filled]… [--rounds N]

The guest is Debian's kernel with busybox and an ext4 disk in a qcow2 image. It counts on its serial line without end, so that the
host sees when it stands still, and where it is after a restore. “filled”: nearly all of its memory holds noise. Columns:

    pause    how long the guest stands still for the snapshot: QEMU's events STOP to RESUME, what Hako's log says
    silence  the longest time without a number on the serial line while the snapshot is taken (before: in the second before)
    save     from the command to its answer, all on stable storage
    on disk  what files have grown by; “2nd”: by a second snapshot a second later
    back     in the running machine, from “loadvm” to the first number that comes from the snapshot
    start    from the start of a process with -loadvm to the first number
    resumed  Hako's log of the same two: from the command until the processor goes on, from the machine's thread until it is ready

Medians over the rounds, in milliseconds and MiB. Needs e2fsprogs, qemu-system-x86 and qemu-utils; guests come from
packaging/fetch-guests.sh (HAKO_GUESTS). The host's caches are warm.
"""
import argparse
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from linux_guest import Guest, Stuck

COLUMNS = ["pause", "silence", "before", "save", "on disk", "2nd", "back", "start"]
LOG = ["resumed (back)", "resumed (start)"]


def used(folder):
    """Bytes that files take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def numbers(guest, since):
    """(time, number) of what the guest has counted from a time on; a line counts when its end has come."""
    seen, carry = [], b""
    with guest.heard:
        parts = [part for part in guest.times if part[0] >= since]
    for at, part in parts:
        *lines, carry = (carry + part).split(b"\n")
        seen += [(at, int(line[1:])) for line in (line.strip() for line in lines) if re.fullmatch(rb"@\d+", line)]
    return seen


def longest_silence(guest, begin, end):
    times = [begin] + [at for at, _ in guest.times if begin < at < end] + [end]
    return max(later - sooner for sooner, later in zip(times, times[1:]))


def first_below(guest, since, limit):
    """When the first number below `limit` came."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        if found := [at for at, number in numbers(guest, since) if number < limit]:
            return found[0]
        time.sleep(0.01)
    raise Stuck("the guest did not count on from the snapshot")


def logged(guest, words):
    """What Hako's log says behind some words, in seconds."""
    found = re.findall(rf"{words}.*?microseconds=(\d+)", re.sub(r"\x1b\[[\d;]*m", "", guest.said()))
    return [int(number) / 1e6 for number in found]


def pause(guest, said_before):
    """Seconds that the guest stood still, as its machine says."""
    if guest.peer == "hako":
        return logged(guest, "stood still for a snapshot")[said_before]
    stamp = lambda event: event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
    guest.qmp("query-status")
    stopped = [stamp(event) for event in guest.events if event["event"] == "STOP"]
    resumed = [stamp(event) for event in guest.events if event["event"] == "RESUME"]
    return resumed[said_before] - stopped[said_before]


def measure(peer, hako, memory, filled):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        raw, disk = folder / "raw.img", folder / "disk.qcow2"
        for command in (["truncate", "-s", "256M", raw], ["mke2fs", "-q", "-t", "ext4", raw],
                        ["qemu-img", "convert", "-O", "qcow2", raw, disk]):
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        raw.unlink()
        guest = Guest(peer, hako, folder, memory, (disk, "qcow2"))
        try:
            guest.wait_for("guest# ")
            guest.run("mount -t ext4 /dev/sda /mnt; dd if=/dev/urandom of=/mnt/noise bs=1M count=16 2>/dev/null; sync")
            if filled:
                # What the kernel needs stays free.
                count = memory - 80 - memory // 16
                guest.run(f"mount -t tmpfs -o size=100% none /tmp; dd if=/dev/urandom of=/tmp/noise bs=1M count={count} 2>/dev/null")
            guest.send("i=0; while :; do i=$((i + 1)); echo @$i; done\n")
            guest.wait_for("@1000\r\n")
            time.sleep(2)
            result = {"before": longest_silence(guest, time.monotonic() - 1, time.monotonic())}
            before, begun = used(folder), time.monotonic()
            guest.monitor("savevm one")
            done = time.monotonic()
            result["save"], result["on disk"] = done - begun, used(folder) - before
            time.sleep(1)
            result["silence"] = longest_silence(guest, begun, done + 0.5)
            result["pause"] = pause(guest, 0)
            second = numbers(guest, done)[-1][1]
            before = used(folder)
            guest.monitor("savevm two")
            result["2nd"] = used(folder) - before
            time.sleep(0.5)
            begun = time.monotonic()
            guest.monitor("loadvm one")
            result["back"] = first_below(guest, begun, second) - begun
            result[LOG[0]] = logged(guest, "goes on after a restore")[0] if peer == "hako" else 0
            guest.quit()
            guest = Guest(peer, hako, folder, memory, (disk, "qcow2"), ["-loadvm", "one"])
            result["start"] = first_below(guest, guest.begun, second) - guest.begun
            result[LOG[1]] = logged(guest, "the machine is ready")[0] if peer == "hako" else 0
            guest.quit()
        finally:
            guest.end()
        return result


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("given up"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--memory", action="append", type=int, help="MiB (256, 512, 2048)")
    parser.add_argument("--ram", action="append", choices=["empty", "filled"])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    version = subprocess.run(["qemu-system-i386", "--version"], check=True, capture_output=True, text=True).stdout
    print(version.splitlines()[0])
    print("| memory | RAM | program | " + " | ".join(COLUMNS + LOG) + " |")
    print("|---" * (3 + len(COLUMNS + LOG)) + "|", flush=True)
    for memory in options.memory or [256, 512, 2048]:
        for ram in options.ram or ["empty", "filled"]:
            results = {"qemu": [], "hako": []}
            for _ in range(options.rounds):
                for peer, of_peer in results.items():
                    of_peer.append(measure(peer, options.hako, memory, ram == "filled"))
            for peer, of_peer in results.items():
                median = {column: statistics.median(result[column] for result in of_peer) for column in COLUMNS + LOG}
                cells = [f"{median[column] / (1 << 20):.1f}" if column in ("on disk", "2nd") else f"{median[column] * 1000:.1f}" for column in COLUMNS]
                cells += [f"{median[column] * 1000:.1f}" if peer == "hako" else "" for column in LOG]
                print(f"| {memory} | {ram} | {peer} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
