#!/usr/bin/env bash
# Installs what the tests need, then runs all tests of the project, each fuzz target shortly, and the counts of
# instructions and allocations. Arguments go to `cargo test`; with any, that is all.
#
# Promises: on a fresh Debian 12 with Rust this is all there is to do. Ends with the test runner's own summary,
# and with its exit code.
set -euo pipefail
cd "$(dirname "$0")/.."

integration/setup.sh
# The trials of the booted machine install the package as it is shipped. A run that is filtered does without, where the
# filter does not name them.
if [ $# -eq 0 ] || [[ "$*" == *machine* ]]; then
    integration/package.sh
fi

# First, for it is what ends soonest.
[ $# -gt 0 ] || integration/fuzz.sh
# What the program costs where counts can tell, against integration/bench/baseline.toml.
[ $# -gt 0 ] || cargo bench --locked --bench counts

# sm-mta and its private network need root; the build does not, and its files stay the caller's.
run=()
[ "$(id -u)" -eq 0 ] || run=(--config "target.'cfg(all())'.runner='sudo --preserve-env'")
exec cargo "${run[@]}" test --locked --no-fail-fast "$@"
