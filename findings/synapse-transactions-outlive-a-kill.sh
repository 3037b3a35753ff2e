#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# matrix-synapse 1.163.2 (PyPI): a transaction ID outlives kill -9 of the server, but not another login of the same user.
#
# A sender that got no answer repeats its request with the same transaction ID, which has to create no second message.
# Synapse keeps the answers of half an hour in memory, so one would expect a second message when it was killed in between;
# but it also stores the IDs with the messages, and gives the same event ID again, whatever the repeated text is. The ID
# counts for a device, not for a user: with the token of another login it creates a second message. A room that does not
# exist gets 403, not 404, and says that the user is not in it. The ID of a new room does not end with the name of a server.
#
# Seen:
#	room ID ends with the server: False
#	first 200; again with another text: same event; after kill -9: same event
#	token of another login: another event; new token of the same device: same event
#	texts in the room: first, first
#	room that does not exist: 403 M_FORBIDDEN
#
# Needs PyPI and Python 3.10 or newer. Loopback only. Ends with 0 when the behaviour is as described, with 1 when it has changed.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$folder/env"
timeout 900 "$folder/env/bin/pip" install --quiet matrix-synapse==1.163.2
cat >"$folder/play.py" <<'END_OF_CLIENT'
import hashlib, hmac, json, os, socket, subprocess, sys, time, urllib.error, urllib.parse, urllib.request

folder = sys.argv[1]
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
base = f"http://127.0.0.1:{port}"
settings = {
    "server_name": "matrix.test",
    "listeners": [{"port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "resources": [{"names": ["client"]}]}],
    "database": {"name": "sqlite3", "args": {"database": f"{folder}/db"}},
    "media_store_path": f"{folder}/media",
    "signing_key_path": f"{folder}/key",
    "registration_shared_secret": "shared",
    "macaroon_secret_key": "macaroon",
    "form_secret": "form",
    "report_stats": False,
    "trusted_key_servers": [],
    "rc_login": {"address": {"per_second": 100, "burst_count": 100}, "account": {"per_second": 100, "burst_count": 100}},
}
with open(f"{folder}/settings.yaml", "w") as file:
    json.dump(settings, file)
command = [sys.executable, "-m", "synapse.app.homeserver", "-c", f"{folder}/settings.yaml"]
subprocess.run([*command, "--generate-keys"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def ask(method, path, body=None, token=None):
    fields = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    asked = urllib.request.Request(base + path, body and json.dumps(body).encode(), fields, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)


def start():
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            ask("GET", "/_matrix/client/versions")
            return server
        except OSError:
            time.sleep(0.1)
    server.kill()
    sys.exit("timeout")


server = start()
try:
    nonce = ask("GET", "/_synapse/admin/v1/register")[1]["nonce"]
    signed = hmac.new(b"shared", f"{nonce}\0gate\0secret-1\0notadmin".encode(), hashlib.sha1).hexdigest()
    user = {"nonce": nonce, "username": "gate", "password": "secret-1", "admin": False, "mac": signed}
    token = ask("POST", "/_synapse/admin/v1/register", user)[1]["access_token"]
    room = ask("POST", "/_matrix/client/v3/createRoom", {"preset": "private_chat"}, token)[1]["room_id"]

    def put(text, token, room=room):
        path = f"/_matrix/client/v3/rooms/{urllib.parse.quote(room)}/send/m.room.message/7Q2"
        return ask("PUT", path, {"msgtype": "m.text", "body": text}, token)

    def login(**more):
        who = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "gate"}, "password": "secret-1"}
        return ask("POST", "/_matrix/client/v3/login", {**who, **more})[1]

    print("room ID ends with the server:", room.endswith(":matrix.test"))
    status, first = put("first", token)
    known = {first["event_id"]}

    def event(answer):
        word = "same event" if answer[1]["event_id"] in known else "another event"
        known.add(answer[1]["event_id"])
        return word

    again = event(put("another", token))
    server.kill()
    server.wait()
    server = start()
    print(f"first {status}; again with another text: {again}; after kill -9: {event(put('first', token))}")
    other = login()
    another = event(put("first", other["access_token"]))
    renewed = login(device_id=other["device_id"])
    print(f"token of another login: {another}; new token of the same device: {event(put('first', renewed['access_token']))}")
    path = f"/_matrix/client/v3/rooms/{urllib.parse.quote(room)}/messages?dir=f&limit=100"
    texts = [one["content"]["body"] for one in ask("GET", path, token=token)[1]["chunk"] if one["type"] == "m.room.message"]
    print("texts in the room:", ", ".join(texts))
    status, refused = put("first", token, "!nobody:matrix.test")
    print("room that does not exist:", status, refused["errcode"])
finally:
    server.kill()
    server.wait()
END_OF_CLIENT
cat >"$folder/expected" <<'END_OF_EXPECTED'
room ID ends with the server: False
first 200; again with another text: same event; after kill -9: same event
token of another login: another event; new token of the same device: same event
texts in the room: first, first
room that does not exist: 403 M_FORBIDDEN
END_OF_EXPECTED
timeout 300 "$folder/env/bin/python" "$folder/play.py" "$folder" >"$folder/seen" 2>"$folder/log" || cat "$folder/log" >&2
cat "$folder/seen"
if ! diff "$folder/expected" "$folder/seen"; then
	echo 'changed: matrix-synapse 1.163.2 no longer does what the head of this file says' >&2
	exit 1
fi
echo 'as described'
