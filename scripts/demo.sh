#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Shows the whole way once: a provider stand-in with TLS and login, the gateway, a Controllino's conversation byte for
# byte, and the mail as the provider got it. Everything runs on this machine and ends with the script.
set -eu
cd "$(dirname "$0")/.."
target=$(scripts/target_dir.sh)
program=$target/debug/smtprelay
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

echo '1. A mail provider: TLS from the first byte, certificate of an authority made for this demo, login required.'
"$target/debug/examples/provider" --port-file "$scratch/port" --ca-out "$scratch/ca.pem" \
	--user u --password p --tls implicit --count 1 >"$scratch/provider.out" 2>&1 &
provider=$!
await "$scratch/port" . "$provider"

echo '2. The gateway, with these settings:'
cat >"$scratch/smtprelay" <<SETTINGS
config relay 'main'
	option enabled '1'
	option hostname 'gw.example'
	option user 'root'
	option spool '$scratch/ram'
	option safe_spool '$scratch/flash'
	option durability 'always'

config listener 'lan'
	list address '127.0.0.1'
	option port '0'
	list allow '127.0.0.0/8'

config account 'provider'
	option provider 'custom'
	option host 'localhost'
	option port '$(cat "$scratch/port")'
	option tls 'implicit'
	option ca_file '$scratch/ca.pem'
	option username 'u'
	option password 'p'
	option from 'me@example.com'
	option from_policy 'keep'
SETTINGS
sed 's/^/   /' "$scratch/smtprelay"
"$program" check --config "$scratch/smtprelay" | sed 's/^/   /'
"$program" run --foreground --config "$scratch/smtprelay" 2>"$scratch/log" &
gateway=$!
await "$scratch/log" event=listening "$gateway"
port=$(sed -n 's/.*event=listening .*port=\([0-9]*\).*/\1/p' "$scratch/log")

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

echo '4. What the provider got:'
wait "$provider"
provider=
sed 's/^/   /' "$scratch/provider.out"
echo '5. What the gateway logged:'
await "$scratch/log" event=removed "$gateway"
grep -E 'event=(accepted|delivered)' "$scratch/log" | sed 's/^/   /'
for needed in '^From: ' '^To: ' '^Date: ' '^Message-ID: ' '^The horse does not eat cucumber salad'; do
	grep -q "$needed" "$scratch/provider.out" || {
		echo "The mail lacks '$needed'." >&2
		exit 1
	}
done
echo
echo 'A real device: set its mail server (SMTP host) to the address of the router, port 25, no TLS, any login or none.'
