#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the packages that scripts/package.sh has made with the real package managers, into fresh roots.
#
#	[APK=/path/to/apk] [OPKG=/path/to/opkg] tests/package_install.sh ARCH...
#
# What is not named is skipped, and it is said how much that was. apk needs root, or unshare to seem to be root.
set -eu

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)-r1
packages=$(scripts/target_dir.sh)/packages
names='smtprelay luci-app-smtprelay smtprelay-sendmail smtprelay-import prometheus-node-exporter-lua-smtprelay'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0
skipped=0

subject() {
	echo "$arch"
}

# shellcheck source=tests/package_checks.sh
. tests/package_checks.sh

# tree ROOT: its files with mode and content, without what the package manager writes down for itself.
tree() {
	(
		cd "$1"
		find . \( -path ./lib/apk -o -path ./etc/apk -o -path ./usr/lib/opkg -o -path ./var -o -path ./tmp \
			-o -name 'root:' -o -path ./lib/functions.sh \) -prune -o -type f -printf '%m %p ' -exec sh -c \
			'sha256sum <"$0"' {} \; | sort -k 2
	)
}

# wanted ARCH: what tree has to say, from the data of the .ipk files.
wanted() {
	mkdir -p "$work/$1/wanted"
	for name in $names; do
		kind=all
		[ "$name" != smtprelay ] || kind=$1
		tar -xOzf "$packages/${name}_${version}_$kind.ipk" ./data.tar.gz | tar -C "$work/$1/wanted" -xzpf -
	done
	tree "$work/$1/wanted"
}

# ROOT/lib/functions.sh with stand-ins for OpenWrt's functions that run what the real ones run and write it down.
functions() {
	mkdir -p "$1/lib"
	cat >"$1/lib/functions.sh" <<-'END'
		called() { echo "$*" >>"$CALLS"; }
		own() {
			called "$1 $2"
			[ ! -f "$IPKG_INSTROOT/usr/lib/opkg/info/$2.$1-pkg" ] || (. "$IPKG_INSTROOT/usr/lib/opkg/info/$2.$1-pkg")
		}
		name_of() { basename "${1%.*}"; }
		add_group_and_user() { called "users $pkgname $(cat "$root/lib/apk/packages/$pkgname.rusers" 2>/dev/null)"; }
		default_postinst() { own postinst "${pkgname:-$(name_of "$1")}"; }
		default_prerm() { own prerm "${pkgname:-$(name_of "$1")}"; }
	END
}

links() {
	(cd "$1" && find . -type l -printf '%p %l\n' | sort)
}

# --- opkg

opkg() {
	env IPKG_INSTROOT="$root" CALLS="$root.calls" "$OPKG" -f /dev/null --force-postinstall --lists-dir "root:/tmp" -o "$root" \
		--add-dest root:/ --add-arch "$arch:10" --add-arch all:1 "$@"
}

