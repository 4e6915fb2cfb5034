#!/usr/bin/env bash
# Shows the milter at work: a private sm-mta with the daemon attached, sessions of every strength, and a policy that
# is edited while they run. Nothing on the machine is touched, and no mail leaves.
#
# Promises: on a fresh Debian 12 with Rust this is all there is to do, and it is over within minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

integration/setup.sh
cargo build --locked --bins --example try
show=${CARGO_TARGET_DIR:-target}/debug/examples/try
if [ "$(id -u)" -eq 0 ]; then exec "$show"; else exec sudo -- "$show"; fi
