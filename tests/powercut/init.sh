#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The first and only program of the virtual machine of `make test-powercut`: brings up disk and network, then becomes
# the gateway. /dev/vda is the disk that survives the cut, /dev/vdb a tar file with the settings.
#
# The gateway's log and a few lines of this script, marked "powercut:", go to the serial console.

PATH=/bin
export PATH

# Without this the kernel would panic when the first program ends, and its words would hide the reason.
give_up() {
	echo "powercut: failed: $*"
	poweroff -f
}

mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do
	insmod "/modules/$module.ko" || give_up "insmod $module"
done </modules/order

mkdir -p /etc/powercut /safe /spool
tar -x -C /etc/powercut -f /dev/vdb || give_up 'no settings on the second disk'

ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
# The provider's certificate is for this name, and the provider is on the machine around this one.
echo '10.0.2.2 localhost' >/etc/hosts

# Harder than usual: what nobody syncs is written soon and in the kernel's order, but committed late; a renamed file's
# content is not written ahead of its name. Where the size of a file is kept in the directory, the kernel writes inodes
# between the syncs of the program all the time: a sync that relies on their being dirty loses mail there.
options=noatime
period=3
expire=5
read -r system </etc/powercut/system
if [ "$system" = ext4 ]; then
	options=noatime,noauto_da_alloc,commit=30
	period=20
	expire=50
fi
# Without a journal there is no time for its commits.
[ "$system" = plain ] && system=ext4
echo "$period" >/proc/sys/vm/dirty_writeback_centisecs
echo "$expire" >/proc/sys/vm/dirty_expire_centisecs
mount -t "$system" -o "$options" /dev/vda /safe || give_up "mount /dev/vda ($system)"
mount -t tmpfs tmpfs /spool

# Says which messages have left the RAM disk: delivered, or moved to the disk that survives. The new list is made before
# the old one is looked through, so that what vanishes in between is missed by neither; it may be told twice.
watch_spool() {
	new=
	while sleep 0.2; do
		old=$new
		set -- /spool/queue/*.msg
		[ "$*" = '/spool/queue/*.msg' ] && set --
		new=$*
		for file in $old; do
			[ -e "$file" ] || echo "powercut: gone ${file##*/}"
		done
	done
}
watch_spool &

smtprelay run --foreground --config /etc/powercut/smtprelay.conf
give_up "the gateway ended with exit code $?"
