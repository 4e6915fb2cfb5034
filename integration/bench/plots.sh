#!/usr/bin/env bash
# Draws what docs/performance.md shows, from the figures that the benchmarks have written beside it (docs/performance/*.json).
#
# Promises: on a Debian 12 with root this is all there is to do; nothing is measured here.
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in gnuplot jq; do
    command -v "$tool" >/dev/null || apt-get install -y --no-install-recommends gnuplot-nox jq
done

at=docs/performance
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A column for each server, a row for each number of connections.
sessions() {
    jq -r --arg what "$1" '
        [.scenarios[].rows[] | select(.scenario == "sessions")]
        | group_by(.connections)[]
        | [.[0].connections] + (["ours", "libmilter", "tokio"] as $order | [.[] as $row | {($row.server): $row[$what]}] | add as $by | $order | map($by[.]))
        | @tsv' "$at/sessions.json" >"$work/$1"
}

draw() {
    gnuplot <<GNUPLOT
set terminal svg size 640,360 font "sans-serif,12" background rgb "white"
set output "$at/$1.svg"
set grid ytics
set style data linespoints
set key top left
$2
GNUPLOT
}

sessions cpu_us
sessions a_second
sessions mail_p99_us
by_server() {
    cat <<GNUPLOT
set logscale x
set xtics (1, 16, 128, 1000)
set xlabel "connections"
set ylabel "$2"
$3
plot "$work/$1" using 1:2 title "encr-milter" lw 2 pt 7, "" using 1:3 title "C on libmilter" lw 2 pt 5, "" using 1:4 title "bare tokio" lw 2 pt 9
GNUPLOT
}
draw sessions-cpu "$(by_server cpu_us "processor time of a session, µs" "set yrange [0:*]")"
draw sessions-rate "$(by_server a_second "sessions a second" "set yrange [0:*]; set key bottom left")"
draw sessions-p99 "$(by_server mail_p99_us "p99 of MAIL, µs" "set logscale y")"

jq -r '.lookup[] | [.keys, .exact_ns, .three_labels_ns, .missed_ns] | @tsv' "$at/load.json" >"$work/lookup"
draw lookup "set logscale x; set xlabel 'keys'; set ylabel 'a lookup, ns'; set yrange [0:*]
plot '$work/lookup' using 1:2 title 'as it is written' lw 2 pt 7, '' using 1:3 title 'three labels to strip' lw 2 pt 5, '' using 1:4 title 'not there' lw 2 pt 9"

for kind in list networks array; do
    jq -r --arg kind "$kind" '.load[] | select(.kind == $kind) | [.keys, .ms, .reference_ms] | @tsv' "$at/load.json" >"$work/$kind"
done
draw load "set logscale xy; set xlabel 'keys'; set ylabel 'ms'
plot '$work/list' using 1:2 title 'a list of names' lw 2 pt 7, '$work/list' using 1:3 title 'reading and splitting it alone' lw 2 dt 2 pt 6, \
'$work/networks' using 1:2 title 'a list of networks' lw 2 pt 9, '$work/array' using 1:2 title 'an array in TOML' lw 2 pt 5, '$work/array' using 1:3 title 'parsing it with toml alone' lw 2 dt 2 pt 4"
