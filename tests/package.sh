#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks the packages that scripts/package.sh has made.
#
#	[APK=/path/to/apk] [OPKG=/path/to/opkg] tests/package.sh [ARCH...]
#
# The default is every architecture of which there is a package of this version in target/packages. Needs GNU tar,
# readelf (binutils), shellcheck, busybox, python3 and, for architectures other than this machine's, qemu-user. It ends
# with tables of sizes and fails if anything is not as it should be. tests/package_install.sh, which it runs as well,
# installs the packages with the real package managers where they are named.
set -eu

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
release=$version-r1
packages=$(scripts/target_dir.sh)/packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0
: >"$work/table"
arch=

subject() {
	echo "$name $arch"
}

# shellcheck source=tests/package_checks.sh
. tests/package_checks.sh

# within_budget WHAT BYTES: whether that is at most 2 %, or 4 KB, above the number that tests/budget.txt has for this
# architecture. The 4 KB are for data, whose gaps depend on the order in which the linker puts it.
within_budget() {
	budget=$(awk -v arch="$arch" -v what="$1" '$1 == arch && $2 == what { print $3 }' tests/budget.txt)
	if [ -z "$budget" ]; then
		failures=$((failures + 1))
		echo "FAILED $arch: tests/budget.txt has no line '$arch $1'" >&2
	elif [ "$2" -gt $((budget + budget / 50)) ] && [ "$2" -gt $((budget + 4096)) ]; then
		failures=$((failures + 1))
		echo "FAILED $arch: $1: $2 bytes; tests/budget.txt allows $budget and a little more" >&2
	fi
}

# writable FILE: the bytes of memory that the program may write from the start: its initialized and zeroed data.
writable() {
	sum=0
	for bytes in $(readelf -lW "$1" | awk '$1 == "LOAD" && /RW/ { print $6 }'); do
		sum=$((sum + bytes))
	done
	echo $sum
}

# machine_of ARCH: sets $class, $order, $machine as readelf calls them, and $runner.
machine_of() {
	class=ELF32
	order='little endian'
	case "$1" in
	mips_24kc) order='big endian' machine='MIPS R3000' runner='qemu-mips' ;;
	mipsel_24kc) machine='MIPS R3000' runner='qemu-mipsel' ;;
	arm_cortex-a7_neon-vfpv4) machine='ARM' runner='qemu-arm' ;;
	aarch64_cortex-a53) class='ELF64' machine='AArch64' runner='qemu-aarch64' ;;
	x86_64) class='ELF64' machine='Advanced Micro Devices X86-64' runner='qemu-x86_64' ;;
	*)
		echo "tests/package.sh: unknown architecture '$1'" >&2
		exit 2
		;;
	esac
}

# modes TARBALL: a line a member: mode, owner, name.
modes() {
	tar --numeric-owner -tvzf "$1" | awk '{ print $1, $2, $6 }'
}

# value NAME: a field of the control file.
value() {
	sed -n "s/^$1: *//p" "$control/control"
}

elf_header() {
	readelf -hW "$binary" | sed -n "s/^ *$1: *//p"
}

# check_control SCRIPT...: what is in every control.tar.gz; SCRIPT are those of the package's own.
check_control() {
	members='drwxr-xr-x 0/0 ./'
	[ "$name" != smtprelay ] || members="$members
-rw-r--r-- 0/0 ./conffiles"
	members="$members
-rw-r--r-- 0/0 ./control
-rwxr-xr-x 0/0 ./postinst"
	case " $* " in *' postinst-pkg '*) members="$members
-rwxr-xr-x 0/0 ./postinst-pkg" ;; esac
	members="$members
-rwxr-xr-x 0/0 ./prerm"
	case " $* " in *' prerm-pkg '*) members="$members
-rwxr-xr-x 0/0 ./prerm-pkg" ;; esac
	equal 'members of control.tar.gz' "$members" "$(modes "$dir/control.tar.gz")"
	equal Package "$name" "$(value Package)"
	equal Version "$release" "$(value Version)"
	equal License Apache-2.0 "$(value License)"
	equal Installed-Size "$(gzip -dc "$dir/data.tar.gz" | wc -c)" "$(value Installed-Size)"
	# opkg ends a control file at an empty line, and reads a line that does not begin with a blank as a field.
	equal 'odd lines in control' '' "$(grep -v -e '^ .' -e '^[A-Z][A-Za-z-]*: .' "$control/control" || true)"
	for script in postinst prerm; do
		succeeds "$script is a shell script" sh -n "$control/$script"
		# A root in which default_SCRIPT tells that it was called.
		mkdir -p "$dir/root/lib"
		echo "default_$script() { echo \"called with \${1##*/}\"; }" >"$dir/root/lib/functions.sh"
		equal "$script" "called with $script" "$(IPKG_INSTROOT="$dir/root" sh "$control/$script" 2>&1)"
		rm "$dir/root/lib/functions.sh"
		rmdir "$dir/root/lib"
	done
	for script in "$@"; do
		# dash is the shell nearest to busybox ash that shellcheck knows.
		succeeds "shellcheck $script" shellcheck -s dash "$control/$script"
		succeeds "$script is a shell script" busybox ash -n "$control/$script"
	done
}

