#!/usr/bin/env bash
# Fuzzing: any bytes against every parser and both sessions, held to what they promise. See fuzz/fuzz_targets/.
#
#   integration/fuzz.sh                      each target for 10 seconds, always from the same beginning: what tests run
#   integration/fuzz.sh SECONDS [TARGET…]    for so long, each time another way, on top of what was found before
#
# Promises: needs no nightly compiler; as many targets run at a time as there are processors. What breaks a promise is
# printed, with a file that holds the input; exit 1. What a long run finds goes into fuzz/seeds/TARGET, and with its cure
# into an ordinary test.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzz=integration/fuzz
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')

if [ $# -gt 0 ]; then
    seconds=$1
    shift
    kept=yes beginning=0
else
    seconds=10 kept='' beginning=1
fi
case $seconds in
    '' | *[!0-9]*)
        echo "fuzz: '$seconds' is no number of seconds" >&2
        exit 64
        ;;
esac
all=()
for path in "$fuzz"/fuzz_targets/*.rs; do
    all+=("$(basename "$path" .rs)")
done
targets=("${@:-${all[@]}}")
for one in "${targets[@]}"; do
    if [ ! -e "$fuzz/fuzz_targets/$one.rs" ]; then
        echo "fuzz: no target '$one'; there are ${all[*]}" >&2
        exit 64
    fi
done

# cargo-fuzz knows no --locked: where this passes, it changes no lock.
if ! cargo metadata --quiet --locked --format-version 1 --manifest-path "$fuzz/Cargo.toml" >/dev/null; then
    echo "fuzz: the lock of $fuzz is not that of Cargo.toml; make it anew from the program's own:" >&2
    echo "  cp Cargo.lock $fuzz/ && cargo metadata --manifest-path $fuzz/Cargo.toml >/dev/null" >&2
    exit 1
fi
cargo_fuzz=$(integration/tool.sh cargo-fuzz)
# Sanitizers need a nightly compiler, and look for what code without `unsafe` cannot do. Overflows and the assertions
# are looked at without.
PATH=$(dirname "$cargo_fuzz"):$PATH cargo fuzz build --fuzz-dir "$fuzz" --target-dir "$target" \
    --sanitizer none --codegen-units 4

# What targets begin with: their own seeds, and the files of the tests and of config/ that are of their kind.
seeds() {
    echo "$fuzz/seeds/$1"
    case $1 in
        policy | policy_edit | daemon_file) echo "$target/seeds/toml" ;;
        access_map) echo "$target/seeds/access" ;;
        logs) echo "$fuzz/seeds/mail_log" ;;
    esac
}
rm -rf "$target/seeds"
mkdir -p "$target/seeds/toml" "$target/seeds/access" "$target/logs"
cp config/*.toml tests/data/*.toml "$target/seeds/toml"
cp tests/data/*.access "$target/seeds/access"

run() {
    local corpus more=() from=()
    if [ -n "$kept" ]; then
        corpus=$target/corpus/$1
    else
        corpus=$(mktemp -d)
        trap 'rm -rf "$corpus"' RETURN
    fi
    mkdir -p "$corpus" "$target/artifacts/$1"
    while read -r folder; do
        [ ! -d "$folder" ] || from+=("$folder")
    done < <(seeds "$1")
    case $1 in
        policy | policy_edit | daemon_file) more=(-dict="$fuzz/dictionaries/toml.dict") ;;
        access_map) more=(-dict="$fuzz/dictionaries/access.dict") ;;
        mail_log | logs | record) more=(-dict="$fuzz/dictionaries/log.dict") ;;
        # A session of some length from the beginning: short ones never get far.
        milter | socket_map) more=(-len_control=0) ;;
    esac
    "$target/$triple/release/$1" "$corpus" "${from[@]}" "${more[@]}" -seed="$beginning" \
        -max_total_time="$seconds" -max_len=6000 -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="$target/artifacts/$1/" -print_final_stats=1 >"$target/logs/$1" 2>&1
}

failed=()
running=()
# The oldest of those that run ends; tells how.
reap() {
    local pid=${running[0]%% *} name=${running[0]#* }
    running=("${running[@]:1}")
    if wait "$pid"; then
        printf 'fuzz: %-12s %9s inputs, ok\n' "$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$target/logs/$name")"
    else
        failed+=("$name")
        echo "fuzz: $name FAILED:" >&2
        grep -v -E '^(#|INFO|\s+NEW|NEW_FUNC)' "$target/logs/$name" | cut -c1-2000 | tail -n 60 >&2
    fi
}
for one in "${targets[@]}"; do
    if [ "${#running[@]}" -ge "$(nproc)" ]; then
        reap
    fi
    run "$one" &
    running+=("$! $one")
done
while [ "${#running[@]}" -gt 0 ]; do
    reap
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "fuzz: ${failed[*]} found something; again: $target/$triple/release/TARGET FILE" >&2
    exit 1
fi
