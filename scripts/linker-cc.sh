#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The linker that scripts/cross.sh gives to rustc: links with zig cc, then again with the same linker and objects, and with
# options that zig cc does not accept.
#
#	ZIG='python3 -m ziglang' scripts/linker-cc.sh ARGUMENT...
#
# --icf=all                     functions with the same code are there once
# --bp-compression-sort=both    functions and data that resemble each other stand next to each other, where the package's
#                               compression finds that; 65 KB of the package for mipsel_24kc
# --pack-dyn-relocs=relr        relative relocations take a few bits each (position-independent programs)
# no .eh_frame                  unwind tables of the C library: nothing unwinds, a panic ends the program
set -eu

die() {
	echo "linker-cc.sh: $*" >&2
	exit 1
}

cc=$(env | sed -n 's/^CARGO_TARGET_[A-Z0-9_]*_LINKER=//p')
[ -x "$cc" ] || die "cargo-zigbuild names no linker in CARGO_TARGET_..._LINKER"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
ZIG_VERBOSE_LINK=1 "$cc" "$@" 2>"$said" || {
	cat "$said" >&2
	exit 1
}
# Of several commands, the one for the program: the first time zig links parts of its C library as well.
output=
previous=
for argument; do
	[ "$previous" != -o ] || output=$argument
	previous=$argument
done
command=$(grep '^ld\.lld ' "$said" | grep -F -e " -o $output ") || {
	cat "$said" >&2
	die 'zig did not print the command of its linker, as ZIG_VERBOSE_LINK=1 had it do in 0.17.1'
}
# shellcheck disable=SC2086 # zig prints the arguments without quotes; cross.sh has no paths with blanks
set -- ${command#ld.lld }
# All arguments but those that are left out, in their order.
count=$#
while [ "$count" -gt 0 ]; do
	argument=$1
	shift
	[ "$argument" = --eh-frame-hdr ] || set -- "$@" "$argument"
	count=$((count - 1))
done
case " $* " in
*' -pie '*) set -- "$@" --pack-dyn-relocs=relr ;;
esac
# shellcheck disable=SC2086 # a command with its arguments
exec $ZIG ld.lld "$@" -T scripts/no_unwind_tables.ld --icf=all --bp-compression-sort=both
