#!/usr/bin/env python3
"""Times Hako's engines and its peers on the same guest programs, in turn, in one run.

    tests/bench/run.py HAKO [--rounds N] [--peer bochs] [--peer qemu]

Each program is a floppy that every PC boots. The host's clock stamps the two lines that it writes to port 0xE9, so
neither firmware nor the guest's own idea of time counts. Prints medians in seconds, and each peer's time over Hako's:
more than 1 means that Hako is faster. Needs gcc, nasm, and the peers asked for.
"""
import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PROGRAMS = ["coremark_like", "gzip_like"]
FLAGS = ("-m32 -march=i686 -O2 -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-builtin "
         "-fcf-protection=none -mno-sse -mno-mmx").split()
LONGEST = 300


def build(program, folder):
    """Compiles one program into a bootable floppy image."""
    base = folder / program
    run = lambda *command: subprocess.run([str(part) for part in command], check=True)
    run("gcc", *FLAGS, "-c", HERE / f"{program}.c", "-o", f"{base}.o")
    run("ld", "-m", "elf_i386", "--no-warn-rwx-segments", "-T", HERE / "program.ld", "-o", f"{base}.elf", f"{base}.o")
    run("objcopy", "-O", "binary", f"{base}.elf", f"{base}.bin")
    code = pathlib.Path(f"{base}.bin").read_bytes()
    run("nasm", f"-DSECTORS={-(-len(code) // 512)}", HERE / "boot.asm", "-o", f"{base}.boot")
    image = pathlib.Path(f"{base}.img")
    image.write_bytes((pathlib.Path(f"{base}.boot").read_bytes() + code).ljust(1474560, b"\0"))
    return image


def command(engine, hako, image, folder):
    """How `engine` boots `image` with port 0xE9 on its standard output."""
    if engine == "qemu":
        return ["qemu-system-i386", "-accel", "tcg", "-m", "32", "-display", "none", "-net", "none", "-drive",
                f"file={image},if=floppy,format=raw", "-debugcon", "stdio"]
    if engine == "bochs":
        settings = folder / "bochsrc"
        settings.write_text(
            "megs: 32\nromimage: file=/usr/share/bochs/BIOS-bochs-latest\nvgaromimage: file=/usr/share/vgabios/vgabios.bin\n"
            f"floppya: 1_44={image}, status=inserted, write_protected=1\nboot: floppy\nport_e9_hack: enabled=1\n"
            "clock: sync=none\ncpu: model=p2_klamath\ndisplay_library: term\n"
            f"log: {folder}/bochs.log\npanic: action=fatal\nerror: action=report\n")
        commands = folder / "commands"  # Debian's Bochs waits in its debugger; "c" lets it go.
        commands.write_text("c\n")
        return ["bochs", "-q", "-f", str(settings), "-rc", str(commands)]
    return [hako, "run", "-accel", engine, "-m", "32", "-display", "none", "-net", "none", "-drive",
            f"file={image},if=floppy,format=raw", "-debugcon", "stdio", "-monitor", "none"]


def measure(engine, hako, image, folder):
    """Runs once: seconds between the two lines, and the check sum."""
    # Bochs draws on its terminal, so port 0xE9's text comes between escape sequences: look for the words alone.
    child = subprocess.Popen(command(engine, hako, image, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, start_new_session=True,
                             env=dict(os.environ, TERM="linux", BXSHARE="/usr/share/bochs"))
    began = None
    text = b""
    give_up = time.monotonic() + LONGEST
    try:
        while time.monotonic() < give_up:
            part = os.read(child.stdout.fileno(), 4096)
            now = time.monotonic()
            if not part:
                break
            text += part
            if began is None and b"start\n" in text.replace(b"\r", b""):
                began = now
            words = text.replace(b"\r", b"").split(b"end ", 1)
            if began is not None and len(words) == 2 and len(words[1]) >= 8:
                return now - began, words[1][:8].decode()
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    raise SystemExit(f"{engine} did not finish {image.name}: {text[-300:]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accel", action="append", help="engine of Hako: interp or jit")
    parser.add_argument("--peer", action="append", choices=["bochs", "qemu"])
    options = parser.parse_args()
    ours = options.accel or ["interp", "jit"]
    engines = ours + (options.peer or ["bochs", "qemu"])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for program in PROGRAMS:
            image = build(program, folder)
            times = {engine: [] for engine in engines}
            sums = set()
            for _ in range(options.rounds):
                for engine in engines:
                    seconds, check = measure(engine, options.hako, image, folder)
                    times[engine].append(seconds)
                    sums.add(check)
            if len(sums) != 1:
                sys.exit(f"{program}: the check sums differ: {sums}")
            median = {engine: statistics.median(values) for engine, values in times.items()}
            cells = [f"{engine} {median[engine]:7.2f} s" for engine in engines]
            cells += [f"{peer}/{engine} {median[peer] / median[engine]:5.2f}"
                      for engine in ours for peer in engines if peer not in ours]
            print(f"{program:16}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
