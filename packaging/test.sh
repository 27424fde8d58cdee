#!/bin/sh
# Installs what the tests need (Debian 12), fetches the guests and runs every check. “--long” adds the tests that take minutes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/set-up.sh"

long=
for argument in "$@"; do
    case $argument in
    --long) long=yes ;;
    *) echo "test.sh: $argument: not known; there is --long" >&2; exit 2 ;;
    esac
done

# First what Hako itself needs, then what its tests need: a display with a window manager, a mouse and keyboard for it, pictures,
# and tools that make disks.
need_packages ca-certificates gcc libc6-dev seabios \
    libegl1 libgl1 libgl1-mesa-dri libwayland-client0 libwayland-egl1 \
    libx11-6 libx11-xcb1 libxcursor1 libxi6 libxkbcommon0 libxkbcommon-x11-0 libxrandr2 mesa-vulkan-drivers \
    xvfb openbox xdotool x11-utils x11-xserver-utils xkb-data \
    cpio e2fsprogs fdisk mtools qemu-utils xorriso grub-common grub-pc-bin nasm procps
# The long tests make a disk with Debian on it.
[ -z "$long" ] || need_packages debootstrap
need_rust "$root"

HAKO_GUESTS=${HAKO_GUESTS:-${XDG_CACHE_HOME:-$HOME/.cache}/hako/guests}
export HAKO_GUESTS
# A guest that cannot be fetched fails its own tests, by name.
"$here/fetch-guests.sh" "$HAKO_GUESTS" || echo "test.sh: not every guest could be fetched" >&2

cd "$root"
failed=
# Every cargo command has the same features and the release profile, so that nothing is built twice.
step() {
    title=$1
    shift
    echo "== $title"
    if ! "$@"; then
        echo "== FAILED: $title" >&2
        failed="$failed
  $title"
    fi
}

if cargo fmt --version >/dev/null 2>&1; then
    step "formatting" cargo fmt --all --check
else
    echo "== formatting: not checked, there is no rustfmt"
fi
step "build" cargo build --release --locked --workspace --all-targets
if cargo clippy --version >/dev/null 2>&1; then
    step "lints" cargo clippy --release --locked --workspace --all-targets -- -D warnings
else
    echo "== lints: not checked, there is no clippy"
fi
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps
step "without windows and native code" \
    cargo check --release --locked --package hako --no-default-features --bin hako
# Tests of guests share two processors with nobody; more than two at once only make each other late.
if [ -n "$long" ]; then
    HAKO_LONG=1
    export HAKO_LONG
fi
step "tests" cargo test --release --locked --workspace --no-fail-fast -- --test-threads 2
if [ -n "$long" ]; then
    step "tests of the processor on aarch64" "$here/test-aarch64.sh"
fi

if [ -n "$failed" ]; then
    echo "== these steps failed:$failed" >&2
    exit 1
fi
echo "== all steps passed"