check_opkg() {
	root=$work/$arch/opkg
	mkdir -p "$root/tmp" "$root/var/lock" "$root/usr/lib/opkg/info" "$root/usr/bin"
	# What the packages need and is not ours.
	for name in ca-bundle luci-base prometheus-node-exporter-lua; do
		printf 'Package: %s\nVersion: 1\nStatus: install user installed\nArchitecture: all\n\n' "$name" \
			>>"$root/usr/lib/opkg/status"
		: >"$root/usr/lib/opkg/info/$name.list"
	done
	functions "$root"
	(
		cd "$work" # opkg makes folders here
		opkg install "$packages/smtprelay_${version}_$arch.ipk" "$packages/luci-app-smtprelay_${version}_all.ipk" \
			"$packages/smtprelay-sendmail_${version}_all.ipk" "$packages/smtprelay-import_${version}_all.ipk" \
			"$packages/prometheus-node-exporter-lua-smtprelay_${version}_all.ipk"
	) >"$work/said" 2>&1 || true
	equal 'opkg install' "luci-app-smtprelay - $version
prometheus-node-exporter-lua-smtprelay - $version
smtprelay - $version
smtprelay-import - $version
smtprelay-sendmail - $version" "$(cd "$work" && opkg list-installed | grep smtprelay)"
	equal 'what opkg installs' "$wanted" "$(tree "$root")"
	equal 'scripts that opkg runs' 'postinst luci-app-smtprelay
postinst prometheus-node-exporter-lua-smtprelay
postinst smtprelay
postinst smtprelay-import
postinst smtprelay-sendmail' "$(sort "$root.calls")"
	equal 'links that opkg makes' './usr/bin/mailq /usr/sbin/smtprelay
./usr/bin/msmtp /usr/sbin/smtprelay
./usr/lib/sendmail /usr/sbin/smtprelay
./usr/sbin/postqueue /usr/sbin/smtprelay
./usr/sbin/sendmail /usr/sbin/smtprelay' "$(links "$root")"
	echo '# mine' >>"$root/etc/config/smtprelay"
	(cd "$work" && opkg remove prometheus-node-exporter-lua-smtprelay smtprelay-import smtprelay-sendmail luci-app-smtprelay smtprelay) >"$work/said" 2>&1 || true
	equal 'what opkg leaves' './etc/config/smtprelay' "$(tree "$root" | cut -d ' ' -f 2)"
	equal 'links that opkg leaves' '' "$(links "$root")"
}

# --- apk

apk() {
	# shellcheck disable=SC2086 # words, or none
	env IPKG_INSTROOT="$root" CALLS="$root.calls" $as_root "$APK" --root "$root" --arch "$arch" --allow-untrusted \
		--no-network --repositories-file /dev/null --no-scripts "$@"
}

# run_scripts KIND NAME...: those that apk keeps, for it runs them only where it can change its root.
run_scripts() {
	kind=$1
	shift
	for name in "$@"; do
		tar -xOzf "$root/lib/apk/db/scripts.tar.gz" --wildcards "$name-$version.*.$kind" >"$work/script"
		succeeds "shellcheck $kind of $name" shellcheck -s dash -e SC1090,SC1091,SC2086 "$work/script"
		succeeds "$kind of $name" env IPKG_INSTROOT="$root" CALLS="$root.calls" busybox ash "$work/script"
	done
}

check_apk() {
	root=$work/$arch/apk
	mkdir -p "$root/usr/bin"
	"$APK" mkpkg --info name:others --info version:1-r1 --info arch:noarch --info description:others \
		--info 'provides:luci-base ca-bundle prometheus-node-exporter-lua' --output "$work/others.apk"
	succeeds 'apk add' apk --initdb add "$work/others.apk" "$packages/smtprelay-${version}_$arch.apk" \
		"$packages/luci-app-smtprelay-${version}_noarch.apk" "$packages/smtprelay-sendmail-${version}_noarch.apk" \
		"$packages/smtprelay-import-${version}_noarch.apk" \
		"$packages/prometheus-node-exporter-lua-smtprelay-${version}_noarch.apk"
	equal 'what apk installs' "$wanted" "$(tree "$root")"
	equal 'who owns what apk installs' '' "$(find "$root/usr" "$root/www" "$root/etc/config" ! -uid "$(id -u)")"
	facts=$root/lib/apk/packages
	equal 'the user' smtprelay=465:smtprelay=465 "$(cat "$facts/smtprelay.rusers")"
	equal 'conffiles' /etc/config/smtprelay "$(cat "$facts/smtprelay.conffiles")"
	equal 'conffiles as they were' \
		"/etc/config/smtprelay $(sha256sum <files/etc/config/smtprelay | cut -d ' ' -f 1)" \
		"$(cat "$facts/smtprelay.conffiles_static")"
	equal 'the list of files' "$(cd "$root" && echo /lib/apk/packages/smtprelay.rusers && cd "$OLDPWD" &&
		tar -xOzf "$packages/smtprelay_${version}_$arch.ipk" ./data.tar.gz | tar -tz | sed -n 's,^\.\(.*[^/]\)$,\1,p')" \
		"$({ grep /lib/apk "$facts/smtprelay.list" && grep -v /lib/apk "$facts/smtprelay.list"; } || true)"
	equal 'alternatives' '200:/usr/sbin/sendmail:/usr/sbin/smtprelay 200:/usr/lib/sendmail:/usr/sbin/smtprelay '\
