#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The linker that scripts/cross.sh gives to rustc: links with zig cc, then again with the same linker and objects, and with
# options that zig cc does not accept.
#
#	ZIG='python3 -m ziglang' [SMTPRELAY_SYMBOLS=FILE] [SMTPRELAY_HOT=LIST | SMTPRELAY_RESEMBLANCE=1]
#		[SMTPRELAY_MEMORY=OBJECT] scripts/linker-cc.sh ARGUMENT...
#
# FILE becomes the same program with its symbols; LIST has the functions that run. With SMTPRELAY_RESEMBLANCE the order of
# the functions is that of scripts/resemblance.py. OBJECT has memcpy and memset.
#
# --icf=all                     functions with the same code are there once
# --bp-compression-sort=both    functions and data that resemble each other stand next to each other, where the package's
#                               compression finds that; 65 KB of the package for mipsel_24kc
# --symbol-ordering-file        functions of LIST stand before the others, in the order above: memory holds the pages of the
#                               program that are used, and those around them. Or the order in which more is found than
#                               in the linker's own, 17 KB of the package for mipsel_24kc
# tables.ld                     with LIST, the tables of ring's arithmetic, which are half of all constants, stand behind the
#                               others, and functions of zig's C library, of which some have no symbol, before the others
# --pack-dyn-relocs=relr        relative relocations take a few bits each (position-independent programs)
# no .eh_frame                  unwind tables of the C library: nothing unwinds, a panic ends the program
set -eu

die() {
	echo "linker-cc.sh: $*" >&2
	exit 1
}

cc=$(env | sed -n 's/^CARGO_TARGET_[A-Z0-9_]*_LINKER=//p')
[ -x "$cc" ] || die "cargo-zigbuild names no linker in CARGO_TARGET_..._LINKER"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
said=$work/said
ZIG_VERBOSE_LINK=1 "$cc" "$@" 2>"$said" || {
	cat "$said" >&2
	exit 1
}
# Of several commands, the one for the program: the first time zig links parts of its C library as well.
output=
builtins=
previous=
for argument; do
	[ "$previous" != -o ] || output=$argument
	case "$argument" in *libcompiler_builtins-*.rlib) builtins=$argument ;; esac
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
	case "$argument" in
	--eh-frame-hdr | --strip-all | -s) ;;
	*) set -- "$@" "$argument" ;;
	esac
	count=$((count - 1))
done
case " $* " in
*' -pie '*) set -- "$@" --pack-dyn-relocs=relr ;;
esac
# First, so that memcpy is the one of Rust's: zig's copies byte by byte, and for some targets cargo-zigbuild leaves out
# Rust's library. What is in OBJECT comes before both.
set -- ${SMTPRELAY_MEMORY:+"$SMTPRELAY_MEMORY"} ${builtins:+"$builtins"} "$@" -T scripts/no_unwind_tables.ld --bp-compression-sort=both

# link ARGUMENT...: what comes later replaces what came earlier.
arguments=$*
link() {
	# shellcheck disable=SC2086 # see above
	$ZIG ld.lld $arguments "$@"
}
symbols=${SMTPRELAY_SYMBOLS:-$work/symbols}
set -- --icf=all
if [ -n "${SMTPRELAY_HOT:-}${SMTPRELAY_RESEMBLANCE:-}" ]; then
	if [ -n "${SMTPRELAY_HOT:-}" ]; then
		set -- "$@" -T scripts/tables.ld
		# All functions, in the order that compresses best as far as the linker knows.
		link -o "$work/all"
		scripts/symbols.py order "$work/all" "$SMTPRELAY_HOT" >"$work/order"
	else
		link "$@" -o "$work/all"
		scripts/resemblance.py "$work/all" >"$work/order"
	fi
	set -- "$@" --symbol-ordering-file="$work/order" --no-warn-symbol-ordering
fi
link "$@" -o "$symbols"
link "$@" --strip-all
