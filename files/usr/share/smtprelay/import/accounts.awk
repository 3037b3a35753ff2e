# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: what the readers found, as sections of smtprelay: accounts with presets and names, routes, aliases.

# --- What readers call

# A new account; `name` is a proposal.
function new_account(where, name,   a) {
	a = ++ACCOUNTS
	ACCOUNT[a, "where"] = where
	ACCOUNT[a, "name"] = name
	# gawk 5.2.1 gives an element that was never set another value once a function has got it.
	ACCOUNT[a, "user"] = ""
	return a
}

# Host and port as relays write them: host, host:port, [host]:port, an IPv6 address in brackets.
function set_host(a, text,   port) {
	port = ""
	if (text ~ /^\[/) {
		if (match(text, /\]:?/)) {
			port = substr(text, RSTART + RLENGTH)
			text = substr(text, 2, RSTART - 2)
		}
		sub(/^[Ii][Pp][Vv]6:/, "", text)
	} else if (text ~ /^[^:]*:[^:]*$/) {
		port = substr(text, index(text, ":") + 1)
		sub(/:.*/, "", text)
	}
	ACCOUNT[a, "host"] = tolower(text)
	if (port != "")
		ACCOUNT[a, "port"] = port_number(port)
}

function port_number(text) {
	text = tolower(text)
	if (text == "smtp")
		return 25
	if (text == "submission")
		return 587
	if (text == "smtps" || text == "submissions" || text == "urd" || text == "ssmtp")
		return 465
	return text ~ /^[0-9]+$/ && text + 0 > 0 && text + 0 < 65536 ? text + 0 : ""
}

function set_login(a, user, password, where) {
	ACCOUNT[a, "user"] = user
	if (password != "") {
		ACCOUNT[a, "pass"] = password
		ACCOUNT[a, "pass_where"] = where == "" ? ACCOUNT[a, "where"] : where
	}
}

# The old relay did not verify, or not in this way.
function not_verified(a, where, what) {
	note(where, what ": certificates are verified. If that of " ACCOUNT[a, "host"] " cannot be (self-signed, private authority), set option fingerprint or ca_file of account '{account}'", a)
}

function set_ca(a, where, path) {
	if (path ~ /^(\/etc\/ssl\/(certs\/(ca-certificates\.crt|ca-bundle\.crt|ca-bundle\.trust\.crt)|cert\.pem|ca-bundle\.pem)|\/etc\/pki\/tls\/.*|\/etc\/pki\/ca-trust\/.*|\/usr\/share\/ssl\/.*|\/usr\/local\/share\/certs\/.*|\/usr\/local\/etc\/ssl\/.*|\/etc\/ca-certificates\/.*|\/var\/lib\/ca-certificates\/.*)$/)
		return
	if (folder_of(path) == "/etc/ssl/certs") {
		note(where, path ": not taken over, because the system's authorities are trusted; for an authority of your own, copy its file to the router and set option ca_file of account '{account}'", a)
		return
	}
	if (path !~ /^\//) {
		note(where, "'" path "' is not an absolute path: set option ca_file of account '{account}'", a)
		return
	}
	ACCOUNT[a, "ca"] = path
	note(where, path ": this file with authorities has to be on the router at the same path", a)
}

function set_fingerprint(a, where, text,   digits) {
	digits = text
	sub(/^[Ss][Hh][Aa]256[:=]/, "", digits)
	gsub(/:/, "", digits)
	if (length(digits) == 64 && digits ~ /^[0-9A-Fa-f]+$/)
		ACCOUNT[a, "fingerprint"] = toupper(digits)
	else
		note(where, "fingerprint " text ": not SHA-256. Certificates are verified instead; to trust one certificate only, set option fingerprint of account '{account}' as openssl x509 -fingerprint -sha256 prints it", a)
}

function set_relay(option, value) {
	if (!(option in RELAY))
		RELAY_OPTION[++RELAYS] = option
	RELAY[option] = value
}

function set_admin(where, address) {
	if (is_address(address))
		set_relay("admin", address)
	else if (address != "")
		note(where, "'" address "' is not an address: option admin was not set")
}

function set_hostname(where, name) {
	if (name ~ /^[A-Za-z0-9._-]+$/) {
		if (name !~ /^localhost(\.localdomain)?$/)
			set_relay("hostname", name)
	} else if (name != "")
		note(where, "'" name "' is not a host name: option hostname was not set")
}

function listen(option, value) {
	LISTEN[++LISTENS] = option "\t" value
}

# Mail that matches goes through account a: `kind` is sender or recipient.
function set_route(a, kind, pattern) {
	ROUTE[a, kind, ++ROUTES[a, kind]] = pattern
}