'200:/usr/bin/mailq:/usr/sbin/smtprelay 200:/usr/sbin/postqueue:/usr/sbin/smtprelay' "$(cat "$facts/smtprelay-sendmail.alternatives")"

	for name in $names; do
		kind=noarch
		depends=smtprelay
		case "$name" in
		smtprelay) kind=$arch depends=ca-bundle ;;
		luci-app-smtprelay) depends='luci-base smtprelay' ;;
		prometheus-*) depends='prometheus-node-exporter-lua smtprelay' ;;
		esac
		dump=$("$APK" adbdump "$packages/$name-${version}_$kind.apk")
		equal "facts of $name" "name: $name
version: $version
arch: $kind
license: Apache-2.0
depends: $depends" "$(echo "$dump" | awk '
			/^info:/ { info = 1; next }
			/^[a-z]/ { info = 0 }
			info && /^  (name|version|arch|license):/ { print $1, $2 }
			info && /^    - / && depends { found = found " " $2 }
			info && /^  [a-z]/ { depends = /^  depends:/ }
			END { print "depends:" found }')"
		equal "scripts of $name" 'post-install post-upgrade pre-deinstall' \
			"$(echo "$dump" | sed -n '/^scripts:/,/^#/s/^  \([a-z-]*\):.*/\1/p' | sort | tr '\n' ' ' | sed 's/ $//')"
	done

	functions "$root"
	# shellcheck disable=SC2086 # words
	run_scripts post-install $names
	equal 'what the scripts call' 'users smtprelay smtprelay=465:smtprelay=465
postinst smtprelay
users luci-app-smtprelay 
postinst luci-app-smtprelay
users smtprelay-sendmail 
postinst smtprelay-sendmail
users smtprelay-import 
postinst smtprelay-import
users prometheus-node-exporter-lua-smtprelay 
postinst prometheus-node-exporter-lua-smtprelay' "$(cat "$root.calls")"
	equal 'links that the scripts make' './usr/bin/msmtp /usr/sbin/smtprelay' "$(links "$root/" | grep msmtp)"
	# shellcheck disable=SC2086
	run_scripts post-upgrade $names
	run_scripts pre-deinstall prometheus-node-exporter-lua-smtprelay smtprelay-import smtprelay-sendmail luci-app-smtprelay smtprelay
	equal 'links that the scripts leave' '' "$(links "$root" | grep msmtp || true)"
	equal 'scripts that know of the upgrade' "$(echo "$names" | wc -w)" \
		"$(tar -xOzf "$root/lib/apk/db/scripts.tar.gz" --wildcards '*.post-upgrade' | grep -c '^export PKG_UPGRADE=1$')"
	rm "$root/lib/functions.sh"
	echo '# mine' >>"$root/etc/config/smtprelay"
	succeeds 'apk del' apk del prometheus-node-exporter-lua-smtprelay smtprelay smtprelay-sendmail smtprelay-import luci-app-smtprelay
	equal 'what apk leaves' './etc/config/smtprelay' "$(tree "$root" | cut -d ' ' -f 2)"
}

as_root=
[ "$(id -u)" = 0 ] || as_root='unshare --map-root-user'

for arch in "$@"; do
	wanted=$(wanted "$arch")
	if [ -n "${OPKG:-}" ]; then
		check_opkg
	else
		skipped=$((skipped + 1))
	fi
	if [ -n "${APK:-}" ] && [ -f "$packages/smtprelay-${version}_$arch.apk" ]; then
		check_apk
	else
		skipped=$((skipped + 1))
	fi
done
[ "$skipped" -eq 0 ] ||
	echo "skipped: $skipped installations, for want of OPKG=/path/to/opkg, or of APK=/path/to/apk when the packages were made and now"
[ "$failures" -eq 0 ] || {
	echo "installing packages: $failures checks failed" >&2
	exit 1
}
