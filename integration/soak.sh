#!/usr/bin/env bash
# Soaks the release build of the daemon with so many sessions (a million unless told otherwise); tells sessions a second,
# memory and descriptors after each tenth, and fails where an answer was wrong, a decision is missing or memory grew.
#
# Promises: on a fresh Debian 12 with Rust this is all there is to do. A million takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

integration/setup.sh
cargo build --locked --release --bins
export ENCR_MILTER_SOAK=${1:-1000000}
ENCR_MILTER_SOAK_DAEMON=$(realpath "${CARGO_TARGET_DIR:-target}/release/encr-milter")
export ENCR_MILTER_SOAK_DAEMON
run=()
[ "$(id -u)" -eq 0 ] || run=(--config "target.'cfg(all())'.runner='sudo --preserve-env'")
exec cargo "${run[@]}" test --locked --test sendmail -- --exact soak