check_smtprelay_control() {
	equal Depends ca-bundle "$(value Depends)"
	equal Architecture "$arch" "$(value Architecture)"
	equal Section mail "$(value Section)"
	# The form that default_postinst takes apart: user=uid:group=gid.
	equal Require-User smtprelay=465:smtprelay=465 "$(value Require-User)"
	equal 'start of Description' 'Takes mail from PLCs,' "$(value Description | cut -d ' ' -f 1-4)"
	equal conffiles /etc/config/smtprelay "$(cat "$control/conffiles")"
	equal 'postinst-pkg on a router' 'killall -HUP ubusd' "$(own_script postinst-pkg IPKG_INSTROOT=)"
	equal 'postinst-pkg when an image is built' '' "$(own_script postinst-pkg IPKG_INSTROOT="$dir/root")"
}

# own_script SCRIPT VARIABLE=VALUE...: what a script calls, with the router's /tmp and /etc in $dir/router.
own_script() {
	mkdir -p "$dir/router/tmp" "$dir/router/etc"
	{
		# A function, for busybox has a killall of its own and would take it in place of one in PATH.
		# shellcheck disable=SC2016 # for the shell that runs it
		echo 'killall() { echo "killall $*"; }'
		sed "s, /tmp/, $dir/router/tmp/,g; s,^/etc/,$dir/router/etc/," "$control/$1"
	} >"$dir/script"
	shift
	env "$@" busybox ash "$dir/script" 2>&1
}

check_data() {
	equal 'members of data.tar.gz' "\
drwxr-xr-x 0/0 ./
drwxr-xr-x 0/0 ./etc/
drwxr-xr-x 0/0 ./etc/capabilities/
-rw-r--r-- 0/0 ./etc/capabilities/smtprelay.json
drwxr-xr-x 0/0 ./etc/config/
-rw------- 0/0 ./etc/config/smtprelay
drwxr-xr-x 0/0 ./etc/hotplug.d/
drwxr-xr-x 0/0 ./etc/hotplug.d/iface/
-rw-r--r-- 0/0 ./etc/hotplug.d/iface/95-smtprelay
drwxr-xr-x 0/0 ./etc/hotplug.d/ntp/
-rw-r--r-- 0/0 ./etc/hotplug.d/ntp/95-smtprelay
drwxr-xr-x 0/0 ./etc/init.d/
-rwxr-xr-x 0/0 ./etc/init.d/smtprelay
drwxr-xr-x 0/0 ./lib/
drwxr-xr-x 0/0 ./lib/upgrade/
drwxr-xr-x 0/0 ./lib/upgrade/keep.d/
-rw-r--r-- 0/0 ./lib/upgrade/keep.d/smtprelay
drwxr-xr-x 0/0 ./usr/
drwxr-xr-x 0/0 ./usr/sbin/
-rwxr-xr-x 0/0 ./usr/sbin/smtprelay
drwxr-xr-x 0/0 ./usr/share/
drwxr-xr-x 0/0 ./usr/share/acl.d/
-rw-r--r-- 0/0 ./usr/share/acl.d/smtprelay.json" "$(modes "$dir/data.tar.gz")"
	tar -C "$dir/root" -xzf "$dir/data.tar.gz"
	# The rest is in packages of its own: smtprelay-import, and the collector of metrics.
	(cd files && find . -type f ! -path ./usr/libexec/\* ! -path ./usr/share/smtprelay/\* ! -path ./usr/lib/lua/\*) >"$work/files"
	while read -r file; do
		succeeds "$file is the one in files/" cmp "files/$file" "$dir/root/$file"
	done <"$work/files"
}

