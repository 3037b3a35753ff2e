#!/rom/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of the router of `make test-router`: brings up flash and network as OpenWrt does, installs the package
# when the flash is empty, and becomes tests/router/procd.sh.
#
# The kernel's command line names, as variables: the file system (`system`), where in memory the flash and the package begin
# and their sizes in bytes. /settings holds the gateway's settings and the CA of its provider.

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
# load FILE: the modules that it names.
load() {
	while read -r module; do
		case "$module" in
		phram)
			set -- "phram=flash,$flash,$flash_size,0x10000" "phram=package,$package,$package_room,0x10000"
			;;
		ubi) set -- mtd=0 ;;
		*) set -- ;;
		esac
		insmod "/modules/$module.ko" "$@" || give_up "insmod $module"
	done <"$1"
}
load /modules/order

# The flash and its file system, for an overlay: /rom is OpenWrt's squashfs.
case "$system" in
jffs2)
	load /modules/more
	mount -t jffs2 -o noatime mtd0 /overlay || give_up 'mount mtd0 (jffs2)'
	;;
ubifs)
	# phram does not say how much is written at once, and UBI takes no flash without that: the test writes it into the
	# kernel's memory, and an empty line on the console.
	echo 'router: phram is loaded'
	read -r _
	load /modules/more
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

# of_package NAME: a member of the package. It is no file here: that would take memory.
of_package() {
	head -c "$package_size" /dev/mtd1 | gunzip -c | tar -x -O -f - "./$1"
}

# As opkg does it: the package's files, and the user that it asks for.
if [ -n "${new:-}" ]; then
	of_package data.tar.gz | gunzip -c | tar -x -C /router -f - || give_up 'install the package'
	require=$(of_package control.tar.gz | gunzip -c | tar -x -O -f - ./control | sed -n 's/^Require-User: //p')
	user=${require%%=*} ids=${require#*=}
	echo "$user:x:${ids%%:*}:${ids##*=}:$user:/var/run/$user:/bin/false" >>/router/etc/passwd
	echo "$user:x:${ids##*=}:" >>/router/etc/group
	# As uci does it.
	cat /settings/smtprelay.conf >/router/etc/config/smtprelay
	cat /settings/ca.pem >/router/etc/powercut/ca.pem
	sync
fi
rm -r /settings

# Other relays, for `make bench-router`.
if [ -d /peers ]; then
	mkdir -p /router/peers
	mount -o bind /peers /router/peers
	mount -t proc proc /router/peers/proc
	mount -t devtmpfs dev /router/peers/dev
fi

ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2

exec chroot /router /sbin/procd
