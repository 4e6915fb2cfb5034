#!/usr/bin/env bash
# Gets what the rig needs onto this machine: libraries and tools from Debian's packages, and sendmail and Postfix themselves.
#
# Promises: changes nothing when all is there already, and is quick then. Needs root or sudo for apt-get only.
# Must not: install an MTA, or anything that starts by itself. It would put itself in place of the one the machine has, and
# two MTAs cannot be there at once; so their packages are only unpacked, into cache folders under target/, and run
# from there; so are others.
set -euo pipefail
cd "$(dirname "$0")/.."

# What is installed: no service, no MTA, nothing that starts by itself.
packages=(
    ca-certificates            # cargo's downloads
    gcc libc6-dev              # Rust's linker; C parts of crates
    g++                        # libFuzzer, which is built with the fuzz targets
    pkg-config libssl-dev      # the rig's SMTP client speaks TLS by OpenSSL, which can still do the weak ciphers
    iproute2                   # the loopback device of the private network
    m4                         # sendmail.mc to sendmail.cf
    libicu72                   # what Postfix is linked with, beside what sendmail is
    libdb5.3 libldap-2.5-0 liblockfile1 libnsl2 libsasl2-2 libssl3 libwrap0 # what sendmail is linked with
    chromium                   # the report as a page, in a real browser; headless
    fonts-dejavu-core          # letters for it: without any, all text has no width
    libmilter-dev              # the same decision in C, for the benchmark of sessions
    libfaketime                # clocks that are set while the daemon runs
    valgrind                   # callgrind counts instructions (bench/counts.rs)
    libsasl2-modules libsasl2-modules-db # AUTH PLAIN, and the user file behind it
    libestr0 libfastjson4 liblognorm5 libpopt0 # what rsyslogd and logrotate are linked with
    systemd                    # its journald, which the rig runs by itself; a machine that has booted without it stays so
    debootstrap systemd-container # the booted machine (integration/machine.rs)
    dpkg-dev lintian           # the package: what it depends on, and what is to be remarked
    man-db mandoc              # the manual, shown and remarked upon
    zsh fish                   # the completions, in each shell (bash is there)
)

# What is on the machine that is booted: a Debian 12 with sendmail, and what encr-milter's package depends on, for there is
# no way out of it.
booted=(
    systemd systemd-sysv dbus  # what boots it
    sendmail-bin sendmail-cf make m4 openssl # the MTA as an administrator of Debian has it
    adduser init-system-helpers libc6 libssl3 libgcc-s1 # what the package depends on
    logrotate                  # what it recommends
)

rig=${CARGO_TARGET_DIR:-target}/rig

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -- "$@"; fi
}

# apt-get update is asked for once, and only when something is to be fetched.
apt_updated=
apt_update() {
    [ -n "$apt_updated" ] || as_root apt-get -qq update
    apt_updated=yes
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}" >&2
    apt_update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" >&2
fi

# unpack ROOT PACKAGE…: the mark is the last thing written, so that a run that was cut short is done again from the
# start.
unpack() {
    local root=$1 package
    # Not local: the trap looks for it from outside.
    fresh=$1.$$
    shift
    [ ! -e "$root/.complete" ] || return 0
    echo "setup: unpacking $* into $root" >&2
    apt_update
    trap 'rm -rf "$fresh"' EXIT
    mkdir -p "$fresh/packages"
    # As root apt would fetch as the user _apt, who may not write here; that is no error, only a warning.
    (cd "$fresh/packages" && apt-get -qq -o APT::Sandbox::User=root download "$@")
    for package in "$fresh"/packages/*.deb; do
        dpkg-deb -x "$package" "$fresh"
    done
    rm -r "$fresh/packages"
    touch "$fresh/.complete"
    rm -rf "$root"
    mv "$fresh" "$root"
    trap - EXIT
}

unpack "$rig/sendmail-root" sendmail-bin sendmail-base sendmail-cf sasl2-bin
unpack "$rig/postfix-root" postfix
# Installed, the one would take over /dev/log, and the other would rotate the machine's logs.
unpack "$rig/logging-root" rsyslog logrotate
# A Prometheus that is installed would run as a service of this machine.
unpack "$rig/prometheus-root" prometheus

machine=$rig/machine
if [ ! -e "$machine/.complete" ]; then
    echo "setup: making the machine that is booted in $machine" >&2
    apt_update
    as_root rm -rf --one-file-system "$machine"
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    include=$(IFS=,; echo "${booted[*]}")
    mkdir -p "${machine%/*}"
    # Hundreds of lines that nobody wants to see, as long as it works.
    log=$machine.log
    if ! as_root debootstrap --variant=minbase --include="$include" bookworm "$machine" \
        "${mirror:-http://deb.debian.org/debian}" >"$log" 2>&1; then
        cat "$log" >&2
        echo "setup: debootstrap has failed; what it said stands above, and in $log" >&2
        exit 1
    fi
    as_root rm -rf "$machine"/var/cache/apt/archives "$machine"/var/lib/apt/lists
    as_root touch "$machine/.complete"
fi
