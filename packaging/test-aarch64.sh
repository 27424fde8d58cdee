#!/bin/sh
# Builds the tests of the processor for aarch64 with Debian's Rust, whose sources bring its library, and runs them under an emulator: every
# engine that such a host has, Cranelift included. What compares with an x86 host is left out there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/set-up.sh"

need_packages rustc-web cargo-web rust-web-src gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross libc6-dev qemu-user-static nasm

cd "$root"
# Debian's own, whatever else there is: another one's library would have to be of the same version. -Zbuild-std is not yet in the language.
PATH=/usr/bin:$PATH
RUSTC_BOOTSTRAP=1
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/cross
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
# An emulator in the way: a tenth of the noise, from a seed that comes early to all that it has to see.
HAKO_NOISE_STEPS=${HAKO_NOISE_STEPS:-100000}
HAKO_NOISE_SEED=${HAKO_NOISE_SEED:-6}
HAKO_LOCKSTEP_STEPS=${HAKO_LOCKSTEP_STEPS:-20000}
export PATH RUSTC_BOOTSTRAP CARGO_TARGET_DIR CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER HAKO_NOISE_STEPS HAKO_NOISE_SEED HAKO_LOCKSTEP_STEPS
cargo test -Zbuild-std --release --locked --target aarch64-unknown-linux-gnu --package vm-core --test cpu -- --test-threads 2
