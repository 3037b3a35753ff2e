# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: the small ones: ssmtp, dma, nullmailer.

# Of these options, those that have a place.
function ignore_those(path, options, AT,   list, count, i) {
	count = split(options, list, " ")
	for (i = 1; i <= count; i++)
		if (list[i] in AT)
			ignore(path, list[i])
}

# --- ssmtp: ssmtp.conf(5), revaliases

function read_ssmtp(path,   lines, count, i, line, key, value, S, AT, a, file) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = trim(lines[i])
		if (line == "" || line ~ /^#/)
			continue
		if (index(line, "=") < 2) {
			note(path ":" i, "this line is not an option")
			continue
		}
		key = tolower(trim(substr(line, 1, index(line, "=") - 1)))
		value = trim(substr(line, index(line, "=") + 1))
		gsub(/^"|"$/, "", value)
		S[key] = value
		AT[key] = path ":" i
	}
	if (S["mailhub"] == "") {
		note(path, "mailhub is not set, so there is no account")
		return
	}
	a = new_account(AT["mailhub"], "provider")
	set_host(a, S["mailhub"])
	ACCOUNT[a, "tls"] = is_yes(S["usestarttls"]) ? "starttls" : is_yes(S["usetls"]) ? "implicit" : "none"
	if (S["authuser"] != "")
		set_login(a, S["authuser"], S["authpass"], AT["authpass"])
	if (S["tls_ca_file"] != "")
		set_ca(a, AT["tls_ca_file"], S["tls_ca_file"])
	else if (ACCOUNT[a, "tls"] != "none")
		not_verified(a, AT["mailhub"], "ssmtp does not verify without TLS_CA_File")
	if (S["root"] != "" && S["root"] != "postmaster")
		set_admin(AT["root"], S["root"])
	set_hostname(AT["hostname"], S["hostname"])
	# Without this option ssmtp replaces the sender.
	if (!is_yes(S["fromlineoverride"]))
		ACCOUNT[a, "policy"] = "account"
	if (S["rewritedomain"] != "")
		note(AT["rewritedomain"], "rewriteDomain: no counterpart: from_policy of account '{account}' says which sender is used", a)
	if (S["tlscert"] != "")
		note(AT["tlscert"], "TLSCert: no counterpart: certificates of the client are not shown", a)
	ignore_those(path, "minuserid debug authmethod tls_ca_dir tlskey usetlscert useoldauth", AT)
	file = found(ROOT != "" ? "/etc/ssmtp/revaliases" : "revaliases", path)
	if (file == "" && ROOT != "")
		file = found("revaliases", path)
	if (file != "")
		ssmtp_reverse(file, a)
}

# local name:address:mailhub. The address of root, or the first one, is the sender that the provider knows.
function ssmtp_reverse(path, a,   lines, count, i, part, many, hub) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		many = split(trim(lines[i]), part, ":")
		if (lines[i] ~ /^[ \t]*(#|$)/ || many < 2)
			continue
		hub = many > 2 ? tolower(part[3]) : ""
		if (!is_address(part[2]))
			note(path ":" i, "'" part[2] "' is not an address")
		else if (hub != "" && hub != ACCOUNT[a, "host"])
			note(path ":" i, part[1] ": mail of single users does not go to a server of their own; a route by sender can do that")
		else if (ACCOUNT[a, "from"] == "" || (part[1] == "root" && !ACCOUNT[a, "root"])) {
			if (ACCOUNT[a, "from"] != "" && ACCOUNT[a, "from"] != part[2])
				note(path ":" i, ACCOUNT[a, "from"] ": one sender for all: " part[2], a)
			ACCOUNT[a, "from"] = part[2]
			ACCOUNT[a, "policy"] = "account"
			ACCOUNT[a, "root"] = part[1] == "root"
		} else if (part[2] != ACCOUNT[a, "from"])
			note(path ":" i, part[1] " → " part[2] ": one sender for all: " ACCOUNT[a, "from"], a)
	}
}

# --- dma: dma.conf, auth.conf

function read_dma(path,   lines, count, i, line, key, value, D, AT, a, file, name, auth) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = lines[i]
		sub(/#.*/, "", line)
		line = trim(line)
		if (line == "")
			continue
		match(line, /^[^ \t]+/)
		key = substr(line, 1, RLENGTH)
		value = trim(substr(line, RLENGTH + 1))
		D[key] = value
		AT[key] = path ":" i
	}
	if (D["SMARTHOST"] == "") {
		note(path, "SMARTHOST is not set: dma delivers to the servers of the recipients itself, smtprelay only through a provider")
		return
	}
	a = new_account(AT["SMARTHOST"], "provider")
	set_host(a, D["SMARTHOST"])
	ACCOUNT[a, "port"] = port_number(D["PORT"])
	ACCOUNT[a, "tls"] = !("SECURETRANSFER" in AT) ? "none" : ("STARTTLS" in AT) ? "starttls" : "implicit"
	auth = D["AUTHPATH"] != "" ? D["AUTHPATH"] : "/etc/dma/auth.conf"
	file = found(auth, path)
	if (file != "")
		dma_login(file, a)
	else if (D["AUTHPATH"] != "")
		cannot_find(AT["AUTHPATH"], "AUTHPATH", auth)
	if ("OPPORTUNISTIC_TLS" in AT)
		note(AT["OPPORTUNISTIC_TLS"], "TLS was used where it was offered; from now on it is required", a)
	if (D["FINGERPRINT"] != "")
		set_fingerprint(a, AT["FINGERPRINT"], D["FINGERPRINT"])
	else if (ACCOUNT[a, "tls"] != "none")
		not_verified(a, AT["SECURETRANSFER"], "dma does not verify without FINGERPRINT")
	if (D["MASQUERADE"] != "") {
		if (is_address(D["MASQUERADE"])) {
			ACCOUNT[a, "from"] = D["MASQUERADE"]
			ACCOUNT[a, "policy"] = "account"
		} else
			note(AT["MASQUERADE"], "MASQUERADE " D["MASQUERADE"] ": only a whole address has a counterpart: options from and from_policy of account '{account}'", a)
	}
	name = D["MAILNAME"]
	if (name ~ /^\//) {
		file = found(name, path)
		name = ""
		if (file == "")
			cannot_find(AT["MAILNAME"], "MAILNAME", D["MAILNAME"])
		else if (read_lines(file, lines) > 0)
			name = trim(lines[1])
	}
	set_hostname(AT["MAILNAME"], name)
	file = found(D["ALIASES"] != "" ? D["ALIASES"] : "/etc/aliases", path)
	if (file != "")
		read_aliases(file, ":")
	else if (D["ALIASES"] != "")
		cannot_find(AT["ALIASES"], "ALIASES", D["ALIASES"])
	if (D["CERTFILE"] != "")
		note(AT["CERTFILE"], "CERTFILE: no counterpart: certificates of the client are not shown", a)
	if ("DEFER" in AT)
		note(AT["DEFER"], "DEFER: mail is sent at once; what cannot be sent is retried by itself")
	ignore_those(path, "SPOOLDIR FULLBOUNCE SECURE INSECURE NULLCLIENT NOHELO DEBUGLOG", AT)
}

