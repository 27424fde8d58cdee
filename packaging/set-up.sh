# What run.sh and test.sh share: installing what is missing on Debian. To be sourced.

# As root, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "This needs root (no sudo here): $*" >&2
        return 1
    fi
}

# need_packages NAME…: installs those Debian packages that are not there yet.
need_packages() {
    missing=
    for package in "$@"; do
        # "install ok installed" is the only good answer; a removed package still has an entry.
        if [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" != "install ok installed" ]; then
            missing="$missing $package"
        fi
    done
    [ -z "$missing" ] && return 0
    if ! command -v apt-get >/dev/null; then
        echo "Please install what your system calls these Debian packages, then try again:$missing" >&2
        return 1
    fi
    echo "Installing:$missing"
    for try in 1 2 3; do
        # shellcheck disable=SC2086 # a list of names
        if as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; then
            return 0
        fi
        sleep $((try * 3))
    done
    echo "These Debian packages could not be installed:$missing" >&2
    return 1
}

# rust_is_new: there is a Rust of at least the version that Cargo.toml names.
rust_is_new() {
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$1/Cargo.toml" | head -n 1)
    found=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
    [ "$(printf '%s\n%s\n' "$wanted" "${found:-0}" | sort -V | head -n 1)" = "$wanted" ]
}

# need_rust ROOT: installs Debian's newest Rust where there is none that is new enough.
need_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    rust_is_new "$1" && return 0
    need_packages rustc-web cargo-web || return 1
    # A rustup of the person may stand before it in PATH.
    rust_is_new "$1" && return 0
    PATH=/usr/bin:$PATH
    export PATH
    rust_is_new "$1" && return 0
    echo "Hako needs Rust $wanted or newer; Debian has ${found:-none}. https://rustup.rs has it." >&2
    return 1
}