# All recipients of an alias. Names for the postmaster go to admin anyway.
function set_alias(where, name, to, count,   i) {
	name = tolower(name)
	sub(/^@/, "*@", name)
	if (name == "root" || name == "default" || name == "postmaster") {
		if (count == 1 && tolower(to[1]) == "root")
			return
		if (count == 1 && name == "root" && !is_address(to[1])) {
			note(where, "alias root: " to[1] " has no mailbox here: set option admin of section main")
			return
		}
		if (name != "postmaster" && is_address(to[1])) {
			if (!("admin" in RELAY) || name == "root")
				set_relay("admin", to[1])
			if (count == 1)
				return
		}
		if (name == "default")
			name = "*"
	} else if (count == 1 && to[1] ~ /^(root|postmaster|MAILER-DAEMON)$/)
		# Names without an alias go to admin, as root does.
		return
	if (!is_address(name) && name !~ /^(\*|\*@[a-z0-9.-]+|[a-z0-9._+-]+)$/) {
		note(where, "alias '" name "' is not an address and not a name")
		return
	}
	if (!(name in ALIAS))
		ALIAS_NAME[++ALIASES] = name
	ALIAS[name] = ""
	for (i = 1; i <= count; i++)
		ALIAS[name] = ALIAS[name] "\t" to[i]
}

# Seconds, minutes and so on of another relay; `unit` if it writes none. Nothing for what is not a time.
function duration(text, unit) {
	text = tolower(text)
	return text ~ /^[0-9]+[smhdw]?$/ ? text (text ~ /[smhdw]$/ ? "" : unit) : ""
}

# --- Presets and settings that are there

