# A machine of the rig's own: run as process 1 of private mount, network, UTS and PID namespaces, with the
# command to run there as arguments. rig/namespace.rs says how it is called.
#
# Promises: every change made here is to the namespaces, and is gone with them: names, addresses, /etc, /dev/log
# and all files under /run (TMPDIR). There is no way out to any network.
# Must not: run outside of them. The first command fails there, and ends it.
set -eu

[ $$ -eq 1 ] || { echo "rig: not process 1 of a PID namespace of its own" >&2; exit 1; }

# All of the rig's files live in memory. Not /tmp: sendmail distrusts what lies under a world-writable folder, and
# the program that is being run may lie there itself.
mount -t tmpfs -o mode=755,size=2g rig /run
mkdir /run/tmp /run/dev
export TMPDIR=/run/tmp

# A copy of /etc that can be written to. OpenSSL's system-wide minimum (Debian: TLS 1.2, level 2) is taken away, for
# weak sessions are what the rig is for.
cp -a /etc /run/etc
mount --bind /run/etc /etc
ln -sfn /proc/self/mounts /etc/mtab
# Without /etc/localtime it is UTC: what stands in the log does not depend on where one is.
rm -f /etc/localtime
rm -f /etc/hosts /etc/nsswitch.conf /etc/resolv.conf /etc/host.conf
echo 'hosts: files' >/etc/nsswitch.conf
printf '%s\n' 'passwd: files' 'group: files' >>/etc/nsswitch.conf
# Off, so that a name may have one address forwards and another backwards: {client_resolve} is FORGED then.
echo 'multi off' >/etc/host.conf
# Postfix is not installed, and so its users are not there.
grep -q '^postfix:' /etc/passwd || echo 'postfix:x:6101:6101::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
grep -q '^postfix:' /etc/group || echo 'postfix:x:6101:' >>/etc/group
grep -q '^postdrop:' /etc/group || echo 'postdrop:x:6102:' >>/etc/group
# Its processes read this one in their chroot; a bare Debian has it from a package that need not be there.
[ -e /etc/services ] || : >/etc/services
: >/etc/resolv.conf
mkdir -p /etc/ssl
printf '%s\n' 'openssl_conf = conf' '[conf]' 'ssl_conf = ssl' '[ssl]' 'system_default = system' '[system]' \
    'MinProtocol = TLSv1' 'CipherString = ALL:eNULL:@SECLEVEL=0' >/etc/ssl/openssl.cnf
cat >/etc/hosts <<'HOSTS'
127.0.0.1   localhost
127.0.0.25  mail.rig.example
127.0.0.2   mx.partner.example
127.0.0.3   old.relay.partner.example
127.0.0.4   mx.other.example
127.0.0.5   mx.notpartner.example
127.0.0.6   MX.Shouting.Example
127.0.0.7   xn--mx-yka.example
127.0.0.88  liar.partner.example
127.0.0.8   liar.partner.example
fd00::2     six.partner.example
fd00::3     mail.partner.example
fd00::4     mail.other.example
HOSTS
# 127.0.0.9, 127.0.0.99 and fd00::9 have no name.
# Where mail goes: see rig/peers.mc.
cat >>/etc/hosts <<'HOSTS'
127.0.0.41  clear.peer.example
127.0.0.42  null.peer.example
127.0.0.43  aes128.peer.example
127.0.0.44  aes256.peer.example
127.0.0.45  aes128-13.peer.example
127.0.0.46  aes256-13.peer.example
127.0.0.47  self-signed.peer.example
127.0.0.48  broken.peer.example
127.0.0.49  busy.peer.example
127.0.0.50  long.peer.example
fd00::44    six.peer.example
HOSTS

hostname mail.rig.example
ip link set lo up
for host in 2 3 4 9 25 44; do ip -6 address add fd00::$host/128 dev lo nodad; done
ip -6 address add fd00:0:0:7::9/128 dev lo nodad

# A /dev of its own, so that /dev/log is the rig's: whether the machine has one must not matter.
for device in null zero full random urandom tty; do
    touch /run/dev/$device
    mount --bind /dev/$device /run/dev/$device
done
ln -s /proc/self/fd /run/dev/fd
mount --rbind /run/dev /dev

# Not exec: process 1 stays to take in orphans, and dies with its child, which ends all the others.
"$@"
exit $?
