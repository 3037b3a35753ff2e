#!/rom/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of the router of `make test-router`: brings up flash and network as OpenWrt does, installs the package
# when the flash is empty, and becomes tests/router/procd.sh.
#
# The kernel's command line names, as variables: the file system (`system`), where in memory the flash begins and its size
# in bytes (`flash`, `flash_size`). /settings holds the gateway's settings and the CA of its provider.

# shellcheck disable=SC2154 # the variables of the kernel's command line

PATH=/rom/bin
export PATH

# Without this the kernel would panic when the first program ends, and its words would hide the reason.
give_up() {
	echo "router: failed: $*"
	reboot -f
}

mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module; do
	case "$module" in
	phram) insmod /modules/phram.ko "phram=flash,$flash,$flash_size,0x10000" ;;
	jffs2 | ubi | ubifs) ;;
	*) insmod "/modules/$module.ko" ;;
	esac || give_up "insmod $module"
done </modules/order

# The flash and its file system, for an overlay: /rom is OpenWrt's squashfs.
case "$system" in
jffs2)
	insmod /modules/jffs2.ko || give_up 'insmod jffs2'
	mount -t jffs2 -o noatime mtd0 /overlay || give_up 'mount mtd0 (jffs2)'
	;;
ubifs)
	# phram does not say how much is written at once, and UBI takes no flash without that: the test writes it into the
	# kernel's memory, and an empty line on the console.
	echo 'router: phram is loaded'
	read -r module
	insmod /modules/ubi.ko mtd=0 || give_up 'insmod ubi'
	insmod /modules/ubifs.ko || give_up 'insmod ubifs'
	mount -t ubifs -o noatime ubi0:rootfs_data /overlay || give_up 'mount ubi0:rootfs_data (ubifs)'
	;;
esac
# What lies in this file system takes memory.
rm -r /modules

[ -d /overlay/work ] || new=1
mkdir -p /overlay/upper /overlay/work
mount -t overlay -o noatime,lowerdir=/rom,upperdir=/overlay/upper,workdir=/overlay/work overlayfs:/overlay /router ||
	give_up 'mount the overlay'
mount -t proc proc /router/proc
mount -t devtmpfs dev /router/dev
mount -t tmpfs -o nosuid,nodev tmpfs /router/tmp

# As opkg does it: the user that the package asks for, and its files.
if [ -n "${new:-}" ]; then
	gunzip -c /package/data.tar.gz | tar -x -C /router || give_up 'install the package'
	require=$(sed -n 's/^Require-User: //p' /package/control)
	user=${require%%=*} ids=${require#*=}
	echo "$user:x:${ids%%:*}:${ids##*=}:$user:/var/run/$user:/bin/false" >>/router/etc/passwd
	echo "$user:x:${ids##*=}:" >>/router/etc/group
	# As uci does it.
	cat /settings/smtprelay.conf >/router/etc/config/smtprelay
	cat /settings/ca.pem >/router/etc/powercut/ca.pem
	sync
fi
rm -r /package /settings

ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

exec chroot /router /sbin/procd