# user|host:password
function dma_login(path, a,   lines, count, i, line, at, host, rest) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = lines[i]
		at = index(line, "|")
		if (line ~ /^#/ || at < 2)
			continue
		rest = substr(line, at + 1)
		if (!match(rest, /[: \t]+/))
			continue
		host = tolower(substr(rest, 1, RSTART - 1))
		if (host == ACCOUNT[a, "host"])
			set_login(a, substr(line, 1, at - 1), substr(rest, RSTART + 1), path ":" i)
		else
			note(path ":" i, "a login for " host ", which is not SMARTHOST")
	}
}

# --- nullmailer: remotes and the files next to it, each with one line

function nullmailer_line(path, name,   file, lines, count) {
	file = ROOT != "" ? folder_of(path) "/" name : found(name, path)
	if (file == "" || !is_readable(file))
		return ""
	NM_AT = file ":1"
	count = read_lines(file, lines)
	return count > 0 ? trim(lines[1]) : ""
}

function read_nullmailer(path,   lines, count, i, line, words, many, k, a, name, value, user, secret, from, text) {
	from = nullmailer_line(path, "allmailfrom")
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = trim(lines[i])
		if (line == "" || line ~ /^#/)
			continue
		many = shell_words(line, words)
		if (many > 1 && words[2] != "smtp") {
			note(path ":" i, words[2] ": only the protocol smtp has a counterpart")
			continue
		}
		a = new_account(path ":" i, "provider")
		set_host(a, "[" words[1] "]")
		ACCOUNT[a, "tls"] = "none"
		user = secret = ""
		for (k = 3; k <= many; k++) {
			name = words[k]
			sub(/^--/, "", name)
			value = index(name, "=") ? substr(name, index(name, "=") + 1) : ""
			sub(/=.*/, "", name)
			if (name == "port" || name == "p")
				ACCOUNT[a, "port"] = port_number(value)
			else if (name == "user")
				user = value
			else if (name == "pass")
				secret = value
			else if (name == "starttls")
				ACCOUNT[a, "tls"] = "starttls"
			else if (name == "tls" || name == "ssl") {
				if (ACCOUNT[a, "tls"] != "starttls")
					ACCOUNT[a, "tls"] = "implicit"
			} else if (name == "insecure")
				not_verified(a, path ":" i, "insecure")
			else if (name == "x509cafile")
				set_ca(a, path ":" i, value)
			else if (name == "x509certfile" || name == "x509keyfile" || name == "source")
				note(path ":" i, name ": no counterpart: " (name == "source" ? "the source address is chosen by the system" : "certificates of the client are not shown"), a)
			else if (name ~ /^(auth-login|daemon|syslog|d|s|x509crlfile|x509fmtder)$/)
				ignore(path, name)
			else
				note(path ":" i, "'" name "' is not known", a)
		}
		if (user != "")
			set_login(a, user, secret, path ":" i)
		if (from != "") {
			ACCOUNT[a, "from"] = from
			ACCOUNT[a, "policy"] = "account"
		}
	}
	text = nullmailer_line(path, "adminaddr")
	if (index(text, ",") || text ~ /[ \t]/)
		note(NM_AT, "adminaddr: one address; the first one becomes admin")
	sub(/[, \t].*/, "", text)
	set_admin(NM_AT, text)
	text = nullmailer_line(path, "me")
	set_hostname(NM_AT, text)
	text = nullmailer_line(path, "helohost")
	if (text != "")
		set_hostname(NM_AT, text)
	text = nullmailer_line(path, "defaultdomain")
	if (text != "")
		note(NM_AT, "defaultdomain " text ": a sender without domain gets the address of the account, a recipient without one is an alias, or goes to admin")
	nullmailer_time(path, "queuelifetime", "retry_for")
	nullmailer_time(path, "pausetime", "retry_min")
	nullmailer_time(path, "maxpause", "retry_max")
}

function nullmailer_time(path, name, option,   text) {
	text = nullmailer_line(path, name)
	if (text ~ /^[1-9][0-9]*$/)
		set_relay(option, text "s")
}
