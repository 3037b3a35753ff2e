# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: which reader reads a file. Called with -- ROOT FILE…; stdin is read by read_known.

# The kind of a file, by its name and otherwise by its content; parts of another kind's configuration are "part".
function kind_of(path,   name, lines, count, i, line) {
	name = base_name(path)
	if (name ~ /^main\.cf/)
		return "postfix"
	if (name ~ /msmtprc/)
		return "msmtp"
	if (name ~ /^ssmtp\.conf/)
		return "ssmtp"
	if (name ~ /^dma\.conf/)
		return "dma"
	if (name == "emailrelay")
		return "emailrelay"
	if (name == "remotes")
		return "nullmailer"
	if (name ~ /^(revaliases|auth\.conf|master\.cf|sasl_passwd|aliases|adminaddr|defaultdomain|defaulthost|helohost|me|allmailfrom)$/ || name ~ /^emailrelay\.auth/)
		return "part"
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = lines[i]
		if (line ~ /^[ \t]*(#|$)/)
			continue
		if (line ~ /^config[ \t]+'?emailrelay/)
			return "emailrelay"
		if (line ~ /^[ \t]*(defaults|account[ \t]+[^=]*)[ \t]*$/ || line ~ /^(host|tls|auth|from)[ \t]+[^= \t]+[ \t]*$/)
			return "msmtp"
		if (line ~ /^(SMARTHOST|AUTHPATH|SECURETRANSFER|STARTTLS|MASQUERADE|MAILNAME|NULLCLIENT)([ \t]|$)/)
			return "dma"
		if (tolower(line) ~ /^[ \t]*(mailhub|rewritedomain|fromlineoverride|authuser|usestarttls)[ \t]*=/)
			return "ssmtp"
		if (line ~ /^(relayhost|smtp_[a-z_]+|smtpd_[a-z_]+|mynetworks|myhostname|inet_interfaces|mydestination|compatibility_level|queue_directory)[ \t]*=/)
			return "postfix"
		if (line ~ /^[^ \t=]+[ \t]+smtp([ \t]|$)/)
			return "nullmailer"
	}
	# Tables, aliases, passwords: another file names them.
	return count ? "part" : "unknown"
}

function read_file(path, kind) {
	if (kind == "postfix")
		read_postfix(path)
	else if (kind == "msmtp")
		read_msmtp(path)
	else if (kind == "ssmtp")
		read_ssmtp(path)
	else if (kind == "dma")
		read_dma(path)
	else if (kind == "emailrelay")
		read_emailrelay(path)
	else if (kind == "nullmailer")
		read_nullmailer(path)
}

BEGIN {
	ROOT = ARGV[1]
	# Not FILE[++FILES]: which side comes first differs from awk to awk.
	for (FILES = 0; FILES + 2 < ARGC; FILES++)
		FILE[FILES + 1] = ARGV[FILES + 2]
	# What is left would be read as input.
	ARGC = 1
	read_known()
	readers = 0
	for (f = 1; f <= FILES; f++) {
		kind = kind_of(FILE[f])
		if (kind == "unknown")
			note(FILE[f], "is empty or cannot be read")
		if (kind == "part" || kind == "unknown")
			continue
		readers++
		read_file(FILE[f], kind)
	}
	if (!readers)
		print "U"
	print_all()
}
