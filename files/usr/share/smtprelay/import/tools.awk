# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: what the readers of all relays share: text, files, notes.
#
# For the awk of busybox and for mawk: no function of gawk, no interval in a regular expression, bytes and not characters.

function trim(text) {
	sub(/^[ \t]+/, "", text)
	sub(/[ \t]+$/, "", text)
	return text
}

function base_name(path) {
	sub(/\/+$/, "", path)
	sub(/.*\//, "", path)
	return path
}

# Without a backslash in brackets: the awks disagree on its meaning there.
function folder_of(path,   name) {
	name = path
	sub(/.*\//, "", name)
	return name == path ? "." : substr(path, 1, length(path) - length(name) - 1)
}

# Whether an option is on, as most relays spell it.
function is_yes(text) {
	text = tolower(text)
	return text == "yes" || text == "on" || text == "true" || text == "1"
}

function is_address(text) {
	return text ~ /^[^@ \t<>(),;:"|]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/ && text !~ /\.\.|\/|\\/
}

# The part behind the last @; empty if there is none.
function domain_of(address) {
	return address ~ /@/ ? tolower(substr(address, match(address, /@[^@]*$/) + 1)) : ""
}

# Words that are separated by commas or blanks; braces hold words together. Returns how many, in out[1] and so on.
function words_of(text, out,   i, c, depth, word, count) {
	split("", out)
	count = depth = 0
	word = ""
	for (i = 1; i <= length(text) + 1; i++) {
		c = i > length(text) ? "," : substr(text, i, 1)
		if (c == "{")
			depth++
		else if (c == "}")
			depth--
		if (depth <= 0 && c ~ /[, \t]/) {
			if (word != "")
				out[++count] = word
			word = ""
		} else
			word = word c
	}
	if (word != "")
		out[++count] = word
	return count
}

# Words with quotes as in a shell, without anything else of a shell. Returns how many.
function shell_words(text, out,   i, c, quote, word, inside, count) {
	split("", out)
	count = inside = 0
	quote = word = ""
	for (i = 1; i <= length(text); i++) {
		c = substr(text, i, 1)
		if (c == "\\" && quote != "'" && i < length(text)) {
			word = word substr(text, ++i, 1)
			inside = 1
		} else if (quote != "") {
			if (c == quote)
				quote = ""
			else
				word = word c
		} else if (c == "'" || c == "\"") {
			quote = c
			inside = 1
		} else if (c ~ /[ \t]/) {
			if (inside)
				out[++count] = word
			word = ""
			inside = 0
		} else {
			word = word c
			inside = 1
		}
	}
	if (inside)
		out[++count] = word
	return count
}

function hex_value(digit) {
	return index("0123456789abcdef", tolower(digit)) - 1
}

# Text with +HH or %HH for some bytes, as E-MailRelay writes user names and passwords.
function unescaped(text, mark,   out, at, code) {
	out = ""
	while ((at = index(text, mark)) > 0) {
		code = substr(text, at + 1, 2)
		out = out substr(text, 1, at - 1)
		if (code ~ /^[0-9A-Fa-f][0-9A-Fa-f]$/) {
			out = out sprintf("%c", hex_value(substr(code, 1, 1)) * 16 + hex_value(substr(code, 2, 1)))
			text = substr(text, at + 3)
		} else {
			out = out mark
			text = substr(text, at + 1)
		}
	}
	return out text
}

# Returns an empty text for what is not base64 or has a zero byte.
function base64_decoded(text,   digits, out, i, value, rest, number) {
	digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	sub(/=+$/, "", text)
	out = ""
	# `number` is below `rest`, which is a power of two: the bits that are not yet part of a byte.
	number = 0
	rest = 1
	for (i = 1; i <= length(text); i++) {
		value = index(digits, substr(text, i, 1)) - 1
		if (value < 0)
			return ""
		number = number * 64 + value
		rest *= 64
		if (rest < 256)
			continue
		rest /= 256
		value = int(number / rest)
		number -= value * rest
		if (value == 0)
			return ""
		out = out sprintf("%c", value)
	}
	return out
}

# --- Files

# The lines of a file in out[1] and so on, without line endings. Returns how many, or -1 if it cannot be read.
function read_lines(path, out,   line, count, got) {
	split("", out)
	count = 0
	while ((got = (getline line < path)) > 0 && count < 20000) {
		sub(/\r$/, "", line)
		if (!count)
			sub(/^\357\273\277/, "", line)
		out[++count] = length(line) > 8192 ? "" : line
		if (length(line) > 8192)
			note(path ":" count, "this line is too long, and was left out")
	}
	close(path)
	if (got > 0)
		note(path, "only its first 20000 lines were read")
	return got < 0 && !count ? -1 : count
}

function is_readable(path,   line, got) {
	got = (getline line < path)
	close(path)
	return got >= 0
}

# Where a file is that another one names: in the root that was named; otherwise next to the file that names it or among
# the files that were named, because they were copied together; and then at its path. Empty if it is nowhere.
function found(path, near,   name, i) {
	name = base_name(path)
	if (name == "" || path ~ /\/$/)
		return ""
	if (path !~ /^\//)
		path = (ROOT != "" ? substr(folder_of(near), length(ROOT) + 1) : folder_of(near)) "/" path
	if (ROOT != "")
		return is_readable(ROOT path) ? ROOT path : ""
	for (i = 1; i <= FILES; i++)
		if (base_name(FILE[i]) == name)
			return FILE[i]
	if (is_readable(folder_of(near) "/" name))
		return folder_of(near) "/" name
	return is_readable(path) ? path : ""
}

# --- What is reported

# A text for people about a place of a file, or about account a: {account} in it becomes the name of the account.
function note(where, text, a) {
	NOTE[++NOTES] = without_root(where) ": " text
	NOTE_ABOUT[NOTES] = a
}

function without_root(path) {
	return ROOT != "" && index(path, ROOT "/") == 1 ? substr(path, length(ROOT) + 1) : path
}

# A file that another one names is not found.
function cannot_find(where, what, path,   text) {
	text = what " names " path ", which is not there" (ROOT != "" ? " below " ROOT : "") " or cannot be read: "
	if (is_readable(ROOT path ".db") || is_readable(ROOT path ".lmdb"))
		text = text "only its database is there. On the old system, postmap -s prints the text of it"
	else
		text = text "copy it next to this file, or name it as another FILE"
	note(where, text)
}

# Text of a file that is shown: nothing in it steers the terminal.
function shown(text) {
	gsub(/[\001-\037\177]/, "?", text)
	return text
}

# Options without a counterpart that need none, such as paths and limits of the relay's own processes: one line.
function print_ignored(   i, name, text, seen) {
	for (i = 1; i <= IGNOREDS; i++) {
		name = IGNORED_OF[i]
		if (name in seen)
			continue
		seen[name] = 1
		text = IGNORED[name]
		print "N\t" shown(without_root(name) ": no counterpart and nothing to do: " text)
	}
}

function ignore(file, option) {
	if (((file, option) in IGNORED_TWICE))
		return
	IGNORED_TWICE[file, option] = 1
	IGNORED_OF[++IGNOREDS] = file
	IGNORED[file] = IGNORED[file] == "" ? option : IGNORED[file] ", " option
}

# --- Files of aliases: name: recipient, recipient …

# Reads the aliases of a sendmail: root becomes option admin, others become sections alias. `separator` is the character
# behind the name.
function read_aliases(path, separator,   lines, count, i, line, at, name, to, many, where, k, kept, known) {
	count = read_lines(path, lines)
	for (i = 1; i <= count; i++) {
		line = lines[i]
		while (i < count && lines[i + 1] ~ /^[ \t]+[^ \t#]/)
			line = line " " lines[++i]
		line = trim(line)
		at = index(line, separator)
		if (line ~ /^#/ || at < 2)
			continue
		name = trim(substr(line, 1, at - 1))
		where = path ":" i
		gsub(/^"|"$/, "", name)
		if (substr(line, at + 1) ~ /[|"]|\/|:include:/) {
			note(where, "alias " name ": programs, files and lists are not recipients of a gateway")
			continue
		}
		many = words_of(substr(line, at + 1), to)
		kept = 0
		for (k = 1; k <= many; k++)
			if (is_address(to[k]) || to[k] ~ /^[A-Za-z0-9._+-]+$/)
				known[++kept] = to[k]
			else
				note(where, "alias " name ": '" to[k] "' is not an address")
		if (kept)
			set_alias(where, name, known, kept)
	}
}
