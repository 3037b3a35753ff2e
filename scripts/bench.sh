#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Measures smtprelay and the relays that it replaces, in turn in one run (tests/bench/). Nothing here is asserted.
#
# usage: [BENCH_PROGRAM=/path] scripts/bench.sh [option ...]		another build of smtprelay; the options of tests/bench/
#
# Needs root: for a network of its own, in which the name server exists and never answers, and for relays that
# change to users of their own.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
	exec unshare --net --mount "$0" inside "$@"
fi
shift
target=$(scripts/target_dir.sh)
mkdir -p "$target/bench"
# On the disk of the build, not on a RAM disk: the relays sync what they accept. Other users have to get there. An ext4 of its
# own, with a journal: what lies on this machine has its own ways, and leavings that slow it down. The mount is seen, and ends,
# in this namespace only.
scratch=$(mktemp -d "${BENCH_SCRATCH:-/var/tmp}/smtprelay-bench.XXXXXX")
chmod 755 "$scratch"
trap 'rm -rf "$scratch" "$scratch.ext4"' EXIT
PATH=$PATH:/usr/sbin:/sbin
if [ -z "${BENCH_SCRATCH:-}" ] && truncate -s 6G "$scratch.ext4" && mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$scratch.ext4" &&
	mount -o loop "$scratch.ext4" "$scratch"; then
	trap 'umount -l "$scratch"; rm -rf "$scratch" "$scratch.ext4"' EXIT
	chmod 755 "$scratch"
else
	echo "bench.sh: measuring on the file system of $scratch" >&2
fi
ip link set lo up
# A network card with a cable that leads nowhere: questions to the name server leave and nothing comes back.
ip link add dead0 type veth peer name dead1
ip addr add 192.0.2.2/24 dev dead0
ip link set dead0 up
ip link set dead1 up
ip route add default via 192.0.2.1
ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dead0
# The file that tests/bench/ fills: most loads have a name server that refuses at once, some have the dead one.
: >"$scratch/resolv.conf"
mount --bind "$scratch/resolv.conf" /etc/resolv.conf
# OpenSMTPD has its places in the program. What lies there on this machine is hidden for this run only.
mkdir "$scratch/spool" "$scratch/run" "$scratch/lib" "$scratch/work"
mount --bind "$scratch/spool" /var/spool
mount --bind "$scratch/run" /run
mount -t overlay -o "lowerdir=/var/lib,upperdir=$scratch/lib,workdir=$scratch/work" overlay /var/lib 2>/dev/null || true
export PYTHONDONTWRITEBYTECODE=1
status=0
python3 tests/bench --program "${BENCH_PROGRAM:-$target/cross/x86_64/smtprelay}" --bench "$target/release/examples/bench" \
	--servers "${SMTPRELAY_SERVERS:-$target/servers}" --scratch "$scratch" --out "$target/bench" "$@" || status=$?
umount /etc/resolv.conf /var/spool /run
umount /var/lib 2>/dev/null || true
exit $status
