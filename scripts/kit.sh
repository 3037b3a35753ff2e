#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# For scripts that make a virtual machine out of Debian's packages, to be read with ".". They set before:
#
#	work		the folder that everything goes to, below target/
#	tree		what becomes the initramfs, when it comes to that
#	apt_options	options for apt-get and apt-cache, if any
#
# The packages are unpacked in $work: nothing is installed, and nothing of this machine's own boot set-up is touched.

# shellcheck shell=dash
# shellcheck disable=SC2154 # work and tree are the caller's

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# apt COMMAND ARGUMENT...: apt-get or apt-cache with the options.
apt() {
	tool=$1
	shift
	# shellcheck disable=SC2086 # options are words
	"$tool" ${apt_options:-} "$@"
}

download() {
	(cd "$work/download" && apt apt-get download -qq "$1" 2>"$work/download.log")
}

# kernel_of PACKAGE: sets $kernel, the package of the kernel that this one stands for.
kernel_of() {
	command -v apt-get >/dev/null || die "this needs Debian's apt-get, for kernel and busybox"
	apt apt-cache show "$1" >/dev/null 2>&1 || apt apt-get update >/dev/null || die "run 'apt-get update' as root"
	kernel=$(apt apt-cache depends --important "$1" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$kernel" ] || die "can't tell which kernel $1 stands for"
}

# fetch PACKAGE: unpacks it into $work/PACKAGE, once for each version.
fetch() {
	version=$(apt apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p')
	[ -n "$version" ] || die "apt knows no package $1: this needs Debian, and 'apt-get update' before"
	[ "$(cat "$work/$1/.version" 2>/dev/null)" = "$version" ] && return
	echo "${0##*/}: fetching $1 $version" >&2
	rm -rf "${work:?}/$1" "$work/download"
	mkdir -p "$work/$1" "$work/download"
	download "$1" || { apt apt-get update >/dev/null && download "$1"; } || {
		cat "$work/download.log" >&2
		die "can't download $1"
	}
	dpkg -x "$work/download/"*.deb "$work/$1"
	rm -rf "$work/download"
	echo "$version" >"$work/$1/.version"
}

# add_modules NAME...: into $tree/modules in this order, without those that are in the kernel.
add_modules() {
	modules=$(echo "$work/$kernel"/*/modules/*)
	[ -d "$modules" ] || modules=$(echo "$work/$kernel"/usr/lib/modules/*)
	for module in "$@"; do
		file=$(find "$modules" -name "$module.ko" | head -n 1)
		if [ -n "$file" ]; then
			cp "$file" "$tree/modules/"
			echo "$module" >>"$tree/modules/order"
		else
			grep -q "/$module\\.ko\$" "$modules/modules.builtin" || die "no module $module in $kernel"
		fi
	done
}

# add_busybox DIRECTORY APPLET...: busybox and its names, below $tree.
add_busybox() {
	directory=$tree/$1
	shift
	find "$work/busybox-static" -name busybox -type f -perm -100 -exec cp {} "$directory/busybox" \;
	for applet in "$@"; do
		ln -s busybox "$directory/$applet"
	done
}

# pack_tree ARCHIVE BUSYBOX: makes $work/ARCHIVE of $tree, for the kernel to unpack.
pack_tree() {
	(cd "$tree" && find . | "$2" cpio -o -H newc 2>/dev/null) >"$work/$1.new"
	mv "$work/$1.new" "$work/$1"
}
