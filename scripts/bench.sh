#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Figures of the program on this machine: how fast the greeting comes while the name service is dead, how many mails a
# second are accepted, how much memory it takes. Nothing here is asserted.
#
# Needs root for a network of its own, in which the name server exists and never answers.
set -eu
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
	exec unshare --net --mount "$0" inside
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ip link set lo up
# A network card with a cable that leads nowhere: questions to the name server leave and nothing comes back.
ip link add dead0 type veth peer name dead1
ip addr add 192.0.2.2/24 dev dead0
ip link set dead0 up
ip link set dead1 up
ip route add default via 192.0.2.1
ip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dead0
echo 'nameserver 192.0.2.53' >"$scratch/resolv.conf"
mount --bind "$scratch/resolv.conf" /etc/resolv.conf
target=$(scripts/target_dir.sh)
python3 tests/bench.py "$target/release/smtprelay" "$target/release/examples/provider" "$scratch"
umount /etc/resolv.conf
