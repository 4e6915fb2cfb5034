#!/usr/bin/env bash
# Prints the path of a tool of cargo's (cargo-deny, cargo-fuzz), built from crates.io if it is not there yet.
#
# Promises: the version that stands here, locked, in a folder under target/; nothing of the caller's is touched.
set -euo pipefail
cd "$(dirname "$0")/.."

case $1 in
    cargo-deny) version=0.20.2 ;;
    cargo-fuzz) version=0.13.2 ;;
    *)
        echo "tool: $1 is none that is known here; add it with its version to $0" >&2
        exit 64
        ;;
esac

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
root=$target/tools/$1-$version
if [ ! -x "$root/bin/$1" ]; then
    echo "tool: building $1 $version" >&2
    # Built to be there soon: each runs for seconds.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        CARGO_TARGET_DIR=$target/tools/build \
        cargo install --quiet --locked --no-track --root "$root" "$1" --version "=$version" >&2
fi
echo "$root/bin/$1"
