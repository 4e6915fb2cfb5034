#!/usr/bin/env bash
# Holds what the program is made of to deny.toml: licences, sources, duplicates, versions that were withdrawn, advisories.
#
# Promises: all but the advisories need crates.io only. The advisories lie in a repository of their own (RustSec's):
# where that cannot be reached it is said, and the rest still counts. --advisories makes that an error.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=$(integration/tool.sh cargo-deny)

"$deny" --locked check bans licenses sources
# What fuzzing needs is not shipped, but built all the same.
"$deny" --locked --manifest-path integration/fuzz/Cargo.toml --config deny.toml check sources

# cargo itself warns of versions in the lock that their authors have withdrawn.
said=$(cargo package --locked --no-verify --allow-dirty 2>&1) || { echo "$said" >&2; exit 1; }
if grep 'is yanked' <<<"$said" >&2; then
    exit 1
fi
echo "yanked ok"

if timeout 20 git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    "$deny" --locked check advisories
elif [ "${1:-}" = --advisories ]; then
    echo "supply-chain: the advisory database cannot be reached" >&2
    exit 69
else
    echo "advisories NOT CHECKED: the advisory database cannot be reached from here;" \
        "run integration/supply-chain.sh --advisories where it can"
fi
