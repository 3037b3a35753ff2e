#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the packages without the OpenWrt SDK: for opkg (.ipk) always, for apk (.apk) where a program apk 3 is named.
#
#	[APK=/path/to/apk] scripts/package.sh ARCH
#
#	→ target/packages/smtprelay_VERSION_ARCH.ipk		-VERSION_ARCH.apk	holds target/cross/ARCH/smtprelay
#	  target/packages/luci-app-smtprelay_VERSION_all.ipk	-VERSION_noarch.apk
#	  target/packages/smtprelay-sendmail_VERSION_all.ipk	-VERSION_noarch.apk
#	  target/packages/smtprelay-import_VERSION_all.ipk	-VERSION_noarch.apk
#	  target/packages/prometheus-node-exporter-lua-smtprelay_VERSION_all.ipk	-VERSION_noarch.apk
#
# What the packages are called, hold, keep, need and do when they are installed stands in the Makefiles in openwrt/, which
# OpenWrt's build system reads as well; scripts/feed has them write it down here. Layout, order of the members, fields and
# the scripts around those of the Makefiles are as OpenWrt's include/package-pack.mk and scripts/ipkg-build make them.
# One difference: the binary is static, the package needs no libc. The same inputs give the same bytes.
#
#	→ target/packages/smtprelay_VERSION_ARCH.symbols	names the function at an address in the log (event=crashed)
#
# PKG_RELEASE=2 and so on makes a later release of the same version.
set -eu

die() {
	echo "package.sh: $*" >&2
	exit 1
}

[ $# -eq 1 ] || die 'usage: [APK=/path/to/apk] scripts/package.sh ARCH'
arch=$1
cd "$(dirname "$0")/.."
target=$(scripts/target_dir.sh)
binary=$target/cross/$arch/smtprelay
for file in "$binary" "$binary.symbols"; do
	[ -f "$file" ] || die "$file is missing: build it with scripts/cross.sh $arch"
done
for tool in make python3 readelf c++filt; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done

# An apk package names the owner of each file as it finds it, so root has to be the owner, or to seem to be.
if [ -n "${APK:-}" ]; then
	"$APK" mkpkg --help 2>&1 | grep -q '^Usage: apk mkpkg' ||
		die "APK=$APK is no apk of version 3 (apk --version); without APK this script says where to get one"
	as_root=
	if [ "$(id -u)" != 0 ]; then
		as_root='unshare --map-root-user'
		$as_root true 2>/dev/null || die 'run as root: not even unshare --map-root-user works'
	fi
fi

: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}"
export SOURCE_DATE_EPOCH

umask 022
mkdir -p "$target/packages"
stage=$(mktemp -d "$target/packages/stage.XXXXXX")
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
chmod 0755 "$stage"
mkdir -p "$stage/build/ipkg-install/bin"
cp "$binary" "$stage/build/ipkg-install/bin/smtprelay"
for directory in openwrt openwrt/luci-app-smtprelay; do
	make --no-print-directory --silent -C "$directory" TREE="$PWD" STAGE="$stage" ARCH_PACKAGES="$arch" \
		TOPDIR="$PWD/scripts/feed" INCLUDE_DIR="$PWD/scripts/feed/include" PKG_BUILD_DIR="$stage/build" \
		${PKG_RELEASE:+PKG_RELEASE="$PKG_RELEASE"}
done

# fact NAME: what the package says of itself; nothing if it does not.
fact() {
	cat "$stage/$package/meta/$1" 2>/dev/null || :
}

# field LABEL VALUE: a line of a control file, where there is something to say.
field() {
	[ -z "$2" ] || printf '%s: %s\n' "$1" "$2"
}

# listed WORD...: with commas.
listed() {
	printf '%s\n' "$*" | sed 's/ /, /g'
}

# pack FILE NAME...: the members NAME of the current directory as a gzipped tar. zopfli writes the same format as gzip and
# looks longer for the shortest form: 40 KB of the package for mipsel_24kc.
pack() {
	archive=$1
	shift
	tar --format=gnu --sort=name --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
		-cf "$archive.tar" "$@"
	if command -v zopfli >/dev/null; then
		zopfli -c "$archive.tar" >"$archive"
	else
		gzip -9nc "$archive.tar" >"$archive"
	fi
	rm "$archive.tar"
}
command -v zopfli >/dev/null || echo 'package.sh: zopfli is not installed (Debian: zopfli): the packages become 3 % larger' >&2

finished() {
	mv "$1" "$2"
	echo "$2: $(wc -c <"$2") bytes"
}

# What every package of OpenWrt does when it comes and goes: users, alternatives, enable, start; stop, disable.
# shellcheck disable=SC2016 # for the router's shell
only_with_functions='[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh'
# shellcheck disable=SC2016
unless_told='[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0'

