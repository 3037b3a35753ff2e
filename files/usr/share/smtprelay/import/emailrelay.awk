# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: OpenWrt's package emailrelay: /etc/config/emailrelay with the file of its logins.

function read_emailrelay(path,   lines, count, i, words, many, section) {
	count = read_lines(path, lines)
	ER_SECTIONS = 0
	for (i = 1; i <= count; i++) {
		if (lines[i] ~ /^[ \t]*(#|$)/)
			continue
		many = shell_words(lines[i], words)
		if (words[1] == "config") {
			section = ++ER_SECTIONS
			ER[section, "name"] = many > 2 ? words[3] : "emailrelay"
			ER[section, "at"] = path ":" i
			ER[section, "enabled"] = 1
		} else if (words[1] == "option" && many > 2 && section) {
			ER[section, words[2]] = words[3]
			ER[section, words[2], "at"] = path ":" i
		}
	}
	many = 0
	for (section = 1; section <= ER_SECTIONS; section++)
		if (is_yes(ER[section, "enabled"]))
			many += emailrelay_instance(path, section)
		else if (ER[section, "smarthost"] != "" && ER_SECTIONS > 1)
			note(ER[section, "at"], "section '" ER[section, "name"] "' is disabled and was not taken over")
	if (many)
		return
	# A relay that was stopped before the change.
	for (section = 1; section <= ER_SECTIONS && !many; section++)
		if (ER[section, "smarthost"] != "" || ER[section, "mode"] == "cmdline") {
			note(ER[section, "at"], "section '" ER[section, "name"] "' is disabled, and taken over because no other names a server")
			many = emailrelay_instance(path, section)
		}
}

# The command line of an instance as options of the section. Returns whether it names a server.
function emailrelay_options(section,   words, count, i, name, value) {
	count = shell_words(ER[section, "extra_cmdline"], words)
	for (i = 1; i <= count; i++) {
		name = words[i]
		value = ""
		if (name ~ /^--.*=/) {
			value = substr(name, index(name, "=") + 1)
			sub(/=.*/, "", name)
		} else if (i < count && words[i + 1] !~ /^-/)
			value = words[++i]
		if (name ~ /^(--forward-to|-o|--as-proxy|-y|--as-client|-q)$/)
			ER[section, "smarthost"] = value
		else if (name ~ /^(--client-auth|-C)$/)
			ER[section, "client_auth"] = value
		else if (name ~ /^(--client-tls|-j)$/)
			ER[section, "client_tls"] = 1
		else if (name ~ /^(--client-tls-connection|-b)$/)
			ER[section, "implicit"] = 1
		else if (name ~ /^(--client-tls-required)$/)
			ER[section, "client_tls"] = 1
		else if (name ~ /^(--client-tls-verify)$/)
			ER[section, "verify"] = value
		else if (name ~ /^(--port|-p)$/)
			ER[section, "port"] = value
		else if (name ~ /^(--domain|-D)$/)
			ER[section, "domain"] = value
		else if (name ~ /^(--remote-clients|-r)$/)
			ER[section, "remote_clients"] = 1
		else if (name ~ /^(--interface|-I)$/)
			note(ER[section, "extra_cmdline", "at"], name " " value ": set list interface or list address of the listener")
		else if (name ~ /^(--size)$/ && value ~ /^[1-9][0-9]*$/)
			set_relay("message_limit", value < 16384 ? 16384 : value)
		else if (name ~ /^(--server-auth|-S|--server-tls|-K)$/)
			ER[section, name ~ /tls|K/ ? "server_tls" : "server_auth"] = value != "" ? value : "1"
		else if (name ~ /^(--filter|-z|--client-filter|-Y|--address-verifier|-Z|--dnsbl)$/)
			note(ER[section, "extra_cmdline", "at"], name ": no counterpart: programs are not run on mail")
		else
			ignore(folder_of(ER[section, "at"]) "/emailrelay extra_cmdline", name)
	}
}

function emailrelay_instance(path, section,   a, file, at) {
	emailrelay_options(section)
	at = ER[section, "smarthost", "at"] != "" ? ER[section, "smarthost", "at"] : ER[section, "at"]
	if (ER[section, "port"] ~ /^[1-9][0-9]*$/ && ER[section, "port"] != 25)
		listen("port", ER[section, "port"])
	if (ER[section, "remote_clients"] != "" && !is_yes(ER[section, "remote_clients"]))
		note(ER[section, "at"], "remote_clients 0: only programs on the router could send. The listener of smtprelay stays as it is; without devices: uci set smtprelay.lan.enabled='0'")
	if (ER[section, "server_tls"] != "")
		note(ER[section, "at"], "server_tls: TLS for devices is off unless option tls of the listener is 'starttls': many old devices fail where it is offered")
	if (ER[section, "server_auth"] != "")
		note(ER[section, "at"], "server_auth: logins of devices: see sections user and option auth of the listener")
	if (ER[section, "smarthost"] == "") {
		note(ER[section, "at"], "section '" ER[section, "name"] "' names no smarthost, so there is no account")
		return 0
	}
	a = new_account(at, "provider")
	set_host(a, ER[section, "smarthost"])
	if (ER[section, "implicit"] || ACCOUNT[a, "port"] == 465)
		ACCOUNT[a, "tls"] = "implicit"
	else
		ACCOUNT[a, "tls"] = is_yes(ER[section, "client_tls"]) ? "starttls" : "none"
	if (ER[section, "domain"] != "")
		set_hostname(at, ER[section, "domain"])
	if (ER[section, "client_auth"] != "") {
		file = found(ER[section, "client_auth"], path)
		if (ER[section, "client_auth"] ~ /^(plain|login):/)
			emailrelay_login(a, ER[section, "client_auth"], at)
		else if (file == "")
			cannot_find(at, "client_auth", ER[section, "client_auth"])
		else
			emailrelay_logins(file, a)
	}
	if (ACCOUNT[a, "tls"] != "none" && ER[section, "verify"] == "")
		not_verified(a, at, "E-MailRelay does not verify without --client-tls-verify")
	else if (ER[section, "verify"] ~ /^\//)
		set_ca(a, at, ER[section, "verify"])
	return 1
}

# plain:USER:PASSWORD in base64, in place of a file.
function emailrelay_login(a, text, where,   part) {
	if (split(text, part, ":") == 3)
		set_login(a, base64_decoded(part[2]), base64_decoded(part[3]), where)
}

# Lines "client plain USER PASSWORD", or "plain client USER PASSWORD" of old versions. User and password are xtext; with
# "plain:b", base64. A password in "md5" is a state of a hash, from which it cannot be regained.
function emailrelay_logins(path, a,   lines, count, i, words, many, kind, side, user, secret) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		if (lines[i] ~ /^[ \t]*(#|$)/)
			continue
		many = split(trim(lines[i]), words, /[ \t]+/)
		side = tolower(words[1])
		kind = tolower(words[2])
		if (kind == "client" || kind == "server") {
			side = kind
			kind = tolower(words[1])
		}
		if (side == "server") {
			ignore(path, "server")
			continue
		}
		if (side != "client" || many < 4) {
			if (kind !~ /^none/)
				note(path ":" i, "this line is not the login of a client")
			continue
		}
		user = words[3]
		secret = words[4]
		if (kind ~ /:b$/) {
			user = base64_decoded(user)
			secret = base64_decoded(secret)
		} else {
			user = unescaped(user, "+")
			secret = unescaped(secret, "+")
		}
		if (kind ~ /^oauth/) {
			ACCOUNT[a, "auth"] = "xoauth2"
			secret = ""
		} else if (kind !~ /^(plain|login|cram-md5)(:[bx])?$/ || user == "") {
			note(path ":" i, kind ": the password cannot be regained from it: smtprelay password {account}", a)
			secret = ""
		}
		if (ACCOUNT[a, "pass"] != "" && ACCOUNT[a, "user"] != user)
			note(path ":" i, "a further login: the first one counts", a)
		else if (ACCOUNT[a, "pass"] == "")
			set_login(a, user, secret, path ":" i)
	}
}