check_binary() {
	binary=$dir/root/usr/sbin/smtprelay
	equal 'ELF class' "$class" "$(elf_header Class)"
	equal 'ELF byte order' "2's complement, $order" "$(elf_header Data)"
	equal 'ELF machine' "$machine" "$(elf_header Machine)"
	equal 'dynamic loader (the binary is static)' '' "$(readelf -lW "$binary" | grep INTERP || true)"
	equal 'needed libraries (the binary is static)' '' "$(readelf -dW "$binary" | grep NEEDED || true)"
	equal 'symbols (the binary is stripped)' '' "$(readelf -SW "$binary" | grep -e SYMTAB -e debug || true)"
	case "$machine" in MIPS*)
		equal 'floating point' 'Soft float' "$(readelf -AW "$binary" | sed -n 's/^FP ABI: *//p')"
		;;
	esac
	# Where it was built is nobody's business, and would make every machine's build another one.
	for path in "$PWD" "${HOME:-/root}/.cargo"; do
		succeeds "no path below $path in the binary" sh -c "! grep -aqF '$path' '$binary'"
	done
	if ! command -v "$runner" >/dev/null; then
		failures=$((failures + 1))
		echo "FAILED $arch: $runner is missing (Debian: qemu-user)" >&2
		return
	fi
	equal 'smtprelay --version' "smtprelay $version" "$("$runner" "$binary" --version 2>&1)"
	succeeds 'a crash names its function' tests/crash_address.py "$binary" "$packages/smtprelay_${release}_$arch.symbols" \
		"$runner"
	succeeds 'smtprelay check of the shipped settings' \
		"$runner" "$binary" check --config "$dir/root/etc/config/smtprelay"
	printf "config relay 'main'\n\toption enabled 'perhaps\n" >"$dir/wrong"
	succeeds 'smtprelay check refuses a file that ends inside quotes' \
		sh -c "! '$runner' '$binary' check --config '$dir/wrong'"
}

# unpack NAME ARCH: takes a package apart. Fails if it is not there.
unpack() {
	name=$1
	package=$packages/${name}_${release}_$2.ipk
	dir=$work/$name-$2
	control=$dir/control
	if [ ! -f "$package" ]; then
		failures=$((failures + 1))
		echo "FAILED: no $package (scripts/package.sh makes it)" >&2
		return 1
	fi
	mkdir -p "$control" "$dir/root"
	equal 'members of the package' "\
-rw-r--r-- 0/0 ./debian-binary
-rw-r--r-- 0/0 ./data.tar.gz
-rw-r--r-- 0/0 ./control.tar.gz" "$(modes "$package")"
	tar -C "$dir" -xzf "$package"
	equal 'debian-binary' 2.0 "$(cat "$dir/debian-binary")"
	tar -C "$control" -xzf "$dir/control.tar.gz"
}

# check_smtprelay ARCH
check_smtprelay() {
	arch=$1
	machine_of "$arch"
	unpack smtprelay "$arch" || return 0
	check_control postinst-pkg
	check_smtprelay_control
	check_data
	check_binary
	size=$(wc -c <"$package")
	within_budget package "$size"
	within_budget data "$(writable "$binary")"
	printf '%-26s %10s %10s %10s\n' "$arch" "$(wc -c <"$binary")" "$(gzip -9n <"$binary" | wc -c)" "$size" \
		>>"$work/table"
}

check_luci() {
	unpack luci-app-smtprelay all || return 0
	check_control postinst-pkg
	equal Depends 'luci-base, smtprelay' "$(value Depends)"
	equal Architecture all "$(value Architecture)"
	equal Section luci "$(value Section)"
	equal URL '' "$(value URL)"
	tar -C "$dir/root" -xzf "$dir/data.tar.gz"
	equal 'odd modes and owners' '' \
		"$(modes "$dir/data.tar.gz" | grep -v -e '^drwxr-xr-x 0/0 ' -e '^-rw-r--r-- 0/0 ' || true)"
	app=openwrt/luci-app-smtprelay
	equal 'files' "$(
		(cd $app/htdocs && find . -type f | sed 's,^\.,./www,' && cd ../root && find . -type f &&
			echo ./usr/lib/lua/luci/i18n/smtprelay.de.lmo) | sort
	)" "$(cd "$dir/root" && find . -type f | sort)"
	succeeds 'htdocs/ as it is' diff -r $app/htdocs "$dir/root/www"
	for file in $(cd $app/root && find . -type f); do
		succeeds "$file as it is" cmp "$app/root/$file" "$dir/root/$file"
	done
	succeeds 'the German catalogue' scripts/lmo.py $app/po/de/smtprelay.po "$work/lmo"
	succeeds 'the German catalogue is the current one' cmp "$work/lmo" "$dir/root/usr/lib/lua/luci/i18n/smtprelay.de.lmo"

	mkdir -p "$dir/router/tmp/luci-modulecache"
	: >"$dir/router/tmp/luci-indexcache.123.json"
	equal 'postinst-pkg when an image is built' '' "$(own_script postinst-pkg IPKG_INSTROOT="$dir/root")"
	equal 'what is cached when an image is built' 2 "$(find "$dir/router/tmp" -mindepth 1 | wc -l)"
	equal 'postinst-pkg on a router' 'killall -HUP rpcd' "$(own_script postinst-pkg IPKG_INSTROOT=)"
	equal 'what is cached on a router' 0 "$(find "$dir/router/tmp" -mindepth 1 | wc -l)"
}

