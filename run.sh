#!/bin/sh
# Sets up what a fresh Debian or Ubuntu machine lacks, then hands over to `cargo run`.
#
#   ./run.sh            runs the demonstration
#   ./run.sh test       runs every test
#   ./run.sh --help     shows all options
set -eu

say() { printf 'run.sh: %s\n' "$*" >&2; }
stop() {
    say "$@"
    exit 2
}
has() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, and shows the command before. It runs `apt-get update` only if the
# installation fails without.
install() {
    has apt-get || stop "please install $* with your system's package manager, then run this again"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || stop "please run as root: apt-get install $*"
        as_root=sudo
    fi
    set -- $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
    say "$*"
    if ! "$@" >&2; then
        say "${as_root:+$as_root }apt-get update"
        $as_root apt-get update >&2 || stop "apt-get update failed"
        "$@" >&2 || stop "that could not be installed"
    fi
}

here=$(cd "$(dirname "$0")" && pwd)

if ! has cargo && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    . "${CARGO_HOME:-$HOME/.cargo}/env"
fi
has cargo || stop "Rust is missing: install the stable toolchain as https://rustup.rs says, then run this again"
has cc || stop "a C linker is missing: apt-get install gcc"
has qemu-system-x86_64 || install qemu-system-x86

# On a terminal cargo shows what it builds. Elsewhere only our own output appears.
quiet=--quiet
[ ! -t 2 ] || quiet=
exec cargo run $quiet --locked --manifest-path "$here/Cargo.toml" --package tidemark -- "$@"