make_ipk() {
	own=$stage/$package
	mkdir "$own/control"
	(cd "$own/data" && pack ../data.tar.gz .)
	# shellcheck disable=SC2046 # words
	{
		field Package "$package"
		field Version "$version"
		field Depends "$(listed $(fact DEPENDS))"
		field Conflicts "$(listed $(fact CONFLICTS))"
		field Provides "$(listed $(fact PROVIDES))"
		field Alternatives "$(listed $(fact ALTERNATIVES))"
		field Source "$source"
		field SourceName "$(fact SOURCE_NAME)"
		field License "$(fact LICENSE)"
		field LicenseFiles "$(fact LICENSE_FILES)"
		field Section "$(fact SECTION)"
		field Require-User "$(fact USERID)"
		field SourceDateEpoch "$SOURCE_DATE_EPOCH"
		field URL "$(fact URL)"
		field Maintainer "$(fact MAINTAINER)"
		field Architecture "$(fact PKGARCH)"
		field Installed-Size "$(gzip -dc "$own/data.tar.gz" | wc -c | tr -d ' ')"
		echo "Description: $(fact description | sed 's/^ */ /')"
	} >"$own/control/control"
	[ ! -f "$own/meta/conffiles" ] || cp "$own/meta/conffiles" "$own/control/conffiles"
	# shellcheck disable=SC2016 # for the router's shell
	printf '#!/bin/sh\n%s\n%s\ndefault_postinst $0 $@\n' "$unless_told" "$only_with_functions" >"$own/control/postinst"
	# shellcheck disable=SC2016
	printf '#!/bin/sh\n%s\ndefault_prerm $0 $@\n' "$only_with_functions" >"$own/control/prerm"
	# These are run by the two above.
	for script in postinst prerm; do
		[ ! -f "$own/meta/$script" ] || cp "$own/meta/$script" "$own/control/$script-pkg"
	done
	chmod 0755 "$own/control/p"*
	(cd "$own/control" && pack ../control.tar.gz .)
	echo 2.0 >"$own/debian-binary"
	# tar sorts within what it is given, not what it is given: this is the order of OpenWrt's packages.
	(cd "$own" && pack package.ipk ./debian-binary ./data.tar.gz ./control.tar.gz)
	finished "$own/package.ipk" "$target/packages/${package}_${version}_$(fact PKGARCH).ipk"
}

# script NAME COMMAND: prints a script of an apk package around the Makefile's NAME.
script() {
	# shellcheck disable=SC2016 # for the router's shell
	printf '%s\nexport root="${IPKG_INSTROOT}"\nexport pkgname="%s"\n%s\n' "$only_with_functions" "$package" "$2"
	fact "$1" | sed '/^[[:blank:]]*#!/d'
}

make_apk() {
	own=$stage/$package
	facts=$own/data/lib/apk/packages
	mkdir -p "$facts" "$own/apk"
	{ echo '#!/bin/sh' && echo "$unless_told" && script postinst "$(printf 'add_group_and_user\ndefault_postinst')"; } \
		>"$own/apk/post-install"
	{ printf '#!/bin/sh\nexport PKG_UPGRADE=1\n' && sed '/^#!/d' "$own/apk/post-install"; } >"$own/apk/post-upgrade"
	{ echo '#!/bin/sh' && script prerm default_prerm; } >"$own/apk/pre-deinstall"

	# Facts of which apk itself knows nothing; OpenWrt's functions.sh and sysupgrade read them.
	[ ! -f "$own/meta/USERID" ] || cp "$own/meta/USERID" "$facts/$package.rusers"
	[ ! -f "$own/meta/ALTERNATIVES" ] || cp "$own/meta/ALTERNATIVES" "$facts/$package.alternatives"
	(cd "$own/data" && find . \( -type f -o -type l \) -printf '/%P\n' | LC_ALL=C sort) >"$own/list"
	mv "$own/list" "$facts/$package.list"
	if [ -f "$own/meta/conffiles" ]; then
		cp "$own/meta/conffiles" "$facts/$package.conffiles"
		while read -r file; do
			echo "$file $(sha256sum "$own/data$file" | cut -d ' ' -f 1)"
		done <"$own/meta/conffiles" >"$facts/$package.conffiles_static"
	fi
	find "$own/data" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

	set -- --info "name:$package" --info "version:$version" \
		--info "description:$(fact description | tr -s ' \n' ' ' | sed 's/^ //; s/ $//')" \
		--info "arch:$apk_arch" --info "license:$(fact LICENSE)" --info "origin:$source" --info "url:$(fact URL)" \
		--info "maintainer:$(fact MAINTAINER)"
	[ -z "$(fact PROVIDES)" ] || set -- "$@" --info "provides:$(fact PROVIDES)"
	set -- "$@" --script "post-install:$own/apk/post-install" --script "post-upgrade:$own/apk/post-upgrade" \
		--script "pre-deinstall:$own/apk/pre-deinstall" --info "depends:$(fact DEPENDS)"
	[ -n "$as_root" ] || chown -R 0:0 "$own/data"
	$as_root "$APK" mkpkg "$@" --files "$own/data" --output "$own/package.apk"
	finished "$own/package.apk" "$apk_package"
}

symbols=$stage/symbols
scripts/symbols.py list "$binary.symbols" >"$symbols"

for package in smtprelay luci-app-smtprelay smtprelay-sendmail smtprelay-import prometheus-node-exporter-lua-smtprelay; do
	version=$(fact VERSION)
	source=feeds/smtprelay/openwrt
	[ "$package" != luci-app-smtprelay ] || source=feeds/smtprelay/luci-app-smtprelay
	make_ipk
	apk_arch=$(fact PKGARCH)
	[ "$apk_arch" != all ] || apk_arch=noarch
	apk_package=$target/packages/$package-${version}_$apk_arch.apk
	# One that was made of another tree must not seem to belong to this one.
	rm -f "$apk_package"
	[ -z "${APK:-}" ] || make_apk
	[ "$package" != smtprelay ] || finished "$symbols" "$target/packages/${package}_${version}_$arch.symbols"
done

[ -n "${APK:-}" ] || cat <<'END'
No packages for apk (OpenWrt 25.12 and later) were made. APK=/path/to/apk names the program that makes them, apk of version
3: the SDK and the image builder of OpenWrt 25.12 have it as staging_dir/host/bin/apk, and its sources
(gitlab.alpinelinux.org/alpine/apk-tools) are built with "meson setup build && ninja -C build src/apk".
END
