#!/usr/bin/env python3
"""Times Hako's engines and its peers on the same guest programs, in turn, in one run.

    tests/bench/run.py HAKO [--program NAME]… [--rounds N] [--accel ENGINE]… [--peer bochs] [--peer qemu] [--cpu]

Each program is a floppy that every PC boots. The host's clock (with --cpu the processor time of the peer's process) stamps the
two lines that it writes to port 0xE9, so neither firmware nor the guest's own idea of time counts. The check sum must be that of
the same program on the host. Prints medians in seconds, and each peer's time over Hako's: more than 1 means that Hako is faster.
Needs gcc with 32-bit libraries (gcc-multilib), nasm, and the peers asked for. `ratios.py` prints the whole table.
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
FLAGS = "-m32 -march=i686 -std=gnu17 -fno-math-errno -fno-strict-aliasing".split()
BARE = "-ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-builtin -fcf-protection=none".split()
WHOLE = "-O2 -mno-sse -mno-mmx".split()
X87 = "-O2 -mfpmath=387 -mno-sse -mno-mmx".split()
SSE2 = "-O3 -msse2 -mfpmath=sse".split()
# Name: its group in the table, its source, how it is compiled.
PROGRAMS = {
    "nbody x87": ("x87", "nbody", X87),
    "linpack x87": ("x87", "linpack", X87),
    "mandelbrot x87": ("x87", "mandelbrot", X87),
    "trig x87": ("x87", "trig", X87),
    "nbody sse2": ("SSE2", "nbody", SSE2),
    "linpack sse2": ("SSE2", "linpack", SSE2),
    "mandelbrot sse2": ("SSE2", "mandelbrot", SSE2),
    "saxpy sse2": ("SSE2", "saxpy", SSE2),
    "sha256": ("ciphers", "sha256", WHOLE),
    "aes": ("ciphers", "aes", WHOLE),
    "coremark_like": ("integer", "coremark_like", WHOLE),
    "gzip_like": ("integer", "gzip_like", WHOLE),
    "bzip2_like": ("integer", "bzip2_like", WHOLE),
    "xz_like": ("integer", "xz_like", WHOLE),
    "qsort": ("integer", "qsort", WHOLE),
    "copy": ("strings", "copy", WHOLE),
    "strings": ("strings", "strings", WHOLE),
    "selfmod": ("self-modifying", "selfmod", WHOLE),
}
LONGEST = 300


def build(program, folder):
    """Compiles one program into a bootable floppy image; also the check sum that the host comes to."""
    _, source, flags = PROGRAMS[program]
    base = folder / program.replace(" ", "-")
    run = lambda *command, **options: subprocess.run([str(part) for part in command], check=True, **options)
    run("gcc", *FLAGS, *BARE, *flags, "-c", HERE / f"{source}.c", "-o", f"{base}.o")
    run("ld", "-m", "elf_i386", "--no-warn-rwx-segments", "-T", HERE / "program.ld", "-o", f"{base}.elf", f"{base}.o")
    run("objcopy", "-O", "binary", f"{base}.elf", f"{base}.bin")
    code = pathlib.Path(f"{base}.bin").read_bytes()
    run("nasm", f"-DSECTORS={-(-len(code) // 512)}", HERE / "boot.asm", "-o", f"{base}.boot")
    image = pathlib.Path(f"{base}.img")
    image.write_bytes((pathlib.Path(f"{base}.boot").read_bytes() + code).ljust(1474560, b"\0"))
    run("gcc", *FLAGS, *flags, "-w", "-DNATIVE", HERE / f"{source}.c", "-o", f"{base}.native")
    said = run(f"{base}.native", capture_output=True, text=True).stdout
    return image, said.split("end ")[1][:8]


def command(engine, hako, image, folder):
    """How `engine` boots `image` with port 0xE9 on its standard output."""
    if engine == "qemu":
        return ["qemu-system-i386", "-accel", "tcg,thread=single", "-m", "32", "-display", "none", "-net", "none", "-drive",
                f"file={image},if=floppy,format=raw", "-debugcon", "stdio"]
    if engine == "bochs":
        settings = folder / "bochsrc"
        settings.write_text(
            "megs: 32\nromimage: file=/usr/share/bochs/BIOS-bochs-latest\nvgaromimage: file=/usr/share/vgabios/vgabios.bin\n"
            f"floppya: 1_44={image}, status=inserted, write_protected=1\nboot: floppy\nport_e9_hack: enabled=1\n"
            "clock: sync=none\ncpu: model=p4_willamette\ndisplay_library: term\n"
            f"log: {folder}/bochs.log\npanic: action=fatal\nerror: action=report\n")
        commands = folder / "commands"  # Debian's Bochs waits in its debugger; "c" lets it go.
        commands.write_text("c\n")
        return ["bochs", "-q", "-f", str(settings), "-rc", str(commands)]
    return [hako, "run", "-accel", engine, "-m", "32", "-display", "none", "-net", "none", "-drive",
            f"file={image},if=floppy,format=raw", "-debugcon", "stdio", "-monitor", "none"]


def processor_time(pid):
    """Seconds that all threads of a process have had, by its own clock (clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


def measure(engine, hako, image, folder, cpu):
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
            now = processor_time(child.pid) if cpu else time.monotonic()
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


def compare(program, engines, hako, rounds, cpu, folder):
    """All engines in turn, some rounds: the median of each."""
    image, expected = build(program, folder)
    times = {engine: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            seconds, check = measure(engine, hako, image, folder, cpu)
            if check != expected:
                print(f"{program}: {engine} comes to {check}, the host to {expected}", file=sys.stderr)
                continue
            times[engine].append(seconds)
    return {engine: statistics.median(values) for engine, values in times.items() if values}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("given up"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hako")
    parser.add_argument("--program", action="append", choices=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accel", action="append", help="engine of Hako: interp or jit")
    parser.add_argument("--peer", action="append", choices=["bochs", "qemu"])
    parser.add_argument("--cpu", action="store_true", help="processor seconds")
    options = parser.parse_args()
    ours = options.accel or ["interp", "jit"]
    engines = ours + (options.peer or ["bochs", "qemu"])
    with tempfile.TemporaryDirectory() as name:
        for program in options.program or ["coremark_like", "gzip_like"]:
            median = compare(program, engines, options.hako, options.rounds, options.cpu, pathlib.Path(name))
            cells = [f"{engine} {median[engine]:7.2f} s" for engine in median]
            cells += [f"{peer}/{engine} {median[peer] / median[engine]:5.2f}"
                      for engine in ours for peer in median if engine in median and peer not in ours]
            print(f"{program:16}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
