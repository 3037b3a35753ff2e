#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks what lands on the router beside the program, without a router: the init script runs under busybox ash against
# tests/procd_recorder.sh, and openwrt/Makefile under GNU make against stand-ins for OpenWrt's makefiles.
#
# Needs shellcheck, busybox, make, python3.
set -eu

cd "$(dirname "$0")/.."
init=files/etc/init.d/smtprelay
work=$(mktemp -d)
child=
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failures=0

fail() {
	failures=$((failures + 1))
	printf 'FAILED: %s\n' "$*" >&2
}

# equal WHAT EXPECTED FOUND
equal() {
	[ "$2" = "$3" ] || fail "$(printf '%s\n--- expected\n%s\n--- found\n%s\n---' "$1" "$2" "$3")"
}

for tool in shellcheck busybox make python3; do
	command -v "$tool" >/dev/null || {
		echo "tests/openwrt_files.sh: $tool is missing" >&2
		exit 2
	}
done

# --- Every shell script that runs on the router

for script in files/etc/init.d/* files/etc/hotplug.d/*/* files/usr/libexec/smtprelay/* openwrt/test.sh; do
	# dash is the shell nearest to busybox ash that shellcheck knows.
	shellcheck -s dash "$script" || fail "shellcheck $script"
	busybox ash -n "$script" || fail "$script is no shell script"
	case "$script" in
	*/hotplug.d/*) ;; # read by hotplug-call
	*) [ -x "$script" ] || fail "$script is not executable" ;;
	esac
	! grep -n '^  ' "$script" || fail "$script is indented with blanks"
done

# --- The collector for prometheus-node-exporter-lua

if command -v lua5.1 >/dev/null; then
	for collector in files/usr/lib/lua/prometheus-collectors/*.lua; do
		lua5.1 -e "assert(loadfile('$collector'))" || fail "$collector is not Lua 5.1"
	done
else
	echo 'tests/openwrt_files.sh: lua5.1 is missing (Debian: lua5.1): the collector was not read' >&2
fi

# --- The hotplug scripts

# hotplug KIND VARIABLE=VALUE...: what the script has the program do, read as hotplug-call reads it.
hotplug() {
	script=files/etc/hotplug.d/$1/95-smtprelay
	shift
	# The program's own words go nowhere; what it was called with goes to a file.
	printf '#!/bin/sh\necho "$*" >"%s"\n' "$work/words" >"$work/called"
	chmod +x "$work/called"
	rm -f "$work/words"
	env -i PATH="$work/router:$PATH" PROG="$work/called" "$@" busybox ash -c "( . '$PWD/$script' )"
	cat "$work/words" 2>/dev/null || :
}

# Stand-ins for netifd behind ubus, and for jsonfilter with the two questions that the script asks.
mkdir "$work/router"
cat >"$work/router/ubus" <<'EOF'
#!/bin/sh
[ "$1 $3" = 'call status' ] || exit 2
case "$2" in
network.interface.wan) echo '{"up":true,"route":[{"target":"192.0.2.1","mask":32},{"target":"0.0.0.0","mask":0}],"inactive":{"route":[]}}' ;;
network.interface.wan6) echo '{"up":true,"route":[{"target":"::","mask":0}],"inactive":{"route":[]}}' ;;
network.interface.wwan) echo '{"up":true,"route":[],"inactive":{"route":[{"target":"0.0.0.0","mask":0}]}}' ;;
network.interface.lan) echo '{"up":true,"route":[{"target":"10.0.0.0","mask":8}],"inactive":{"route":[]}}' ;;
network.interface.guest) echo '{"up":true,"route":[],"inactive":{"route":[]}}' ;;
*) exit 4 ;;
esac
EOF
cat >"$work/router/jsonfilter" <<'EOF'
#!/bin/sh
[ "$# $1 $2 $4" = '5 -q -s -e' ] || exit 2
exec python3 -c '
import json, sys
facts, path = json.loads(sys.argv[1]), sys.argv[2]
routes = {"@.route[@.mask=0].target": facts["route"], "@.inactive.route[@.mask=0].target": facts["inactive"]["route"]}[path]
found = [route["target"] for route in routes if route["mask"] == 0]
print(*found, sep="\n")
sys.exit(not found)' "$3" "$5"
EOF
chmod +x "$work/router/ubus" "$work/router/jsonfilter"

for network in wan wan6 wwan unknown; do
	equal "the uplink $network comes up" "wake uplink-$network" "$(hotplug iface ACTION=ifup INTERFACE=$network DEVICE=eth1)"
done
for network in lan guest; do
	equal "$network comes up, which is no uplink" '' "$(hotplug iface ACTION=ifup INTERFACE=$network DEVICE=br-lan)"
done
equal 'mwan3 finds an uplink good again' 'wake uplink-wwan' "$(hotplug iface ACTION=connected INTERFACE=wwan DEVICE=wlan0)"
equal 'an address of an uplink changes' '' "$(hotplug iface ACTION=ifupdate INTERFACE=wan)"
equal 'a network goes down' '' "$(hotplug iface ACTION=ifdown INTERFACE=wan)"
equal 'loopback comes up' '' "$(hotplug iface ACTION=ifup INTERFACE=loopback)"
equal 'the clock is set' 'wake clock' "$(hotplug ntp ACTION=step)"
equal 'the clock is steered well' 'wake clock' "$(hotplug ntp ACTION=stratum)"
equal 'the clock is steered' '' "$(hotplug ntp ACTION=periodic)"

# --- The init script

cat >"$work/smtprelay" <<'EOF'
#!/bin/sh
case "$1" in
queue) echo 'the queue' ;;
reload)
	[ "$SETTINGS" != moved ] || exit 69
	[ "$SETTINGS" != odd ] || echo 'a warning'
	;;
jail-mounts)
	[ "$SETTINGS" != unjailed ] || exit 1
	printf 'rw /var/spool/smtprelay\nro /etc/ssl\nshown 1:2,1:3\n'
	;;
esac
case "$1" in
check | reload) ;;
*) exit 0 ;;
esac
[ "$SETTINGS" != unreachable ] || {
	echo 'devices cannot connect' >&2
	exit 75
}
# The other accounts work, so the gateway starts.
[ "$1 $SETTINGS" != 'check fileless' ] || exit 75
[ "$SETTINGS" = wrong ] || exit 0
echo '/etc/config/smtprelay:3: first reason' >&2
echo '/etc/config/smtprelay:7: second reason'
exit 1
EOF
chmod +x "$work/smtprelay"

# run SETTINGS ENABLED RUNNING ACTION: leaves the calls in $calls, what was said in $said, the exit status in $status.
run() {
	: >"$work/calls"
	status=0
	said=$(SETTINGS=$1 ENABLED=$2 RUNNING=$3 CALLS=$work/calls PROG=$work/smtprelay PIDFILE=$work/pid \
		busybox ash tests/procd_recorder.sh "$init" "$4" 2>&1) || status=$?
	calls=$(cat "$work/calls")
}

triggers='reload_trigger smtprelay
raw_trigger acme.* 2000 /etc/init.d/smtprelay reload
raw_trigger interface.*.up 2000 /etc/init.d/smtprelay reload'
started="open_service smtprelay $init
open_instance
command $work/smtprelay run
file $work/smtprelay
respawn 3600 5 0
term_timeout 15
pidfile $work/pid
stdout 1
stderr 1
close_instance
close_service set
$triggers"
idle="open_service smtprelay $init
close_service set
$triggers"
reasons='logger -t smtprelay -p mail.err /etc/config/smtprelay:3: first reason
logger -t smtprelay -p mail.err /etc/config/smtprelay:7: second reason'
kept='logger -t smtprelay -p mail.err smtprelay keeps running with its former settings'

run good 1 0 constants
equal 'constants' '1 90 10 /usr/sbin/smtprelay /var/run/smtprelay.pid /sbin/ujail /etc/capabilities/smtprelay.json' \
	"$calls"
[ -f files/etc/capabilities/smtprelay.json ] || fail 'the file of the capabilities is missing'

for enabled in 1 on ''; do
	run good "$enabled" 0 start
	equal "start, enabled '$enabled'" "$started" "$calls"
	equal "start, enabled '$enabled': exit status" 0 "$status"
	equal "start, enabled '$enabled', says" '' "$said"
done
run good 1 0 boot
equal 'boot' "$started" "$calls"
run unreachable 1 0 boot
equal 'boot before the network has an address' "$started" "$calls"
equal 'boot before the network has an address: exit status' 0 "$status"
run good 1 1 start
equal 'start of what runs' "$started" "$calls"

for settings in good wrong; do
	run "$settings" 0 0 start
	equal "start, switched off, settings $settings" "$idle" "$calls"
	case "$said" in
	*'smtprelay setup ADDRESS'*) ;;
	*) fail "start, switched off, does not say how to switch it on: $said" ;;
	esac
done

run wrong 1 0 start
equal 'start with wrong settings' "open_service smtprelay $init
$reasons
logger -t smtprelay -p mail.err smtprelay was not started, its settings in /etc/config/smtprelay are wrong
close_service set
$triggers" "$calls"
case "$said" in
*first*second*'not started'*) ;;
*) fail "start with wrong settings does not say why: $said" ;;
esac

equal 'start with wrong settings: exit status' 1 "$status"
run wrong 1 0 boot
equal 'boot with wrong settings: exit status' 1 "$status"

# procd_open_service only begins a message; without procd_close_service procd is told nothing.
run wrong 1 1 start
equal 'start of what runs, with wrong settings' "open_service smtprelay $init
$reasons
$kept" "$calls"
equal 'start of what runs, with wrong settings: exit status' 1 "$status"

run good 1 1 reload
equal 'reload' "$started" "$calls"
equal 'reload: exit status' 0 "$status"
equal 'reload says' '' "$said"
run odd 1 1 reload
# The program itself has it in the log, and not as an error.
equal 'reload with a warning' "$started" "$calls"
equal 'reload says the warning' 'a warning' "$said"
equal 'reload with a warning: exit status' 0 "$status"
run moved 1 1 reload
equal 'reload with another directory for the queue' "kill smtprelay
$started" "$calls"
run wrong 1 1 reload
equal 'reload with wrong settings' "$reasons
$kept" "$calls"
equal 'reload with wrong settings: exit status' 1 "$status"
run good 1 0 reload
equal 'reload of what does not run' "$started" "$calls"
run good 0 1 reload
equal 'reload after switching off' "$idle" "$calls"

# uci gives a section without a name one like this.
export RELAY=cfg0160ff
run good 0 0 start
equal 'start when a section without a name switches it off' "$idle" "$calls"
unset RELAY

# The networks that listeners name.
export NETWORKS='lan off:iot guest+lan'
run good 1 0 start
equal 'triggers of networks' "reload_trigger smtprelay
raw_trigger acme.* 2000 /etc/init.d/smtprelay reload
reload_interface_trigger lan
reload_interface_trigger guest" "$(echo "$calls" | grep trigger)"
unset NETWORKS

# A jail, where there is one and the program has nothing against it.
export UJAIL="$work/smtprelay"
run good 1 0 start
equal 'start in a jail' "jail smtprelay log procfs
jail_rw /var/spool/smtprelay
jail_ro /etc/ssl
env SMTPRELAY_JAIL=1:2,1:3
capabilities /etc/capabilities/smtprelay.json
no_new_privs 1" "$(echo "$calls" | sed -n '/^jail /,/^no_new_privs/p')"
! echo "$calls" | grep ERROR || fail "start in a jail: $calls"
run unjailed 1 0 start
equal 'start without a jail that would break something' "$started" "$calls"
unset UJAIL

run good 1 1 stop
equal 'stop' 'kill smtprelay' "$calls"
run good 1 1 restart
equal 'restart' "kill smtprelay
$started" "$calls"
run fileless 1 1 restart
equal 'restart with a file of one account that cannot be used' "kill smtprelay
$started" "$calls"
run wrong 1 1 restart
equal 'restart with wrong settings' "$reasons
logger -t smtprelay -p mail.err smtprelay was not restarted" "$calls"
equal 'restart with wrong settings: exit status' 1 "$status"
run wrong 0 1 restart
equal 'restart after switching off' "kill smtprelay
$idle" "$calls"

run good 1 1 queue
equal 'queue' 'the queue' "$said"
run wrong 1 1 check
equal 'check of wrong settings: exit status' 1 "$status"
equal 'check of wrong settings tells the log' '' "$calls"

# A program that takes its time after SIGTERM: shutdown must last until it is done.
rm -f "$work/ready" "$work/saved"
mkfifo "$work/ready"
busybox ash -c "trap 'sleep 1; touch $work/saved; exit 0' TERM; echo >$work/ready
	for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done" &
child=$!
read -r _ <"$work/ready"
echo "$child" >"$work/pid"
(
	export ON_KILL="kill $child"
	run good 1 1 shutdown
	echo "$calls" >"$work/shutdown"
	[ ! -f "$work/saved" ] || echo 'the program had ended' >>"$work/shutdown"
) &
shutdown=$!
# Takes the process away at once when it ends, as procd does.
wait "$child" || true
child=
wait "$shutdown"
equal 'shutdown' 'kill smtprelay
the program had ended' "$(cat "$work/shutdown")"

# One that never ends (this one): procd gives the script 15 s, so it has to return by itself before that.
echo $$ >"$work/pid"
export SLEEP=record
run good 1 1 shutdown
equal 'seconds that shutdown waits at most' 14 "$(echo "$calls" | grep -c '^sleep 1$')"
unset SLEEP
rm "$work/pid"
run good 1 0 shutdown
equal 'shutdown of what does not run' 'kill smtprelay' "$calls"

# --- The shipped settings

# What the init script asks for must be there; "smtprelay check" reads the rest (tests/package.sh).
equal 'main is a relay, switched off' "config relay 'main' option enabled '0'" \
	"$(grep -A 1 "'main'" files/etc/config/smtprelay | tr -s '\n\t' ' ' | sed 's/ $//')"

# --- openwrt/Makefile

top=$work/top
mkdir -p "$top/include" "$top/feeds/packages/lang/rust" "$work/build/ipkg-install/bin"
echo program >"$work/build/ipkg-install/bin/smtprelay"
cat >"$top/rules.mk" <<'EOF'
TAR:=tar
INSTALL_DIR:=install -d -m0755
INSTALL_BIN:=install -m0755
INSTALL_DATA:=install -m0644
INSTALL_CONF:=install -m0600
EOF
cat >"$top/include/package.mk" <<'EOF'
ifeq ($(PKG_NAME)$(PKG_VERSION)$(PKG_RELEASE),)
  $(error PKG_NAME, PKG_VERSION and PKG_RELEASE come before package.mk)
endif
PKG_INSTALL_DIR=$(PKG_BUILD_DIR)/ipkg-install
PKGARCH=any
define BuildPackage
$(eval $(Package/$(1)))
$(1)-prepare:
	$(Build/Prepare)
$(1)-install:
	$(call Package/$(1)/install,$(ROOT))
$(1)-show:
	@echo '$(PKG_NAME) $(PKG_VERSION) $(PKG_RELEASE) | $(SECTION) | $(PKGARCH) | $(strip $(DEPENDS)) | $(USERID) | $(strip $(Package/$(1)/conffiles)) | $(strip $(ALTERNATIVES))'
endef
EOF
cat >"$top/feeds/packages/lang/rust/rust-package.mk" <<'EOF'
RUST_ARCH_DEPENDS:=@(mips||mipsel)
RustBinPackage=
EOF
package_make() {
	make --no-print-directory -C "${openwrt:-openwrt}" TOPDIR="$top" INCLUDE_DIR="$top/include" \
		PKG_BUILD_DIR="$work/build" ROOT="$work/root" "$@"
}
version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
equal 'openwrt/Makefile, smtprelay' \
	"smtprelay $version 1 | mail | any | @(mips||mipsel) +ca-bundle | smtprelay=465:smtprelay=465 | /etc/config/smtprelay | " \
	"$(package_make smtprelay-show)"
# The stand-in forgets nothing between packages, so the user is still said, and then the alternatives.
alternatives=
for link in sbin/sendmail lib/sendmail bin/mailq sbin/postqueue; do
	alternatives="$alternatives 200:/usr/$link:/usr/sbin/smtprelay"
done
equal 'openwrt/Makefile, smtprelay-sendmail' \
	"smtprelay $version 1 | mail | all | +smtprelay | smtprelay=465:smtprelay=465 |  |$alternatives" \
	"$(package_make smtprelay-sendmail-show)"
equal 'openwrt/Makefile, smtprelay-import' \
	"smtprelay $version 1 | mail | all | +smtprelay | smtprelay=465:smtprelay=465 |  |$alternatives" \
	"$(package_make smtprelay-import-show)"
package_make smtprelay-install >"$work/make.log" 2>&1 || fail "openwrt/Makefile, install: $(cat "$work/make.log")"
equal 'what openwrt/Makefile installs' '644 ./etc/capabilities/smtprelay.json
600 ./etc/config/smtprelay
644 ./etc/hotplug.d/iface/95-smtprelay
644 ./etc/hotplug.d/ntp/95-smtprelay
755 ./etc/init.d/smtprelay
644 ./lib/upgrade/keep.d/smtprelay
755 ./usr/sbin/smtprelay
644 ./usr/share/acl.d/smtprelay.json' "$(cd "$work/root" && find . -type f -printf '%m %p\n' | sort -k 2)"
rm -rf "$work/root"
package_make smtprelay-import-install >"$work/make.log" 2>&1 || fail "openwrt/Makefile, install: $(cat "$work/make.log")"
equal 'what openwrt/Makefile installs of smtprelay-import' "755 ./usr/libexec/smtprelay/import
$(cd files && find ./usr/share/smtprelay -type f | sed 's/^/644 /' | sort)" \
	"$(cd "$work/root" && find . -type f -printf '%m %p\n' | sort -k 2)"
equal 'openwrt/Makefile, prometheus-node-exporter-lua-smtprelay' "smtprelay $version 1 | utils | all | \
+smtprelay +prometheus-node-exporter-lua | smtprelay=465:smtprelay=465 |  |$alternatives" \
	"$(package_make prometheus-node-exporter-lua-smtprelay-show)"
rm -rf "$work/root"
package_make prometheus-node-exporter-lua-smtprelay-install >"$work/make.log" 2>&1 ||
	fail "openwrt/Makefile, install: $(cat "$work/make.log")"
equal 'what openwrt/Makefile installs of the collector' \
	'644 ./usr/lib/lua/prometheus-collectors/smtprelay.lua' "$(cd "$work/root" && find . -type f -printf '%m %p\n')"
# What was built before is no part of the sources, wherever it lies.
tree=$work/tree
mkdir "$tree" "$tree/target" "$tree/tests"
cp -R Cargo.toml Cargo.lock src files openwrt "$tree"
for folder in tests/fuzz/target tests/libuci/target tests/luci/node_modules; do
	mkdir -p "$tree/$folder"
	: >"$tree/$folder/built"
done
: >"$tree/target/built"
openwrt=$tree/openwrt
package_make smtprelay-prepare >"$work/make.log" 2>&1 || fail "openwrt/Makefile, prepare: $(cat "$work/make.log")"
for file in Cargo.toml Cargo.lock src/main.rs files/etc/init.d/smtprelay files/etc/hotplug.d/ntp/95-smtprelay; do
	cmp -s "$file" "$work/build/$file" || fail "openwrt/Makefile does not bring $file along"
done
equal 'what openwrt/Makefile brings along of what was built' '' "$(cd "$work/build" && find . -name built)"
openwrt=
# Who answers for the packages, and where more is to be found.
sed -e 's/^authors = .*/authors = ["A Name <a@example.com>"]/' -e '/^authors/a homepage = "https:\/\/example.com\/"' \
	Cargo.toml >"$tree/Cargo.toml"
