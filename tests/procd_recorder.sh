#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A stand-in for OpenWrt's rc.common, functions.sh and procd.sh: runs one action of an init script and writes down what
# procd and the log would have been told, a call a line, instead of doing it. tests/openwrt_files.sh uses it.
#
#	busybox ash tests/procd_recorder.sh INIT_SCRIPT ACTION
#
# It is told by the environment:
#
#	CALLS	file that the calls are appended to
#	PROG	stands in for the program, PIDFILE for its file with the process id
#	ENABLED	the value of option enabled of section main; empty: not set
#	NETWORKS	the networks that the sections listener name, a word a section: 'lan+guest' for a list of both, 'off:' in
#		front of those of one that is switched off
#	UJAIL	stands in for the program that makes jails
#	RUNNING	1 if procd is to say that the service runs
#	ON_KILL	command that is run when procd is told to stop the service
#	SLEEP	'record' to write down calls of sleep and not to sleep
#
# Only what procd itself checks is checked: a parameter that it does not know, or one in the wrong place, is recorded
# as an error, for procd would drop it without a word.

# shellcheck shell=dash
# shellcheck disable=SC2317 # called by the init script

test_prog=$PROG
test_pidfile=$PIDFILE
test_ujail=${UJAIL:-/no/ujail}
jailed=0
level=none

record() {
	printf '%s' "$*" | tr '\n' ' ' >>"$CALLS"
	echo >>"$CALLS"
}

# expect LEVEL CALL...: records the call, and that it was made in the wrong place.
expect() {
	[ "$level" = "$1" ] || record "ERROR: this belongs into $1, not $level:"
	shift
	record "$@"
}

config_load() {
	loaded=$1
}

# A section listener has the name of its networks here, the section relay that of RELAY.
config_foreach() {
	if [ "$loaded $2" = 'smtprelay relay' ]; then
		"$1" "${RELAY:-main}"
		return
	fi
	[ "$loaded $2" = 'smtprelay listener' ] || record "ERROR: config_foreach of $loaded.$2"
	for network in ${NETWORKS:-}; do
		"$1" "listener_$network"
	done
}

# A list comes as its values with blanks between; here '+' stands for these in NETWORKS.
config_get() {
	[ "$3" = interface ] || record "ERROR: config_get of $3"
	network=${2#listener_}
	eval "$1='$(echo "${network#off:}" | tr + ' ')'"
}

config_get_bool() {
	case "$2" in
	listener_off:*)
		eval "$1=0"
		return
		;;
	listener_*)
		eval "$1=$4"
		return
		;;
	esac
	[ "$loaded $2 $3" = "smtprelay ${RELAY:-main} enabled" ] || record "ERROR: config_get_bool of $loaded.$2.$3"
	case "$ENABLED" in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=$4" ;;
	esac
}

logger() {
	record logger "$@"
}

if [ "${SLEEP:-}" = record ]; then
	sleep() {
		record sleep "$@"
	}
fi

procd_open_service() {
	expect none open_service "$@"
	level=service
}

procd_close_service() {
	expect service "close_service $*"
	level=triggers
	service_triggers
	level=none
}

procd_open_instance() {
	expect service open_instance "$@"
	level=instance
}

procd_close_instance() {
	expect instance close_instance
	level=service
}

is_number() {
	case "$1" in
	'' | *[!0-9]*) record "ERROR: not a number: '$1'" ;;
	esac
}

procd_set_param() {
	expect instance "$@"
	case "$1" in
	capabilities | no_new_privs)
		[ "$jailed" = 1 ] || record "ERROR: procd ignores $1 outside of a jail"
		;;
	esac
	case "$1" in
	capabilities | command | file | pidfile | user | group | facility | env | data | limits | netdev) ;;
	stdout | stderr | no_new_privs | nice | term_timeout) is_number "$2" ;;
	respawn)
		is_number "$2"
		is_number "$3"
		is_number "$4"
		;;
	*) record "ERROR: procd knows no parameter '$1'" ;;
	esac
}

procd_add_jail() {
	expect instance jail "$@"
	jailed=1
	shift
	for flag in "$@"; do
		case "$flag" in
		log | ubus | udebug | procfs | sysfs | ronly | requirejail | netns | userns | cgroupsns) ;;
		*) record "ERROR: a jail knows no flag '$flag'" ;;
		esac
	done
}

procd_add_jail_mount() {
	expect instance jail_ro "$@"
	[ "$jailed" = 1 ] || record 'ERROR: a mount without a jail'
}

procd_add_jail_mount_rw() {
	expect instance jail_rw "$@"
	[ "$jailed" = 1 ] || record 'ERROR: a mount without a jail'
}

procd_add_reload_interface_trigger() {
	expect triggers reload_interface_trigger "$@"
}

procd_add_reload_trigger() {
	expect triggers reload_trigger "$@"
}

procd_add_raw_trigger() {
	expect triggers raw_trigger "$@"
	is_number "$2"
}

procd_running() {
	[ "$RUNNING" = 1 ]
}

procd_kill() {
	record kill "$@"
	[ -z "${ON_KILL:-}" ] || eval "$ON_KILL"
}

extra_command() {
	extra_commands="$extra_commands $1"
}

start() {
	procd_open_service smtprelay "$initscript"
	start_service "$@"
	procd_close_service set
	if command -v service_started >/dev/null; then
		service_started
	fi
}

stop() {
	procd_kill smtprelay
}

boot() {
	start "$@"
}

initscript=$1
action=$2
extra_commands=
# shellcheck disable=SC1090
. "$initscript"
# rc.common defines this one after it has read the init script.
reload() {
	reload_service "$@"
}

case "$action" in
start | stop | reload | restart | boot | shutdown) ;;
constants)
	record "$USE_PROCD $START $STOP $PROG $PIDFILE $UJAIL $CAPABILITIES"
	exit
	;;
*)
	case " $extra_commands " in
	*" $action "*) ;;
	*)
		record "ERROR: no command '$action'"
		exit 1
		;;
	esac
	;;
esac
PROG=$test_prog
PIDFILE=$test_pidfile
UJAIL=$test_ujail
"$action"
