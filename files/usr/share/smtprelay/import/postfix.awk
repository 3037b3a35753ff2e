# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: Postfix: what its parameters mean as settings. postfix_files.awk reads them.

# --- Accounts

# none, may, encrypt, verify … also from the parameters of old versions, which the newer one overrides.
function postfix_level(   level, old) {
	level = tolower(pf("smtp_tls_security_level"))
	old = is_yes(pf("smtp_use_tls")) ? "may" : "none"
	if (level == "" && is_yes(pf("smtp_enforce_tls")))
		old = "smtp_tls_enforce_peername" in PF && !is_yes(pf("smtp_tls_enforce_peername")) ? "encrypt" : "verify"
	if (level != "") {
		PF_LEVEL_AT = PF_AT["smtp_tls_security_level"]
		return level
	}
	PF_LEVEL_AT = PF_AT[old == "encrypt" || old == "verify" ? "smtp_enforce_tls" : "smtp_use_tls"]
	return old
}

# Account for a destination, with the login for `sender` if that is not empty; `open` is one where a login is not expected.
# Returns the account.
function postfix_account(path, text, where, name, sender, open,   a, level, words, count, i, prints, login) {
	a = new_account(where, name)
	set_host(a, text)
	if (ACCOUNT[a, "port"] == "")
		ACCOUNT[a, "port"] = 25
	if (text !~ /^\[/ && text !~ /^[0-9.:]+$/)
		note(where, "without brackets Postfix asks for the MX records of " ACCOUNT[a, "host"] "; smtprelay connects to exactly this host. If it is not the provider's server, set option host of account '{account}'", a)
	level = postfix_level()
	count = split(for_destination(POLICY_KEY, POLICY, POLICY_REGEX, POLICIES, text), words, /[ \t,]+/)
	if (count && FOUND_AT) {
		level = words[1]
		PF_LEVEL_AT = POLICY_AT[FOUND_AT]
	}
	prints = pf("smtp_tls_fingerprint_cert_match")
	for (i = 2; i <= count; i++)
		if (level == "fingerprint" && words[i] ~ /^match=/)
			prints = substr(words[i], 7)
	login = postfix_login(a, text, sender, open)
	if (is_yes(pf("smtp_tls_wrappermode")) || ACCOUNT[a, "port"] == 465)
		ACCOUNT[a, "tls"] = "implicit"
	else
		ACCOUNT[a, "tls"] = level == "none" ? "none" : "starttls"
	if (level == "may" || level == "dane")
		note(PF_LEVEL_AT, "TLS was used where it was offered; from now on it is required" (login ? "" : ". If " ACCOUNT[a, "host"] " offers none: uci set smtprelay.{account}.tls='none'"), a)
	if ("smtp_tls_enforce_peername" in PF && !is_yes(pf("smtp_tls_enforce_peername")))
		not_verified(a, PF_AT["smtp_tls_enforce_peername"], "smtp_tls_enforce_peername = " pf("smtp_tls_enforce_peername"))
	else if (level == "may" || level == "encrypt")
		not_verified(a, PF_LEVEL_AT, "security level " level " does not verify")
	if (level ~ /^dane/)
		note(PF_LEVEL_AT, level ": certificates are verified with the authorities that the system trusts, not with DNSSEC", a)
	if (level == "fingerprint") {
		PF_SEEN["smtp_tls_fingerprint_digest"] = 1
		count = split(prints, words, /[ \t,|]+/)
		if (count > 1)
			note(PF_AT["smtp_tls_fingerprint_cert_match"], "one certificate is trusted, the first of these", a)
		if (count)
			set_fingerprint(a, PF_AT["smtp_tls_fingerprint_cert_match"] != "" ? PF_AT["smtp_tls_fingerprint_cert_match"] : PF_LEVEL_AT, words[1])
		note(PF_LEVEL_AT, "Postfix also takes the fingerprint of a public key; if this is one, set option fingerprint of account '{account}' to that of the certificate", a)
	}
	if (pf("smtp_tls_CAfile") != "")
		set_ca(a, PF_AT["smtp_tls_CAfile"], pf("smtp_tls_CAfile"))
	ACCOUNT[a, "from"] = PF_FROM
	if (PF_ALL)
		ACCOUNT[a, "policy"] = "account"
	return a
}

# The login for a destination, or for a sender. Returns whether there is one.
function postfix_login(a, text, sender, open,   value, at, i) {
	value = ""
	at = 0
	if (!is_yes(pf("smtp_sasl_auth_enable"))) {
		if (PASSWORDS)
			note(PF_AT["smtp_sasl_password_maps"], "not used, because smtp_sasl_auth_enable is not yes")
		return 0
	}
	if (sender != "")
		for (i = 1; i <= PASSWORDS; i++)
			if (tolower(PASSWORD_KEY[i]) == tolower(sender)) {
				value = PASSWORD[i]
				at = i
			}
	if (value == "") {
		value = for_destination(PASSWORD_KEY, PASSWORD, PASSWORD_REGEX, PASSWORDS, text)
		at = FOUND_AT
	}
	if (!at) {
		if (pf("smtp_sasl_password_maps") != "" && !open)
			note(PF_AT["smtp_sasl_password_maps"], "no login for " text " was found: uci set smtprelay.{account}.username='…', then smtprelay password {account}", a)
		return 0
	}
	i = index(value, ":")
	if (!i)
		i = length(value) + 1
	set_login(a, substr(value, 1, i - 1), substr(value, i + 1), PASSWORD_AT[at])
	if (tolower(pf("smtp_sasl_mechanism_filter")) == "xoauth2")
		ACCOUNT[a, "auth"] = "xoauth2"
	return 1
}

# --- Addresses that are rewritten

# The address that senders become: PF_FROM; PF_ALL if a table says so of every sender. Others are reported.
function postfix_from(path, parameter,   key, value, where, regex, count, i, target, all, same) {
	count = table(path, parameter, key, value, where, regex)
	same = count && is_address(value[1])
	for (i = 1; i <= count; i++) {
		if (value[i] != value[1])
			same = 0
		if ((is_everything(key[i]) || key[i] ~ /^@/) && is_address(value[i]) && target == "") {
			target = value[i]
			all = 1
		}
	}
	if (target == "" && same)
		target = value[1]
	if (target != "") {
		PF_FROM = target
		PF_ALL = PF_ALL || all
		note(PF_AT[parameter], parameter ": becomes from '" target "'" (all ? " with from_policy 'account', which is for all senders" : ""))
	}
	for (i = 1; i <= count; i++)
		if (value[i] != target)
			note(where[i], key[i] " → " value[i] ": single senders cannot be rewritten; " (target == "" ? "set options from and from_policy of the account" : "from is one address"))
}

# From in header_checks, as the guides for Microsoft 365 have it.
function postfix_header_checks(path, parameter,   key, value, where, regex, count, i, address) {
	if (pf(parameter) == "")
		return
	count = table(path, parameter, key, value, where, regex)
	for (i = 1; i <= count; i++) {
		if (toupper(key[i]) ~ /FROM/ && toupper(value[i]) ~ /^REPLACE[ \t]+FROM:/ && match(value[i], /[^ \t<:]+@[^ \t>]+/)) {
			address = substr(value[i], RSTART, RLENGTH)
			if (is_address(address)) {
				PF_FROM = address
				PF_ALL = 1
				note(where[i], "becomes from '" address "' with from_policy 'account'")
				continue
			}
		}
		note(where[i], parameter " " key[i] ": the text of mail is not changed by rules")
	}
}

# --- Who may send

function postfix_networks(path,   words, count, i, network, kept, refused, open) {
	if (!("mynetworks" in PF)) {
		if (pf("mynetworks_style") != "")
			note(PF_AT["mynetworks_style"], "the subnets of the router's interfaces may send unless list allow names others")
		return
	}
	count = words_of(pf("mynetworks"), words)
	kept = 0
	for (i = 1; i <= count; i++) {
		network = words[i]
		if (network ~ /^(\/|[a-z]+:)/) {
			note(PF_AT["mynetworks"], network ": files and tables are not read here: uci add_list smtprelay.lan.allow='NETWORK'")
			continue
		}
		if (network ~ /^!/) {
			refused = refused " " network
			continue
		}
		gsub(/[][]/, "", network)
		if (network ~ /\/0+$/) {
			open = 1
			note(PF_AT["mynetworks"], network ": everyone could send. smtprelay is not an open relay: name the networks of the devices in list allow")
		} else if (network ~ /^[0-9.]+(\/[0-9]+)?$/ || network ~ /^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(\/[0-9]+)?$/) {
			words[++kept] = network
		} else
			note(PF_AT["mynetworks"], "'" network "' is not a network")
	}
	if (refused != "")
		note(PF_AT["mynetworks"], refused ": exceptions have no counterpart, so none of these networks was taken over: uci add_list smtprelay.lan.allow='NETWORK'")
	else
		postfix_allow(words, kept, open)
}

# Networks beyond this machine. With none, the listener stays as it is. `open`: everyone could send, which was reported.
function postfix_allow(words, count, open,   i, beyond) {
	for (i = 1; i <= count; i++)
		if (words[i] !~ /^(127\.|::1|::ffff:127\.)/)
			beyond = 1
	if (!beyond) {
		PF_ALONE = 1
		if (!open)
			note(PF_AT["mynetworks"], "only programs on the machine itself could send. The listener of smtprelay stays as it is; without devices: uci set smtprelay.lan.enabled='0'")
		return
	}
	for (i = 1; i <= count; i++)
		listen("allow", words[i])
}

function postfix_interfaces(   words, count, i, word, kept, loopback) {
	if (!("inet_interfaces" in PF))
		return
	count = words_of(pf("inet_interfaces"), words)
	for (i = 1; i <= count; i++) {
		word = words[i]
		gsub(/[][]/, "", word)
		if (word == "all")
			note(PF_AT["inet_interfaces"], "inet_interfaces = all: smtprelay listens in the networks of list interface (lan as shipped), not towards the Internet")
		else if (word ~ /^(loopback-only|localhost|127\.[0-9.]+|::1)$/)
			loopback = 1
		else if (word ~ /^[0-9.]+$/ || word ~ /^[0-9A-Fa-f:]+:[0-9A-Fa-f:.]*$/) {
			listen("address", word)
			kept = 1
		} else
			note(PF_AT["inet_interfaces"], "'" word "' is not an address: uci add_list smtprelay.lan.address='ADDRESS'")
	}
	if (kept)
		note(PF_AT["inet_interfaces"], "the router has to have these addresses; otherwise name its network in list interface")
	else if (loopback && !PF_ALONE)
		note(PF_AT["inet_interfaces"], "only programs on the machine itself could send. The listener of smtprelay stays as it is; without devices: uci set smtprelay.lan.enabled='0'")
}

# --- Sizes and times

function postfix_limits(   size) {
	size = pf("message_size_limit")
	if (size == "0")
		note(PF_AT["message_size_limit"], "message_size_limit = 0: unlimited is not possible on a router; message_limit keeps its default (25M), and never exceeds three quarters of spool_limit")
	else if (size ~ /^[0-9]+$/)
		set_relay("message_limit", size < 16384 ? 16384 : size)
	if (pf("mailbox_size_limit") != "")
		note(PF_AT["mailbox_size_limit"], "mailbox_size_limit: there are no mailboxes, nothing to set")
	if (is_yes(pf("disable_vrfy_command")))
		note(PF_AT["disable_vrfy_command"], "disable_vrfy_command: VRFY never tells anything about addresses, nothing to set")
	postfix_time("maximal_queue_lifetime", "retry_for", "d")
	postfix_time("minimal_backoff_time", "retry_min", "s")
	postfix_time("maximal_backoff_time", "retry_max", "s")
	postfix_time("delay_warning_time", "delay_notice", "h")
}

function postfix_time(parameter, option, unit,   value) {
	if (!(parameter in PF))
		return
	value = duration(pf(parameter), unit)
	if (value == "")
		note(PF_AT[parameter], parameter " = " pf(parameter) ": is not a time")
	else if (value ~ /^0/ && option != "delay_notice")
		note(PF_AT[parameter], parameter " = " pf(parameter) ": " option " keeps its default, because a temporary failure must not be final")
	else
		set_relay(option, value ~ /^0/ ? "0" : value)
}

# --- All of it

# Parameters that restrict or change mail in a way that smtprelay does not know: named one by one.
function postfix_reasons() {
	reason("always_bcc", "copies to a further recipient are not made")
	reason("sender_bcc_maps", "copies to a further recipient are not made")
	reason("recipient_bcc_maps", "copies to a further recipient are not made")
	reason("smtpd_sasl_auth_enable", "logins of devices: see sections user and option auth of the listener")
	reason("smtpd_tls_security_level", "TLS for devices is off unless option tls of the listener is 'starttls': many old devices fail where it is offered")
	reason("smtpd_use_tls", "TLS for devices is off unless option tls of the listener is 'starttls': many old devices fail where it is offered")
	reason("smtpd_recipient_restrictions", "list allow of the listener says who may send, allow_recipient of a device to whom")
	reason("smtpd_relay_restrictions", "list allow of the listener says who may send")
	reason("smtpd_client_restrictions", "list allow of the listener says who may send")
	reason("smtpd_sender_restrictions", "list allow of the listener says who may send")
	reason("masquerade_domains", "from_policy of the account says which sender is used")
	reason("canonical_maps", "addresses of recipients: sections alias, or rewrite of a device; senders: from_policy of the account")
	reason("recipient_canonical_maps", "sections alias, or rewrite of a device")
	reason("body_checks", "the text of mail is not changed by rules")
	reason("content_filter", "mail is not filtered")
	reason("smtpd_milters", "mail is not filtered or signed")
	reason("non_smtpd_milters", "mail is not filtered or signed")
	reason("mailbox_command", "there are no mailboxes: mail for names without domain goes to admin")
	reason("home_mailbox", "there are no mailboxes: mail for names without domain goes to admin")
	reason("virtual_mailbox_domains", "there are no mailboxes")
	reason("smtp_tls_CApath", "directories of authorities: option ca_file names a file")
	reason("smtp_tls_cert_file", "certificates of the client are not shown")
	reason("smtp_bind_address", "the source address is chosen by the system")
	reason("smtp_sasl_mechanism_filter", "the mechanism is chosen from what the server announces")
	reason("smtp_destination_rate_delay", "rates are set per device: option rate")
	reason("default_destination_rate_delay", "rates are set per device: option rate")
	reason("smtp_address_preference", "IPv6 and IPv4 are tried alternately")
	reason("inet_protocols", "IPv6 and IPv4 are used as the system has them")
	reason("relay_domains", "mail for every domain goes to the account that a route names, or to the first one")
	reason("authorized_submit_users", "every user of the router may send")
}

function reason(parameter, text) {
	if (!(parameter in PF) || (parameter in PF_SEEN))
		return
	PF_SEEN[parameter] = 1
	if (pf(parameter) != "")
		note(PF_AT[parameter], parameter ": no counterpart: " text)
}

function postfix_reset() {
	split("", PF)
	split("", PF_AT)
	split("", PF_SEEN)
	split("", PF_NAME)
	PF_NAMES = PF_ALONE = PF_ALL = PF_STEPS = 0
	PF_FROM = ""
}

function read_postfix(path,   words, count, i, key, value, where, regex, name, security) {
	postfix_reset()
	postfix_parameters(path)
	POLICIES = table(path, "smtp_tls_policy_maps", POLICY_KEY, POLICY, POLICY_AT, POLICY_REGEX)
	PASSWORDS = table(path, "smtp_sasl_password_maps", PASSWORD_KEY, PASSWORD, PASSWORD_AT, PASSWORD_REGEX)
	postfix_from(path, "smtp_generic_maps")
	postfix_from(path, "sender_canonical_maps")
	postfix_header_checks(path, "smtp_header_checks")
	postfix_header_checks(path, "header_checks")

	count = words_of(pf("relayhost"), words)
	for (i = 1; i <= count; i++)
		postfix_account(path, words[i], PF_AT["relayhost"], "provider", "")
	if (!count)
		note(PF_AT["relayhost"] != "" ? PF_AT["relayhost"] : path, "no relayhost: Postfix delivers to the servers of the recipients itself, smtprelay only through a provider")
	count = words_of(pf("smtp_fallback_relay") " " pf("fallback_relay"), words)
	for (i = 1; i <= count; i++)
		postfix_account(path, words[i], PF_AT["smtp_fallback_relay"] PF_AT["fallback_relay"], "fallback", "")
	postfix_by_sender(path)
	postfix_by_recipient(path)

	postfix_networks(path)
	postfix_interfaces()
	postfix_limits()
	set_hostname(PF_AT["myhostname"], pf("myhostname"))
	if (pf("smtp_helo_name") != "")
		set_hostname(PF_AT["smtp_helo_name"], pf("smtp_helo_name"))
	count = words_of(pf("alias_maps") == "" ? "" : pf("alias_maps"), words)
	for (i = 1; i <= count; i++) {
		name = words[i]
		if (!sub(/^(hash|texthash|btree|lmdb|dbm|cdb):/, "", name)) {
			note(PF_AT["alias_maps"], "alias_maps = " words[i] ": tables of this type cannot be read here")
			continue
		}
		if (found(name, path) == "")
			cannot_find(PF_AT["alias_maps"], "alias_maps", name)
		else
			read_aliases(found(name, path), ":")
	}
	count = table(path, "virtual_alias_maps", key, value, where, regex)
	for (i = 1; i <= count; i++)
		if (regex[i])
			note(where[i], key[i] ": regular expressions are not patterns of an alias")
		else
			set_alias(where[i], key[i], words, words_of(value[i], words))
	postfix_reasons()

	security = "smtp_sasl_security_options smtp_sasl_tls_security_options"
	count = split(security, words, " ")
	for (i = 1; i <= count; i++)
		if (words[i] in PF) {
			PF_SEEN[words[i]] = 1
			note(PF_AT[words[i]], words[i] ": nothing to set: a login is sent over TLS only, PLAIN and LOGIN included")
		}
	for (i = 1; i <= PF_NAMES; i++)
		if (!(PF_NAME[i] in PF_SEEN) && pf(PF_NAME[i]) != "")
			ignore(path, PF_NAME[i])
}

# Accounts for single senders, each with a route.
function postfix_by_sender(path,   key, value, where, regex, count, i, a, sender, known, extra) {
	count = table(path, "sender_dependent_relayhost_maps", key, value, where, regex)
	# A login of a sender without a relayhost of its own.
	if (is_yes(pf("smtp_sender_dependent_authentication")))
		for (i = 1; i <= PASSWORDS; i++)
			if (PASSWORD_KEY[i] ~ /@/ && pf("relayhost") != "") {
				for (extra = 1; extra <= count; extra++)
					if (tolower(key[extra]) == tolower(PASSWORD_KEY[i]))
						break
				if (extra > count) {
					key[++count] = PASSWORD_KEY[i]
					value[count] = pf("relayhost")
					where[count] = PASSWORD_AT[i]
				}
			}
	for (i = 1; i <= count; i++) {
		sender = key[i]
		if (regex[i] || sender !~ /@/ || value[i] ~ /^(DUNNO|REJECT)/) {
			note(where[i], sender ": only addresses and @domains become routes")
			continue
		}
		a = postfix_account(path, value[i], where[i], domain_of(sender), sender)
		ACCOUNT[a, "default"] = "0"
		if (is_address(sender))
			ACCOUNT[a, "from"] = sender
		sub(/^@/, "*@", sender)
		set_route(a, "sender", sender)
	}
}

# Servers for single domains of recipients, each with a route.
function postfix_by_recipient(path,   key, value, where, regex, count, i, a, target, domain) {
	count = table(path, "transport_maps", key, value, where, regex)
	for (i = 1; i <= count; i++) {
		target = value[i]
		domain = key[i]
		if (regex[i] || !sub(/^(smtp|relay|smtps|submission):/, "", target) || target == "" || domain == "*") {
			note(where[i], "transport " domain " " value[i] ": only a server for a domain or an address becomes a route")
			continue
		}
		a = postfix_account(path, target, where[i], domain, "", 1)
		ACCOUNT[a, "default"] = "0"
		if (domain ~ /^\./)
			domain = "*@*" domain
		else if (domain !~ /@/)
			domain = "*@" domain
		set_route(a, "recipient", domain)
	}
}