rm -rf "$work/stage"
mkdir "$work/stage"
for folder in . luci-app-smtprelay; do
	make --no-print-directory --silent -C "$tree/openwrt/$folder" TREE="$PWD" STAGE="$work/stage" ARCH_PACKAGES=any \
		TOPDIR="$PWD/scripts/feed" INCLUDE_DIR="$PWD/scripts/feed/include" PKG_BUILD_DIR="$work/build" >"$work/make.log" 2>&1 ||
		fail "packages with a maintainer: $(cat "$work/make.log")"
done
for package in smtprelay smtprelay-sendmail smtprelay-import prometheus-node-exporter-lua-smtprelay luci-app-smtprelay; do
	equal "maintainer of $package" 'A Name <a@example.com>' "$(cat "$work/stage/$package/meta/MAINTAINER")"
	equal "URL of $package" 'https://example.com/' "$(cat "$work/stage/$package/meta/URL")"
done

# --- The archive of a release

if [ -e .git ]; then
	(umask 022 && scripts/dist.sh "$work/dist1") >"$work/dist.out" 2>&1 || fail "scripts/dist.sh: $(cat "$work/dist.out")"
	(umask 077 && TZ=Asia/Tokyo scripts/dist.sh "$work/dist2") >/dev/null 2>&1 || fail 'scripts/dist.sh, again'
	cmp "$work/dist1/smtprelay-$version.tar.gz" "$work/dist2/smtprelay-$version.tar.gz" || fail 'the archive differs'
	grep -q "^PKG_HASH:=$(sha256sum <"$work/dist1/smtprelay-$version.tar.gz" | cut -d ' ' -f 1)$" "$work/dist.out" ||
		fail "scripts/dist.sh names another hash: $(cat "$work/dist.out")"
	tar -xzf "$work/dist1/smtprelay-$version.tar.gz" -C "$work"
	[ -f "$work/smtprelay-$version/openwrt/Makefile" ] || fail 'the archive lacks openwrt/Makefile'
	equal 'notes of the release' "## $version" "$(head -n 1 "$work/dist1/smtprelay-$version.md" | cut -d ' ' -f 1,2)"
fi

# --- Translations

scripts/lmo.py tests/lmo/sample.po "$work/sample.lmo" || fail 'scripts/lmo.py'
cmp "$work/sample.lmo" tests/lmo/sample.lmo || fail 'scripts/lmo.py makes something else than po2lmo of LuCI'
echo 'neither' >"$work/wrong.po"
! scripts/lmo.py "$work/wrong.po" "$work/wrong.lmo" 2>/dev/null || fail 'scripts/lmo.py takes what is no catalogue'

[ "$failures" -eq 0 ] || {
	echo "$failures checks failed" >&2
	exit 1
}
echo 'openwrt files: all checks passed'
