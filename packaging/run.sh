#!/bin/sh
# Installs what is missing (Debian 12), builds Hako and opens its manager. Arguments go to Hako.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/set-up.sh"

need_packages ca-certificates gcc libc6-dev seabios \
    libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libwayland-client0 libwayland-egl1 \
    libx11-6 libx11-xcb1 libxcursor1 libxi6 libxkbcommon0 libxkbcommon-x11-0 libxrandr2 mesa-vulkan-drivers
need_rust "$root"

# The examples of the first start. They are unpacked into a cache folder, never installed.
HAKO_GUESTS=${HAKO_GUESTS:-${XDG_CACHE_HOME:-$HOME/.cache}/hako/guests}
export HAKO_GUESTS
if ! "$here/fetch-guests.sh" "$HAKO_GUESTS" invaders.exec memtest86+.bin; then
    echo "The examples could not be fetched; Hako opens without them and looks again at the next start." >&2
fi

cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec "${CARGO_TARGET_DIR:-$root/target}/release/hako" "$@"