function json(record, field,   value) {
	if (!match(record, "\"" field "\":\"[^\"]*\""))
		return ""
	value = substr(record, RSTART, RLENGTH)
	sub(/^"[a-z_]*":"/, "", value)
	sub(/"$/, "", value)
	return value
}

# From stdin: the presets as JSON in one line, and what `uci show smtprelay` prints.
function read_known(   line, records, count, i, section, option, value) {
	while ((getline line) > 0) {
		if (line ~ /^\[/) {
			count = split(line, records, /[}],[ ]*[{]/)
			for (i = 1; i <= count; i++) {
				PRESET[++PRESETS] = json(records[i], "id")
				PRESET_HOST[PRESETS] = json(records[i], "host")
				PRESET_DOMAINS[PRESETS] = json(records[i], "domains")
				PRESET_SECRET[PRESETS] = json(records[i], "secret")
				PRESET_USER[PRESETS] = json(records[i], "user")
				PRESET_FROM[PRESETS] = json(records[i], "from")
			}
			continue
		}
		if (!match(line, /^[^.]*\.[^.=]*/))
			continue
		section = substr(line, index(line, ".") + 1, RLENGTH - index(line, "."))
		line = substr(line, RLENGTH + 1)
		value = substr(line, index(line, "=") + 1)
		gsub(/^'|'$/, "", value)
		if (line ~ /^=/) {
			THERE[section] = value
			if (!(value in FIRST))
				FIRST[value] = section
		} else {
			option = substr(line, 2, index(line, "=") - 2)
			THERE[section, option] = value
		}
	}
}

function domain_fits(domain, patterns,   list, count, i, stem) {
	count = split(patterns, list, " ")
	for (i = 1; i <= count; i++) {
		stem = list[i]
		if (stem == domain)
			return 1
		if (sub(/\*$/, "", stem) && index(domain, stem) == 1 && substr(domain, length(stem) + 1) ~ /^[a-z]+(\.[a-z]+)?$/)
			return 1
	}
	return 0
}

# The preset with the host of account a; of several, the one for the domain of its user, or one for any domain.
function find_preset(a,   i, host, domain, fits, any, first, head, tail) {
	host = ACCOUNT[a, "host"]
	domain = domain_of(ACCOUNT[a, "user"])
	for (i = 1; i <= PRESETS; i++) {
		if (PRESET_HOST[i] ~ /\{region\}/) {
			head = tail = PRESET_HOST[i]
			sub(/\{region\}.*/, "", head)
			sub(/.*\{region\}/, "", tail)
			if (index(host, head) != 1 || length(host) <= length(head tail) || substr(host, length(host) - length(tail) + 1) != tail)
				continue
			ACCOUNT[a, "region"] = substr(host, length(head) + 1, length(host) - length(head tail))
		} else if (PRESET_HOST[i] != host)
			continue
		if (!first)
			first = i
		if (PRESET_DOMAINS[i] == "" && !any)
			any = i
		if (domain_fits(domain, PRESET_DOMAINS[i]) && !fits)
			fits = i
	}
	return fits ? fits : any ? any : first
}

# --- The result

# A name for a section that is free, or that belongs to the same login.
function choose_name(proposal, user,   name, number) {
	gsub(/[^A-Za-z0-9_]/, "_", proposal)
	if (proposal == "")
		proposal = "provider"
	name = proposal
	for (number = 2; !name_is_free(name, user); number++)
		name = proposal "_" number
	TAKEN[name] = 1
	return name
}

function name_is_free(name, user) {
	if ((name in TAKEN) || name == "main" || name == "lan")
		return 0
	if (!(name in THERE))
		return 1
	if (THERE[name] != "account")
		return 0
	return tolower(THERE[name, "username"]) == tolower(user) || (THERE[name, "username"] == "" && THERE[name, "host"] == "")
}

# Fills in what follows from the rest, so that the settings are valid.
function complete(a,   where, preset, port, tls, from) {
	where = ACCOUNT[a, "where"]
	preset = ACCOUNT[a, "preset"] = find_preset(a)
	port = ACCOUNT[a, "port"]
	tls = ACCOUNT[a, "tls"]
	if (tls == "starttls" && port == 465) {
		note(where, "port 465 is for TLS from the first byte: tls 'implicit'", a)
		tls = "implicit"
	}
	if (tls == "none" && ACCOUNT[a, "user"] != "") {
		tls = port == 465 ? "implicit" : "starttls"
		note(where, "a login is never sent unencrypted: tls '" tls "' is required from now on", a)
	}
	if (tls == "none")
		note(where, "no TLS here, so none in account '{account}': mail can be read on the network path. If the server offers STARTTLS: uci set smtprelay.{account}.tls='starttls'", a)
	ACCOUNT[a, "tls"] = tls
	if (port == "")
		ACCOUNT[a, "port"] = tls == "implicit" ? 465 : 25
	if (preset && PRESET_SECRET[preset] == "oauth2" && ACCOUNT[a, "auth"] == "")
		ACCOUNT[a, "auth"] = "xoauth2"
	if (ACCOUNT[a, "auth"] == "xoauth2") {
		ACCOUNT[a, "pass"] = ""
		ACCOUNT[a, "oauth"] = ACCOUNT[a, "host"] ~ /\.gmail\.com$/ ? "google" : ACCOUNT[a, "host"] ~ /\.(office365|outlook|office)\.com$/ ? "microsoft" : "custom"
		# Without a client of the owner the settings would not be valid.
		ACCOUNT[a, "enabled"] = "0"
		note(where, "a login with tokens (OAuth) cannot be copied: account '{account}' is disabled until you set its client_id and so on (docs/guide/oauth.md), then uci set smtprelay.{account}.enabled='1' and smtprelay login {account}", a)
	} else if (ACCOUNT[a, "user"] != "" && ACCOUNT[a, "pass"] == "" && !ACCOUNT[a, "asked"])
		note(where, "no password was found for " ACCOUNT[a, "user"] ": smtprelay password {account}", a)
	from = ACCOUNT[a, "from"]
	if (from != "" && !is_address(from)) {
		note(where, "'" from "' is not an address: option from was not set", a)
		from = ACCOUNT[a, "from"] = ""
	}
	# The login name is the first part of the address, and the preset knows the rest.
	if (from == "" && preset && PRESET_USER[preset] == "localpart" && PRESET_DOMAINS[preset] ~ /^[a-z0-9.-]+$/ && ACCOUNT[a, "user"] !~ /@/)
		from = ACCOUNT[a, "from"] = ACCOUNT[a, "user"] "@" PRESET_DOMAINS[preset]
	if (ACCOUNT[a, "policy"] == "" && !preset)
		ACCOUNT[a, "policy"] = "keep"
	if (from == "" && !is_address(ACCOUNT[a, "user"]) && ACCOUNT[a, "policy"] != "keep") {
		ACCOUNT[a, "policy"] = "keep"
		note(where, "the address that may be the sender is not named here. If the provider refuses the senders of the devices, set options from and from_policy of account '{account}'", a)
	} else if (ACCOUNT[a, "policy"] == "keep")
		note(where, "senders stay as the devices give them, as before (from_policy 'keep'). If the provider refuses them, set options from and from_policy 'account' of account '{account}'", a)
	else if (ACCOUNT[a, "policy"] == "" && PRESET_FROM[preset] == "account")
		note(where, "From becomes " (from != "" ? from : ACCOUNT[a, "user"]) ", the only sender that " ACCOUNT[a, "host"] " allows; the device stays visible in its display name", a)
}

function print_option(section, name, value) {
	if (value != "")
		print "O\t" section "\t" name "\t" checked(section, name, value)
}

# A value that is a line of its own. Anything else cannot be in these files, unless they are damaged.
function checked(section, name, value) {
	if (value ~ /[\001-\037\177]/) {
		note(section "." name, "a control character in this value was left out")
		gsub(/[\001-\037\177]/, "", value)
	}
	return value
}

function print_account(a,   name, preset, kind, i) {
	name = ACCOUNT[a, "name"]
	preset = ACCOUNT[a, "preset"]
	print "S\t" name "\taccount"
	print_option(name, "enabled", ACCOUNT[a, "enabled"])
	print_option(name, "provider", preset ? PRESET[preset] : "custom")
	if (preset)
		print_option(name, "region", ACCOUNT[a, "region"])
	else
		print_option(name, "host", ACCOUNT[a, "host"])
	print_option(name, "port", ACCOUNT[a, "port"])
	print_option(name, "tls", ACCOUNT[a, "tls"])
	print_option(name, "ca_file", ACCOUNT[a, "ca"])
	print_option(name, "fingerprint", ACCOUNT[a, "fingerprint"])
	print_option(name, "username", ACCOUNT[a, "user"])
	print_option(name, "auth", ACCOUNT[a, "auth"])
	print_option(name, "oauth", ACCOUNT[a, "oauth"])
	print_option(name, "from", ACCOUNT[a, "from"])
	print_option(name, "from_policy", ACCOUNT[a, "policy"])
	print_option(name, "timeout", ACCOUNT[a, "timeout"])
	print_option(name, "default", ACCOUNT[a, "default"])
	if (ACCOUNT[a, "pass"] != "")
		print "P\t" name "\t" shown(ACCOUNT[a, "pass_where"]) "\t" checked(name, "password", ACCOUNT[a, "pass"])
	for (kind = "sender"; kind != ""; kind = kind == "sender" ? "recipient" : "") {
		if (!ROUTES[a, kind])
			continue
		print "S\troute_" kind "_" name "\troute"
		for (i = 1; i <= ROUTES[a, kind]; i++)
			print "L\troute_" kind "_" name "\t" kind "\t" ROUTE[a, kind, i]
		print "L\troute_" kind "_" name "\taccount\t" name
	}
}

# A line per fact: S section kind, O section option value, L section list value, C section option (clears a list),
# D section, P account where password, N text.
function print_all(   a, i, k, parts, count, relay, listener, name, cleared, text) {
	for (a = 1; a <= ACCOUNTS; a++) {
		complete(a)
		ACCOUNT[a, "name"] = choose_name(ACCOUNT[a, "name"], ACCOUNT[a, "user"])
	}
	relay = ("relay" in FIRST) ? FIRST["relay"] : "main"
	if (relay == "main")
		print "S\tmain\trelay"
	print "O\t" relay "\tenabled\t1"
	for (i = 1; i <= RELAYS; i++)
		print_option(relay, RELAY_OPTION[i], RELAY[RELAY_OPTION[i]])
	listener = ("listener" in FIRST) ? FIRST["listener"] : "lan"
	if (LISTENS && listener == "lan")
		print "S\tlan\tlistener"
	for (i = 1; i <= LISTENS; i++) {
		split(LISTEN[i], parts, "\t")
		if (parts[1] == "port") {
			print_option(listener, "port", parts[2])
			continue
		}
		if (!(parts[1] in cleared))
			print "C\t" listener "\t" parts[1]
		# Addresses take the place of networks.
		if (parts[1] == "address" && !(parts[1] in cleared))
			print "C\t" listener "\tinterface"
		cleared[parts[1]] = 1
		print "L\t" listener "\t" parts[1] "\t" checked(listener, parts[1], parts[2])
	}
	# The account that the package is shipped with and nobody has filled in.
	if (ACCOUNTS && !("provider" in TAKEN) && THERE["provider"] == "account" && THERE["provider", "username"] == "" && THERE["provider", "host"] == "")
		print "D\tprovider"
	for (a = 1; a <= ACCOUNTS; a++)
		print_account(a)
	for (i = 1; i <= ALIASES; i++) {
		name = ALIAS_NAME[i]
		sub(/^\*@?/, "all_", name)
		gsub(/[^A-Za-z0-9_]/, "_", name)
		name = "alias_" name
		while (name in TAKEN)
			name = name "_"
		TAKEN[name] = 1
		print "S\t" name "\talias"
		print "L\t" name "\tname\t" ALIAS_NAME[i]
		count = split(ALIAS[ALIAS_NAME[i]], parts, "\t")
		for (k = 2; k <= count; k++)
			print "L\t" name "\tto\t" parts[k]
	}
	for (i = 1; i <= NOTES; i++) {
		text = NOTE[i]
		if (NOTE_ABOUT[i] != "")
			gsub(/\{account\}/, ACCOUNT[NOTE_ABOUT[i], "name"], text)
		print "N\t" shown(text)
	}
	print_ignored()
}
