# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: msmtp, msmtprc (msmtp(1)), with several accounts, defaults and inheritance.

# A word behind the command, without its quotes.
function msmtp_value(text) {
	text = trim(text)
	if (text ~ /^".*"$/)
		text = substr(text, 2, length(text) - 2)
	return text
}

# Whether an account has a command. Not by MS itself, where a question leaves an entry.
function msmtp_has(account, command) {
	return (account, command) in MS_SET
}

# Copies the commands of one account to another.
function msmtp_inherit(from, to,   i) {
	for (i = 1; i <= MS_COMMANDS; i++)
		if (msmtp_has(from, MS_COMMAND[i]))
			msmtp_set(to, MS_COMMAND[i], MS[from, MS_COMMAND[i]], MS_AT[from, MS_COMMAND[i]])
}

function msmtp_set(account, command, value, where) {
	if (!(command in MS_KNOWN)) {
		MS_KNOWN[command] = 1
		MS_COMMAND[++MS_COMMANDS] = command
	}
	MS_SET[account, command] = 1
	MS[account, command] = value
	MS_AT[account, command] = where
}

# One by one: "account NAME : BASE, BASE" begins an account, "defaults" changes what those behind it begin with.
function msmtp_parse(path,   lines, count, i, line, command, value, current, bases, number, k) {
	count = read_lines(path, lines)
	current = ""
	for (i = 1; i <= count; i++) {
		line = trim(lines[i])
		if (line == "" || line ~ /^#/)
			continue
		match(line, /^[^ \t]+/)
		command = tolower(substr(line, 1, RLENGTH))
		value = msmtp_value(substr(line, RLENGTH + 1))
		if (command == "defaults") {
			current = "defaults"
			continue
		}
		if (command == "account") {
			number = 0
			current = value
			if (index(value, ":")) {
				number = words_of(substr(value, index(value, ":") + 1), bases)
				current = trim(substr(value, 1, index(value, ":") - 1))
			}
			if (!(current in MS_HAS)) {
				MS_HAS[current] = 1
				MS_ACCOUNT[++MS_ACCOUNTS] = current
			}
			MS_PLACE[current] = path ":" i
			msmtp_inherit("defaults", current)
			for (k = 1; k <= number; k++) {
				if (!(bases[k] in MS_HAS))
					note(path ":" i, "account " current ": there is no account " bases[k] " before it")
				msmtp_inherit(bases[k], current)
				MS_BASE[current] = bases[k]
			}
			# An account that only gives another one a name.
			MS_OWN[current] = number ? 0 : 1
			continue
		}
		# Commands in front of any account are the account "default" of old versions.
		if (current == "") {
			current = "default"
			MS_HAS[current] = MS_OWN[current] = 1
			MS_ACCOUNT[++MS_ACCOUNTS] = current
			MS_PLACE[current] = path ":" i
		}
		if (current != "defaults")
			MS_OWN[current] = 1
		msmtp_set(current, command, value, path ":" i)
	}
}

# A switch: without a word it is on.
function msmtp_on(account, command, standard) {
	if (!msmtp_has(account, command))
		return standard
	return MS[account, command] == "" || is_yes(MS[account, command])
}

function msmtp_account(path, name,   a, user, auth, where, secret) {
	where = MS_PLACE[name]
	a = new_account(where, name == "default" ? "provider" : name)
	if (MS[name, "host"] == "")
		note(where, "account " name " names no host", a)
	set_host(a, MS[name, "host"] ~ /:/ ? "[" MS[name, "host"] "]" : MS[name, "host"])
	ACCOUNT[a, "port"] = port_number(MS[name, "port"])
	if (!msmtp_on(name, "tls", 0))
		ACCOUNT[a, "tls"] = "none"
	else
		ACCOUNT[a, "tls"] = msmtp_on(name, "tls_starttls", 1) ? "starttls" : "implicit"
	auth = tolower(MS[name, "auth"])
	user = MS[name, "user"]
	if (msmtp_has(name, "auth") && auth != "off") {
		secret = MS[name, "password"]
		set_login(a, user, secret, MS_AT[name, "password"])
		if (auth ~ /^(xoauth2|oauthbearer)$/)
			ACCOUNT[a, "auth"] = "xoauth2"
		else if (auth ~ /^(external|gssapi|ntlm|scram-.*-plus)$/)
			note(MS_AT[name, "auth"], "auth " auth ": has no counterpart; PLAIN, LOGIN and CRAM-MD5 are used", a)
		if (secret == "" && ACCOUNT[a, "auth"] == "" && msmtp_has(name, "passwordeval")) {
			ACCOUNT[a, "asked"] = 1
			note(MS_AT[name, "passwordeval"], "passwordeval is not run: enter what it prints with smtprelay password {account}", a)
		} else if (secret == "" && ACCOUNT[a, "auth"] == "" && user != "") {
			ACCOUNT[a, "asked"] = 1
			note(MS_AT[name, "user"], "the password of " user " is in a keyring or in .netrc, which are not read: smtprelay password {account}", a)
		}
	} else if (user != "")
		note(MS_AT[name, "user"], "auth is off, so there is no login", a)
	ACCOUNT[a, "from"] = MS[name, "from"]
	if (MS[name, "from"] ~ /[*%]/) {
		note(MS_AT[name, "from"], "from " MS[name, "from"] ": patterns have no counterpart", a)
		ACCOUNT[a, "from"] = ""
	} else if (MS[name, "from"] != "")
		ACCOUNT[a, "policy"] = "account"
	if (msmtp_has(name, "tls_fingerprint") && MS[name, "tls_fingerprint"] != "")
		set_fingerprint(a, MS_AT[name, "tls_fingerprint"], MS[name, "tls_fingerprint"])
	else if (!msmtp_on(name, "tls_certcheck", 1) && ACCOUNT[a, "tls"] != "none")
		not_verified(a, MS_AT[name, "tls_certcheck"], "tls_certcheck off")
	if (MS[name, "tls_trust_file"] ~ /^\//)
		set_ca(a, MS_AT[name, "tls_trust_file"], MS[name, "tls_trust_file"])
	if (MS[name, "timeout"] ~ /^[0-9]+$/ && MS[name, "timeout"] >= 5 && MS[name, "timeout"] <= 600)
		ACCOUNT[a, "timeout"] = MS[name, "timeout"] "s"
	if (MS[name, "domain"] != "")
		set_hostname(MS_AT[name, "domain"], MS[name, "domain"])
	return a
}

function read_msmtp(path,   i, k, name, first, a, file, command) {
	split("", MS)
	split("", MS_AT)
	split("", MS_SET)
	split("", MS_HAS)
	split("", MS_KNOWN)
	MS_ACCOUNTS = MS_COMMANDS = 0
	msmtp_parse(path)
	# The one that is used when none is asked for is the first one here.
	first = ("default" in MS_HAS) ? "default" : ""
	if (first != "" && !MS_OWN["default"])
		first = MS_BASE["default"]
	if (first == "" && MS_ACCOUNTS) {
		first = MS_ACCOUNT[1]
		if (MS_ACCOUNTS > 1)
			note(path, "there is no account default: mail goes through '" first "', the first one")
	}
	if (first != "")
		msmtp_account(path, first)
	for (i = 1; i <= MS_ACCOUNTS; i++) {
		name = MS_ACCOUNT[i]
		if (name == first || (name == "default" && !MS_OWN[name]))
			continue
		a = msmtp_account(path, name)
		ACCOUNT[a, "default"] = "0"
		if (ACCOUNT[a, "from"] != "")
			set_route(a, "sender", ACCOUNT[a, "from"])
		else
			note(MS_PLACE[name], "no from: account '{account}' is used only where a route or a device names it", a)
	}
	for (i = 0; i <= MS_ACCOUNTS; i++) {
		name = i ? MS_ACCOUNT[i] : "defaults"
		file = MS[name, "aliases"]
		if (file != "" && !(file in MS_KNOWN)) {
			MS_KNOWN[file] = 1
			if (found(file, path) == "")
				cannot_find(MS_AT[name, "aliases"], "aliases", file)
			else
				read_aliases(found(file, path), ":")
		}
		msmtp_reason(name, "set_from_header", "from_policy of the account says whether From is replaced")
		msmtp_reason(name, "allow_from_override", "from_policy of the account says which sender is used")
		msmtp_reason(name, "auto_from", "the sender is from of the account")
		msmtp_reason(name, "maildomain", "the sender is from of the account")
		msmtp_reason(name, "from_full_name", "option name of a device is shown in From")
		msmtp_reason(name, "proxy_host", "connections are not made through a proxy")
		msmtp_reason(name, "socket", "connections are made over TCP")
		msmtp_reason(name, "tls_cert_file", "certificates of the client are not shown")
		msmtp_reason(name, "dsn_notify", "what has failed is reported to the sender or to admin")
		msmtp_reason(name, "eval", "is not run: set this option by hand")
		for (k = 1; k <= MS_COMMANDS; k++) {
			command = MS_COMMAND[k]
			if (msmtp_has(name, command) && command ~ /^(logfile.*|syslog|tls_priorities|tls_min_dh_prime_bits|tls_crl_file|tls_key_file|protocol|keepbcc|remove_bcc_headers|add_missing_.*|dsn_return|proxy_port|source_ip|undisclosed_recipients|tls_host_override|ntlmdomain)$/)
				ignore(path, command)
		}
	}
}

function msmtp_reason(name, command, text) {
	# Once, where it is written, and not in each account that inherits it.
	if (!msmtp_has(name, command) || MS[name, command] ~ /^(off|auto)$/ || (MS_AT[name, command] in MS_KNOWN))
		return
	MS_KNOWN[MS_AT[name, command]] = 1
	note(MS_AT[name, command], command ": no counterpart: " text)
}
