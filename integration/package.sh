#!/usr/bin/env bash
# Builds the Debian package into dist/: encr-milter_VERSION_ARCHITECTURE.deb. Arguments go to cargo-deb.
#
# Promises: on a fresh Debian 12 with Rust this is all there is to do. Nothing is built anew that is current.
set -euo pipefail
cd "$(dirname "$0")/.."

integration/setup.sh

target=${CARGO_TARGET_DIR:-target}
PATH=$PWD/$target/tools/bin:$PATH
command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb --version '^3.8' --root "$target/tools"

cargo build --release --locked

# Of each crate that is linked in: its licence, where it comes from, and the texts that it brings. A text that several
# bring stands once.
licences=$target/package/third-party-licences.txt
mkdir -p "$target/package"
declare -A seen=()
cargo tree --locked --edges normal,no-proc-macro --prefix none --format '{p}|{l}|{r}' | sed 's/ (\*)$//' | sort -u |
    while IFS='|' read -r crate licence repository; do
        read -r name version _ <<<"$crate"
        [ "$name" != encr-milter ] || continue
        printf '\n%s %s\n    %s\n    %s\n' "$name" "${version#v}" "$licence" "$repository"
        for text in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-${version#v}"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE}*; do
            [ -f "$text" ] || continue
            sum=$(sha256sum <"$text")
            if [ -n "${seen[$sum]-}" ]; then
                printf '    %s: as that of %s\n' "${text##*/}" "${seen[$sum]}"
            else
                seen[$sum]="$name, ${text##*/}"
                printf '\n---- %s\n\n' "${seen[$sum]}"
                cat "$text"
            fi
        done
    done >"$licences.new"
mv "$licences.new" "$licences"

gzip -9n <CHANGELOG.md >"$target/package/changelog.gz"

mkdir -p dist
rm -f dist/encr-milter_*.deb
cargo deb --quiet --locked --no-build --output dist/ "$@"
ls dist/encr-milter_*.deb
