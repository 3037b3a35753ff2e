#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Plays OpenWrt's procd and logd for the gateway on the router of `make test-router`, and does what the test types in.
#
# The gateway runs as files/etc/init.d/smtprelay has it run: its settings are checked, then `smtprelay run` is started as
# root, with its output in the log, and again 5 s after it has ended. What is not there: ubus, UCI's triggers, the jail
# (which many routers lack as well).

PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
PROG=/usr/sbin/smtprelay
PIDFILE=/var/run/smtprelay.pid
TERM_TIMEOUT=15

mkdir -p /tmp/run /tmp/log /tmp/spool
syslogd -n -S -O /dev/console &
logger=$!
# What the log takes before syslogd listens would be lost.
while [ ! -S /dev/log ]; do usleep 20000; done

# start: in a shell of its own, which starts it again.
start() {
	$PROG check || [ $? -eq 75 ] || echo "router: failed: smtprelay check"
	while :; do
		$PROG run &
		echo $! >$PIDFILE
		wait $!
		echo "router: the gateway ended with exit code $?"
		[ ! -e /tmp/stopping ] || break
		sleep 5
	done &
}

# stop: as procd and the init script do it at shutdown.
stop() {
	waited=0

	: >/tmp/stopping
	read -r pid <$PIDFILE
	kill -TERM "$pid"
	while kill -0 "$pid" 2>/dev/null; do
		[ "$waited" -lt $((TERM_TIMEOUT * 10)) ] || kill -KILL "$pid"
		usleep 100000
		waited=$((waited + 1))
	done
}

# kilobytes NAME FILE
kilobytes() {
	sed -n "s/^$1:[^0-9]*\([0-9]*\) kB/\1/p" "$2"
}

# in_reach: KB that the kernel has for whoever needs memory: free, or in the cache of files.
in_reach() {
	sed -n 's/^\(MemFree\|Active(file)\|Inactive(file)\): *\([0-9]*\) kB/\2/p' /proc/meminfo | {
		sum=0
		while read -r some; do sum=$((sum + some)); done
		echo "$sum"
	}
}

# eat KILOBYTES: takes memory until only so much is in reach. In bites: all at once, the kernel kills before it has looked for what
# it could give up.
eat() {
	while [ "$(in_reach)" -gt "$1" ]; do
		head -c 128k /dev/zero >>/tmp/eaten || return
	done
}

# disgorge KILOBYTES: gives it back, and waits until so much is in reach.
disgorge() {
	rm -f /tmp/eaten
	while [ "$(in_reach)" -lt "$1" ]; do usleep 50000; done
}

# memory: of the machine and of the gateway, in KB. Private is what would be free without it.
memory() {
	read -r pid <$PIDFILE
	private=$(($(kilobytes Private_Clean "/proc/$pid/smaps_rollup") + $(kilobytes Private_Dirty "/proc/$pid/smaps_rollup")))
	echo "router: memory total=$(kilobytes MemTotal /proc/meminfo) free=$(kilobytes MemFree /proc/meminfo)" \
		"available=$(kilobytes MemAvailable /proc/meminfo) rss=$(kilobytes VmRSS "/proc/$pid/status")" \
		"reach=$(in_reach)" \
		"anonymous=$(kilobytes RssAnon "/proc/$pid/status") private=$private"
}

# found NAME FOLDER: the number of files below it, and their bytes.
found() {
	# shellcheck disable=SC2012 # the names are our own, and there is no other tool
	ls -lnR "$2" 2>/dev/null | {
		files=0 bytes=0
		while read -r mode _ _ _ size _; do
			case "$mode" in
			-*) files=$((files + 1)) bytes=$((bytes + size)) ;;
			esac
		done
		echo "$1_files=$files $1_bytes=$bytes"
	}
}

# held: what gateway and flash hold.
held() {
	memory
	set -- "/proc/$pid/fd"/*
	descriptors=$#
	set -- "/proc/$pid/task"/*
	echo "router: held descriptors=$descriptors threads=$# $(found spool /var/spool/smtprelay) $(found safe /etc/smtprelay)" \
		"flash=$(df -Pk / | sed -n 's/^overlayfs[^ ]* *[0-9]* *[0-9]* *\([0-9]*\) .*/\1/p')"
}

