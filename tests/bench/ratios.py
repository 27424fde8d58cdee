#!/usr/bin/env python3
"""The table of the translator's speed: QEMU's time over Hako's, on the same guests in the same run.

    tests/bench/ratios.py HAKO [--accel ENGINE] [--rounds N] [--quick] [--row WORD]…

Processor seconds of the whole process, engines in turn, medians; more than 1 means that Hako is faster. Programs are those of
run.py (check sums as on the host) and the tasks “system”, “disk” and “idle” of boot.py; --quick leaves the disk out, --row takes the rows
whose group or name has the word. Needs what those need, and qemu-system-x86.
"""
import argparse
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

import boot
import run

# Group of what boot.py measures.
GROUPS = {"boot": "boot", "syscalls": "system", "pipes": "system", "fork": "system", "exec": "system", "faults": "system"}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("given up"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--accel", default="jit", help="engine of Hako")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the Debian disk")
    parser.add_argument("--row", action="append", help="part of a group's or a program's name")
    options = parser.parse_args()
    engines = [options.accel, "qemu"]
    version = subprocess.run(["qemu-system-i386", "--version"], check=True, capture_output=True, text=True).stdout
    print(version.splitlines()[0], "-accel tcg,thread=single;", f"Hako -accel {options.accel};", "seconds of processor time")
    print(f"{'group':15} {'program':16} {'QEMU':>8} {'Hako':>8} {'ratio':>6}", flush=True)
    groups = {}

    def wanted(group, name):
        return not options.row or any(word in f"{group} {name}" for word in options.row)

    def row(group, name, median):
        if not wanted(group, name):
            return
        if len(median) < 2:
            print(f"{group:15} {name:16} failed", flush=True)
            return
        ours, theirs = (median[engine] for engine in engines)
        groups.setdefault(group, []).append(theirs / ours)
        print(f"{group:15} {name:16} {theirs:8.2f} {ours:8.2f} {theirs / ours:6.2f}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for program, (group, _, _) in run.PROGRAMS.items():
            if wanted(group, program):
                row(group, program, run.compare(program, engines, options.hako, options.rounds, True, folder))
        tasks = boot.tasks(folder)
        if any(wanted(group, name) for name, group in GROUPS.items()):
            measured = boot.compare(tasks["system"], engines, options.hako, options.rounds, True, folder)
            for what, median in measured.items():
                row(GROUPS[what], what, median)
        if not options.quick and any(wanted("programs", name) for name in [*boot.WORK, "disk to login"]):
            for what, median in boot.compare(tasks["disk"], engines, options.hako, options.rounds, True, folder).items():
                row("programs", what, median)
        # A share of a processor and no time: it stands beside the means, not in them.
        if wanted("idle", "idle"):
            for median in boot.compare(tasks["idle"], engines, options.hako, options.rounds, True, folder).values():
                ours, theirs = (100 * median[engine] / boot.IDLE for engine in engines)
                print(f"{'idle':15} {'at a shell':16} {theirs:7.2f}% {ours:7.2f}%", flush=True)
    for group, ratios in groups.items():
        print(f"{group:15} {'geometric mean':16} {statistics.geometric_mean(ratios):24.2f}")
    everything = [ratio for ratios in groups.values() for ratio in ratios]
    if everything:
        print(f"{'all':15} {'geometric mean':16} {statistics.geometric_mean(everything):24.2f}; the worst row {min(everything):.2f}")


if __name__ == "__main__":
    sys.exit(main())