check_sendmail() {
	unpack smtprelay-sendmail all || return 0
	check_control postinst-pkg prerm-pkg
	equal Depends smtprelay "$(value Depends)"
	equal Architecture all "$(value Architecture)"
	equal Alternatives "\
200:/usr/sbin/sendmail:/usr/sbin/smtprelay, \
200:/usr/lib/sendmail:/usr/sbin/smtprelay, \
200:/usr/bin/mailq:/usr/sbin/smtprelay, \
200:/usr/sbin/postqueue:/usr/sbin/smtprelay" "$(value Alternatives)"
	equal 'files' '' "$(tar -tzf "$dir/data.tar.gz" | grep -v '/$' || true)"

	root=$dir/router
	mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib"
	equal 'postinst-pkg' '' "$(own_script postinst-pkg IPKG_INSTROOT="$root")"
	equal 'msmtp where there is none' /usr/sbin/smtprelay "$(readlink "$root/usr/bin/msmtp")"
	equal 'postinst-pkg again' '' "$(own_script postinst-pkg IPKG_INSTROOT="$root")"
	# Links as apk leaves them, and one that belongs to somebody else.
	ln -s /bin/busybox "$root/usr/sbin/sendmail"
	ln -s /usr/bin/other "$root/usr/lib/sendmail"
	# What Postfix puts aside when it is installed later.
	ln -s /usr/sbin/smtprelay "$root/usr/bin/mailq.pre-postfix"
	equal 'prerm-pkg' '' "$(own_script prerm-pkg IPKG_INSTROOT="$root")"
	equal 'links after prerm-pkg' "$root/usr/lib/sendmail" "$(find "$root/usr" -type l)"
	echo 'the real one' >"$root/usr/bin/msmtp"
	equal 'postinst-pkg beside msmtp' '' "$(own_script postinst-pkg IPKG_INSTROOT="$root")"
	equal 'prerm-pkg beside msmtp' '' "$(own_script prerm-pkg IPKG_INSTROOT="$root")"
	equal 'msmtp stays' 'the real one' "$(cat "$root/usr/bin/msmtp")"
}

check_import() {
	unpack smtprelay-import all || return 0
	check_control
	equal Depends smtprelay "$(value Depends)"
	equal Architecture all "$(value Architecture)"
	tar -C "$dir/root" -xzf "$dir/data.tar.gz"
	equal 'odd modes and owners' '' "$(modes "$dir/data.tar.gz" |
		grep -v -e '^drwxr-xr-x 0/0 ' -e '^-rw-r--r-- 0/0 .*\.awk$' -e '^-rwxr-xr-x 0/0 ./usr/libexec/smtprelay/import$' || true)"
	succeeds 'the script as it is' diff -r files/usr/libexec "$dir/root/usr/libexec"
	succeeds 'its readers as they are' diff -r files/usr/share/smtprelay "$dir/root/usr/share/smtprelay"
}

check_collector() {
	unpack prometheus-node-exporter-lua-smtprelay all || return 0
	check_control
	equal Depends 'smtprelay, prometheus-node-exporter-lua' "$(value Depends)"
	equal Architecture all "$(value Architecture)"
	tar -C "$dir/root" -xzf "$dir/data.tar.gz"
	equal 'odd modes and owners' '' "$(modes "$dir/data.tar.gz" |
		grep -v -e '^drwxr-xr-x 0/0 ' -e '^-rw-r--r-- 0/0 .*/smtprelay\.lua$' || true)"
	succeeds 'the collector as it is' diff -r files/usr/lib/lua "$dir/root/usr/lib/lua"
}

if [ $# -eq 0 ]; then
	for package in "$packages"/smtprelay_"${release}"_*.ipk; do
		[ -f "$package" ] || {
			echo "tests/package.sh: no package of version $release in $packages (make package makes them)" >&2
			exit 2
		}
		package=${package##*"-r1_"}
		set -- "$@" "${package%.ipk}"
	done
fi
for architecture in "$@"; do
	check_smtprelay "$architecture"
done
arch=
check_luci
check_sendmail
check_import
check_collector
tests/package_install.sh "$@" || failures=$((failures + 1))
printf '%-26s %10s %10s %10s\n' 'architecture (bytes)' binary gzipped .ipk
cat "$work/table"
for package in "$packages"/*"$release"_all.ipk "$packages"/*"$release"_*.apk; do
	[ ! -f "$package" ] || printf '%-48s %10s\n' "${package##*/}" "$(wc -c <"$package")"
done
[ "$failures" -eq 0 ] || {
	echo "$failures checks failed" >&2
	exit 1
}