# queued: the messages in the queue, by their files.
queued() {
	for file in /var/spool/smtprelay/queue/*.msg /etc/smtprelay/spool/queue/*.msg; do
		[ ! -e "$file" ] || echo "router: queued $file"
	done
}

# standing: what the queue waits for: how many messages are being sent or due, paused accounts if that matters, and in how many
# seconds the next one of the others is due.
standing() {
	total=0 sending=0 due=0 paused=0 next=
	list=$($PROG queue --json) || return
	# shellcheck disable=SC2013 # words without blanks
	for one in $(echo "$list" | grep -o -e '"standing":"[a-z]*"' -e '"next":[0-9]*'); do
		case "$one" in
		*next*) [ "${next:-999999999}" -lt "${one##*:}" ] || next=${one##*:} ;;
		*)
			total=$((total + 1))
			case "$one" in
			*sending*) sending=$((sending + 1)) ;;
			*due*) due=$((due + 1)) ;;
			esac
			;;
		esac
	done
	[ "$due" = 0 ] || [ "$sending" != 0 ] || paused=$($PROG status --json | grep -o -c '"paused":{')
	echo "router: standing total=$total sending=$sending due=$due paused=$paused next=$next"
}

# reconnect: what OpenWrt runs when the uplink comes up: the init script's reload, and the package's hotplug script.
reconnect() {
	$PROG reload || return
	$PROG check || [ $? -eq 75 ] || return
	$PROG jail-mounts >/dev/null
	# shellcheck disable=SC2030,SC2034,SC1091 # the script's variables; it is the package's
	(ACTION=ifup INTERFACE=wan && . /etc/hotplug.d/iface/95-smtprelay)
}

# quiet: waits until the gateway has ended the threads that it had for disk and name server: their times end with them.
quiet() {
	read -r pid <$PIDFILE
	while cat "/proc/$pid/task"/*/comm 2>/dev/null | grep -q -e '^tokio-rt-worker' -e '^lookup'; do usleep 500000; done
}

# cpu: microseconds that the gateway's threads have run, and how often they have slept, in all.
cpu() {
	run=0 slept=0
	read -r pid <$PIDFILE
	for task in "/proc/$pid/task"/*; do
		read -r nanoseconds _ <"$task/schedstat" || continue
		run=$((run + nanoseconds / 1000))
		slept=$((slept + $(sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' "$task/status")))
	done
	echo "router: cpu run=$run slept=$slept"
}

# family PROCESS: microseconds that a process and its children have run, also those that have ended (to 10 ms), and the memory of
# those that live in KB, what several of them share being counted once (PSS).
family() {
	head=$1 run=0 memory=0
	for folder in /proc/[0-9]*; do
		read -r line 2>/dev/null <"$folder/stat" || continue
		# Behind the name: state, parent; the times of ended children are the 14th and 15th.
		# shellcheck disable=SC2086 # words
		set -- ${line##*) }
		if [ "${folder#/proc/}" = "$head" ]; then
			run=$((run + (${14} + ${15}) * 10000))
		elif [ "$2" != "$head" ]; then
			continue
		fi
		read -r nanoseconds _ <"$folder/schedstat" || continue
		run=$((run + nanoseconds / 1000))
		memory=$((memory + $(kilobytes Pss "$folder/smaps_rollup")))
	done
	echo "router: cpu run=$run memory=$memory"
}

# Says which messages have left the RAM disk: delivered, or moved to the flash. The new list is made before the old one is
# looked through, so that what vanishes in between is missed by neither; it may be told twice. Whether there are any is
# told by their names: the first may be gone already when the others are not.
watch_spool() {
	new=

	while usleep 200000; do
		old=$new
		set -- /spool/queue/*.msg
		[ "$*" != '/spool/queue/*.msg' ] || set --
		new=$*
		for file in $old; do
			[ -e "$file" ] || echo "powercut: gone ${file##*/}"
		done
	done
}

# off: the end of a shutdown.
off() {
	kill "$logger"
	sync
	mount -o remount,ro /
	reboot -f
}

stty -echo
start
if grep -q "option spool '/spool'" /etc/config/smtprelay; then
	watch_spool &
fi
while read -r line; do
	eval "$line"
done
