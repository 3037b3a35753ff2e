#!/bin/sh
# Packs target/cross/ARCH/smtprelay and files/ as an .ipk for opkg, without the OpenWrt SDK.
#
#	scripts/package.sh ARCH		→ target/packages/smtprelay_VERSION-1_ARCH.ipk
#
# The layout, the order of the members and the control fields are those of OpenWrt's scripts/ipkg-build and
# include/package-pack.mk. What the package is called, says, keeps and needs is read from openwrt/Makefile, so that
# both ways of building give the same package. One difference: the binary is static, the package needs no libc.
# The same inputs give the same bytes.
set -eu

RELEASE=1

die() {
	echo "package.sh: $*" >&2
	exit 1
}

[ $# -eq 1 ] || die "usage: scripts/package.sh ARCH"
arch=$1
cd "$(dirname "$0")/.."
binary=target/cross/$arch/smtprelay
[ -f "$binary" ] || die "$binary is missing: build it with scripts/cross.sh $arch"

: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}"
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ -n "$version" ] || die "Cargo.toml names no version"

# field NAME: what openwrt/Makefile sets NAME to.
field() {
	value=$(sed -n "s/^ *$1:=//p" openwrt/Makefile)
	[ -n "$value" ] || die "openwrt/Makefile does not set $1"
	printf '%s\n' "$value"
}

# block NAME: the lines that openwrt/Makefile defines as Package/smtprelay/NAME.
block() {
	sed -n "/^define Package\/smtprelay\/$1\$/,/^endef\$/{/^define/d;/^endef/d;p;}" openwrt/Makefile
}

# pack FILE NAME...: the members NAME of the current directory as a gzipped tar.
pack() {
	archive=$1
	shift
	tar --format=gnu --sort=name --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
		-cf - "$@" | gzip -9n >"$archive"
}

umask 022
mkdir -p target/packages
stage=$(mktemp -d target/packages/stage.XXXXXX)
trap 'rm -rf "$stage"' EXIT
trap 'exit 1' HUP INT TERM
chmod 0755 "$stage"
mkdir "$stage/data" "$stage/control"

install -D -m 0755 "$binary" "$stage/data/usr/sbin/smtprelay"
install -D -m 0755 files/etc/init.d/smtprelay "$stage/data/etc/init.d/smtprelay"
install -D -m 0644 files/etc/capabilities/smtprelay.json "$stage/data/etc/capabilities/smtprelay.json"
for kind in iface ntp; do
	install -D -m 0644 "files/etc/hotplug.d/$kind/95-smtprelay" "$stage/data/etc/hotplug.d/$kind/95-smtprelay"
done
# Logins with tokens, and a queue that was put there, outlast a new firmware.
install -D -m 0644 files/lib/upgrade/keep.d/smtprelay "$stage/data/lib/upgrade/keep.d/smtprelay"
# Passwords will be in it.
install -D -m 0600 files/etc/config/smtprelay "$stage/data/etc/config/smtprelay"
(cd "$stage/data" && pack ../data.tar.gz .)

# opkg's Depends are the plain names among the Makefile's: no conditions (@, $), no plus sign.
depends=$(field DEPENDS | tr ' ' '\n' | sed -n 's/^+//p' | tr '\n' ',' | sed 's/,$//; s/,/, /g')
cat >"$stage/control/control" <<EOF
Package: $(field PKG_NAME)
Version: $version-$RELEASE
Depends: $depends
Source: feeds/smtprelay/openwrt
SourceName: $(field PKG_NAME)
License: $(field PKG_LICENSE)
LicenseFiles: $(field PKG_LICENSE_FILES)
Section: $(field SECTION)
Require-User: $(field USERID)
SourceDateEpoch: $SOURCE_DATE_EPOCH
Architecture: $arch
Installed-Size: $(gzip -dc "$stage/data.tar.gz" | wc -c | tr -d ' ')
Description: $(block description | sed 's/^ */ /')
EOF
block conffiles >"$stage/control/conffiles"
# Scripts that every OpenWrt package has: the user of Require-User, enable and start; stop and disable.
cat >"$stage/control/postinst" <<'EOF'
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
EOF
cat >"$stage/control/prerm" <<'EOF'
#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
EOF
chmod 0755 "$stage/control/postinst" "$stage/control/prerm"
(cd "$stage/control" && pack ../control.tar.gz .)

echo 2.0 >"$stage/debian-binary"
package=target/packages/smtprelay_$version-${RELEASE}_$arch.ipk
# tar sorts within what it is given, not what it is given: this is the order of OpenWrt's packages.
(cd "$stage" && pack package.ipk ./debian-binary ./data.tar.gz ./control.tar.gz)
mv "$stage/package.ipk" "$package"
echo "$package: $(wc -c <"$package") bytes"
