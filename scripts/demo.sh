#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Shows the whole way once: a Controllino's conversation byte for byte while the provider is down, the gateway killed and
# started again, and the mail as the provider got it, over TLS with a login. Everything runs on this machine, in a folder
# of its own, and ends with the script.
set -eu
cd "$(dirname "$0")/.."
program=$(scripts/target_dir.sh)/debug/smtprelay
scratch=$(mktemp -d)
provider='' gateway=''

finish() {
	for pid in $gateway $provider; do
		kill "$pid" 2>/dev/null || true
	done
	rm -rf "$scratch"
}
trap finish EXIT

# await FILE PATTERN PID: until a line in FILE fits PATTERN; ends with PID.
await() {
	until grep -q "$2" "$1" 2>/dev/null; do
		kill -0 "$3" 2>/dev/null || {
			cat "$1" >&2
			exit 1
		}
		sleep 0.1
	done
}

# start_gateway LOG: sets gateway and port.
start_gateway() {
	"$program" run --foreground --config "$scratch/smtprelay" 2>"$1" &
	gateway=$!
	await "$1" event=listening "$gateway"
	port=$(sed -n 's/.*event=listening .*port=\([0-9]*\).*/\1/p' "$1")
}

# show LOG EVENTS
show() {
	grep -E "event=($2)" "$1" | sed 's/^/   /'
}

echo '1. A mail provider with TLS and a login. It is down at first.'
# By default openssl would make it the certificate of an authority, which no server may present.
cat >"$scratch/openssl.cnf" <<'CERTIFICATE'
[req]
distinguished_name = name
x509_extensions = server
[name]
[server]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost
CERTIFICATE
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
	-config "$scratch/openssl.cnf" -keyout "$scratch/key.pem" -out "$scratch/cert.pem" 2>"$scratch/openssl" || {
	cat "$scratch/openssl" >&2
	exit 1
}
scripts/demo_provider.py "$scratch" >"$scratch/provider.out" &
provider=$!
await "$scratch/port" . "$provider"

echo '2. The gateway, with these settings:'
cat >"$scratch/smtprelay" <<SETTINGS
config relay 'main'
	option hostname 'gw.example'
	option spool '$scratch/ram'
	option safe_spool '$scratch/flash'
	option durability 'always'
	option secrets '$scratch'

config listener 'lan'
	list address '127.0.0.1'
	option port '0'
	list allow '127.0.0.0/8'

config account 'provider'
	option provider 'custom'
	option host 'localhost'
	option port '$(cat "$scratch/port")'
	option tls 'implicit'
	option ca_file '$scratch/cert.pem'
	option username 'u'
	option from 'me@example.com'
	option from_policy 'keep'
SETTINGS
# Root would become the user "smtprelay", which the package creates.
[ "$(id -u)" != 0 ] || sed -i "s/^config relay 'main'/&\n\toption user 'root'/" "$scratch/smtprelay"
chmod 600 "$scratch/smtprelay"
sed 's/^/   /' "$scratch/smtprelay"
printf 'p\n' | "$program" password provider --config "$scratch/smtprelay" >"$scratch/password" 2>&1 || {
	cat "$scratch/password" >&2
	exit 1
}
start_gateway "$scratch/log"

echo '3. A Controllino with the published sketch: the next piece goes out when any byte has come, no reply is read.'
python3 - "$port" <<'CONTROLLINO'
import socket, sys
pieces = ["EHLO plc@example.com\r\n", "MAIL FROM: <plc@example.com>\r\n", "RCPT TO: <ops@example.com>\r\n", "DATA\r\n",
          "Subject: a Horse\r\n", "The horse does not eat cucumber salad", "\r\n.\r\n", "QUIT\r\n"]
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plc:
    plc.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        # It only looks whether something is there; after a reply that begins with 4 or 5 it would send this and stop.
        if plc.recv(1, socket.MSG_PEEK) in (b"4", b"5"):
            plc.sendall(b"QUIT)")
            sys.exit("The Controllino was refused.")
        plc.sendall(piece.encode())
        print("   > " + repr(piece)[1:-1])
    plc.shutdown(socket.SHUT_WR)
    print("   What it has never read:")
    with plc.makefile() as replies:
        for reply in replies:
            print("   < " + reply, end="")
CONTROLLINO
await "$scratch/log" 'event=\(paused\|deferred\)' "$gateway"
show "$scratch/log" 'accepted|paused|deferred'

echo '4. The gateway is killed (SIGKILL). The provider comes up, the gateway is started again:'
kill -9 "$gateway"
wait "$gateway" 2>/dev/null || true
kill -USR1 "$provider"
start_gateway "$scratch/log2"

echo '5. What the provider got:'
wait "$provider"
provider=
sed 's/^/   /' "$scratch/provider.out"

echo '6. What the gateway logged after the start:'
await "$scratch/log2" event=removed "$gateway"
show "$scratch/log2" 'recovered|delivered'
for needed in '^From: ' '^To: ' '^Date: ' '^Message-ID: ' '^The horse does not eat cucumber salad'; do
	grep -q "$needed" "$scratch/provider.out" || {
		echo "The mail lacks '$needed'." >&2
		exit 1
	}
done
echo
echo 'It works. The mail survived a provider that was down and a gateway that was killed.'
echo 'A real device: set its mail server (SMTP host) to the address of the router, port 25, no TLS, any login or none.'
