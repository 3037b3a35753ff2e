#!/bin/sh
# Checks the packages that scripts/package.sh has made.
#
#	tests/package.sh [ARCH...]	(default: every package of this version in target/packages)
#
# Needs GNU tar, readelf (binutils) and, for architectures other than this machine's, qemu-user. It ends with a table
# of sizes and fails if anything is not as it should be.
set -eu

# What fits into the 16 MB of flash of a small router beside everything else, in bytes: a quarter of what Postfix takes.
LIMIT_MIPSEL=1024000

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0
: >"$work/table"

# equal WHAT EXPECTED FOUND
equal() {
	[ "$2" = "$3" ] && return
	failures=$((failures + 1))
	printf 'FAILED %s: %s\n--- expected\n%s\n--- found\n%s\n---\n' "$arch" "$1" "$2" "$3" >&2
}

# succeeds WHAT COMMAND...
succeeds() {
	what=$1
	shift
	"$@" >"$work/output" 2>&1 && return
	failures=$((failures + 1))
	printf 'FAILED %s: %s\n' "$arch" "$what" >&2
	cat "$work/output" >&2
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

check_control() {
	equal 'members of control.tar.gz' "\
drwxr-xr-x 0/0 ./
-rw-r--r-- 0/0 ./conffiles
-rw-r--r-- 0/0 ./control
-rwxr-xr-x 0/0 ./postinst
-rwxr-xr-x 0/0 ./prerm" "$(modes "$dir/control.tar.gz")"
	equal Package smtprelay "$(value Package)"
	equal Version "$version-1" "$(value Version)"
	equal Depends ca-bundle "$(value Depends)"
	equal Architecture "$arch" "$(value Architecture)"
	equal License Apache-2.0 "$(value License)"
	equal Section mail "$(value Section)"
	# The form that default_postinst takes apart: user=uid:group=gid.
	equal Require-User smtprelay=465:smtprelay=465 "$(value Require-User)"
	equal Installed-Size "$(gzip -dc "$dir/data.tar.gz" | wc -c)" "$(value Installed-Size)"
	equal 'start of Description' 'Takes mail from PLCs,' "$(value Description | cut -d ' ' -f 1-4)"
	# opkg ends a control file at an empty line, and reads a line that does not begin with a blank as a field.
	equal 'odd lines in control' '' "$(grep -v -e '^ .' -e '^[A-Z][A-Za-z-]*: .' "$control/control" || true)"
	equal conffiles /etc/config/smtprelay "$(cat "$control/conffiles")"
	for script in postinst prerm; do
		succeeds "$script is a shell script" sh -n "$control/$script"
		# A root in which default_SCRIPT tells that it was called.
		mkdir -p "$dir/root/lib"
		echo "default_$script() { echo \"called with \${1##*/}\"; }" >"$dir/root/lib/functions.sh"
		equal "$script" "called with $script" "$(IPKG_INSTROOT="$dir/root" sh "$control/$script" 2>&1)"
		rm "$dir/root/lib/functions.sh"
		rmdir "$dir/root/lib"
	done
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
-rwxr-xr-x 0/0 ./usr/sbin/smtprelay" "$(modes "$dir/data.tar.gz")"
	tar -C "$dir/root" -xzf "$dir/data.tar.gz"
	for file in etc/capabilities/smtprelay.json etc/config/smtprelay etc/init.d/smtprelay etc/hotplug.d/iface/95-smtprelay etc/hotplug.d/ntp/95-smtprelay lib/upgrade/keep.d/smtprelay; do
		succeeds "$file is the one in files/" cmp "files/$file" "$dir/root/$file"
	done
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
	succeeds 'smtprelay check of the shipped settings' \
		"$runner" "$binary" check --config "$dir/root/etc/config/smtprelay"
	printf "config relay 'main'\n\toption enabled 'perhaps\n" >"$dir/wrong"
	succeeds 'smtprelay check refuses a file that ends inside quotes' \
		sh -c "! '$runner' '$binary' check --config '$dir/wrong'"
}

check_package() {
	arch=$1
	machine_of "$arch"
	package=target/packages/smtprelay_$version-1_$arch.ipk
	if [ ! -f "$package" ]; then
		failures=$((failures + 1))
		echo "FAILED $arch: no $package (scripts/package.sh $arch makes it)" >&2
		return
	fi
	dir=$work/$arch
	control=$dir/control
	mkdir -p "$control" "$dir/root"
	equal 'members of the package' "\
-rw-r--r-- 0/0 ./debian-binary
-rw-r--r-- 0/0 ./data.tar.gz
-rw-r--r-- 0/0 ./control.tar.gz" "$(modes "$package")"
	tar -C "$dir" -xzf "$package"
	equal 'debian-binary' 2.0 "$(cat "$dir/debian-binary")"
	tar -C "$control" -xzf "$dir/control.tar.gz"
	check_control
	check_data
	check_binary
	size=$(wc -c <"$package")
	if [ "$arch" = mipsel_24kc ] && [ "$size" -gt "$LIMIT_MIPSEL" ]; then
		failures=$((failures + 1))
		echo "FAILED $arch: the package has $size bytes, the limit is $LIMIT_MIPSEL" >&2
	fi
	printf '%-26s %10s %10s %10s\n' "$arch" "$(wc -c <"$binary")" "$(gzip -9n <"$binary" | wc -c)" "$size" \
		>>"$work/table"
}

if [ $# -eq 0 ]; then
	for package in target/packages/smtprelay_"$version"-1_*.ipk; do
		[ -f "$package" ] || {
			echo "tests/package.sh: no package of version $version in target/packages (make package makes them)" >&2
			exit 2
		}
		package=${package##*-1_}
		set -- "$@" "${package%.ipk}"
	done
fi
for architecture in "$@"; do
	check_package "$architecture"
done
printf '%-26s %10s %10s %10s\n' 'architecture (bytes)' binary gzipped .ipk
cat "$work/table"
[ "$failures" -eq 0 ] || {
	echo "$failures checks failed" >&2
	exit 1
}
