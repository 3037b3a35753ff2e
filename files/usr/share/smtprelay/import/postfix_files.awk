# SPDX-License-Identifier: Apache-2.0
#
# smtprelay import: the files of Postfix: parameters of main.cf with their variables, and tables (postconf(5)).

# Parameters into PF, their places into PF_AT. The last line of a name counts; lines that begin with a blank continue
# the one before, also over comments and empty lines.
function postfix_parameters(path,   lines, count, i, line, name) {
	count = read_lines(path, lines)
	PF_FILE = path
	name = ""
	for (i = 1; i <= count; i++) {
		line = lines[i]
		if (line ~ /^[ \t]*(#|$)/)
			continue
		if (line ~ /^[ \t]/) {
			if (name != "")
				PF[name] = PF[name] (PF[name] == "" ? "" : " ") trim(line)
			continue
		}
		if (index(line, "=") < 2) {
			note(path ":" i, "this line is not a parameter")
			name = ""
			continue
		}
		name = trim(substr(line, 1, index(line, "=") - 1))
		if (!(name in PF))
			PF_NAME[++PF_NAMES] = name
		PF[name] = trim(substr(line, index(line, "=") + 1))
		PF_AT[name] = path ":" i
	}
}

# The text within braces, if it begins with one; what follows them goes to PF_REST.
function pf_braced(text,   end, level, c) {
	PF_REST = ""
	text = trim(text)
	if (text !~ /^[{]/)
		return text
	level = 0
	for (end = 1; end <= length(text); end++) {
		c = substr(text, end, 1)
		if (c == "{")
			level++
		else if (c == "}" && --level == 0)
			break
	}
	PF_REST = trim(substr(text, end + 1))
	return trim(substr(text, 2, end - 2))
}

# A value with its $name, ${name}, $(name), ${name?text}, ${name:text} and ${name?{text}:{text}} replaced.
function pf_value(text, depth,   out, at, c, name, rest, end, level, mark, given, other) {
	out = ""
	# A parameter can name itself.
	if (depth > 20 || ++PF_STEPS > 20000)
		return ""
	while ((at = index(text, "$")) > 0) {
		out = out substr(text, 1, at - 1)
		text = substr(text, at + 1)
		c = substr(text, 1, 1)
		given = other = mark = ""
		if (c == "$") {
			out = out "$"
			text = substr(text, 2)
			continue
		}
		if (c == "{" || c == "(") {
			level = 0
			for (end = 1; end <= length(text); end++) {
				c = substr(text, end, 1)
				if (c ~ /[{(]/)
					level++
				else if (c ~ /[})]/ && --level == 0)
					break
			}
			name = substr(text, 2, end - 2)
			rest = substr(text, end + 1)
			if (match(name, /[?:]/)) {
				mark = substr(name, RSTART, 1)
				given = substr(name, RSTART + 1)
				name = trim(substr(name, 1, RSTART - 1))
				given = pf_braced(given)
				if (mark == "?" && PF_REST ~ /^:/)
					other = pf_braced(substr(PF_REST, 2))
			}
			if (name ~ /^[{]/) {
				note(PF_FILE, "${" shown(name) "…}: comparisons are not evaluated, the value is taken as empty")
				text = rest
				continue
			}
		} else if (match(text, /^[A-Za-z0-9_]+/)) {
			name = substr(text, 1, RLENGTH)
			rest = substr(text, RLENGTH + 1)
		} else {
			out = out "$"
			continue
		}
		text = rest
		if (mark == "?")
			out = out pf_value(pf(name, depth + 1) != "" ? given : other, depth + 1)
		else if (mark == ":" && pf(name, depth + 1) == "")
			out = out pf_value(given, depth + 1)
		else
			out = out pf(name, depth + 1)
	}
	return out text
}

# A parameter; PF_SEEN says that its meaning is known here.
function pf(name, depth,   value) {
	PF_SEEN[name] = 1
	if (name in PF)
		return trim(pf_value(PF[name], depth + 1))
	if (name == "mydomain") {
		value = pf("myhostname", depth + 1)
		return sub(/^[^.]*\./, "", value) ? value : ""
	}
	if (name == "config_directory")
		return "/etc/postfix"
	return ""
}

# --- Tables

# All entries of the tables of a parameter: KEY and VALUE with their places in WHERE. Returns how many. What is a regular
# expression is in KEY as it is written, and REGEX is set.
function table(path, parameter, KEY, VALUE, WHERE, REGEX,   maps, count, m, kind, name, file, lines, n, i, line, entries, got, e) {
	split("", KEY)
	split("", VALUE)
	split("", REGEX)
	n = 0
	count = words_of(pf(parameter), maps)
	for (m = 1; m <= count; m++) {
		kind = maps[m]
		sub(/:.*/, "", kind)
		name = substr(maps[m], length(kind) + 2)
		while (kind == "proxy") {
			kind = name
			sub(/:.*/, "", kind)
			name = substr(name, length(kind) + 2)
		}
		if (kind == "static") {
			KEY[++n] = "*"
			VALUE[n] = trim(name)
			gsub(/^\{[ \t]*|[ \t]*\}$/, "", VALUE[n])
			WHERE[n] = PF_AT[parameter]
			continue
		}
		if (kind == "inline") {
			gsub(/^\{|\}$/, "", name)
			got = words_of(name, entries)
			line = ""
			for (e = 1; e <= got; e++) {
				gsub(/^\{[ \t]*|[ \t]*\}$/, "", entries[e])
				line = line == "" || line ~ /=[ \t]*[^ \t]/ ? entries[e] : line entries[e]
				if (line !~ /=[ \t]*[^ \t]/)
					continue
				KEY[++n] = trim(substr(line, 1, index(line, "=") - 1))
				VALUE[n] = trim(substr(line, index(line, "=") + 1))
				WHERE[n] = PF_AT[parameter]
			}
			continue
		}
		if (kind !~ /^(hash|texthash|btree|lmdb|dbm|cdb|sdbm|regexp|pcre)$/) {
			note(PF_AT[parameter], parameter " = " kind ":…: tables of this type cannot be read here")
			continue
		}
		file = found(name, path)
		if (file == "") {
			cannot_find(PF_AT[parameter], parameter, name)
			continue
		}
		got = read_lines(file, lines)
		for (i = 1; i <= got; i++) {
			line = lines[i]
			if (line ~ /^[ \t]*(#|$)/)
				continue
			if (line ~ /^[ \t]/ && n) {
				VALUE[n] = VALUE[n] " " trim(line)
				continue
			}
			n++
			REGEX[n] = kind == "regexp" || kind == "pcre"
			WHERE[n] = file ":" i
			if (REGEX[n] && match(line, /^\/.*\/[imx]*[ \t]/)) {
				KEY[n] = trim(substr(line, 1, RLENGTH))
				VALUE[n] = trim(substr(line, RLENGTH + 1))
			} else {
				match(line, /^[^ \t]+/)
				KEY[n] = substr(line, 1, RLENGTH)
				VALUE[n] = trim(substr(line, RLENGTH + 1))
				gsub(/^"|"$/, "", KEY[n])
			}
		}
	}
	return n
}

# Whether an entry is for every address, such as /.+/ and /^(.*)@(.*)$/.
function is_everything(key,   left) {
	if (key == "*")
		return 1
	left = key
	if (!sub(/^\//, "", left) || !sub(/\/[imx]*$/, "", left) || (left != "" && left !~ /\./))
		return 0
	gsub(/[$().+*^]/, "", left)
	return left == "" || left == "@"
}

# The value for a destination as relayhost names it; empty if there is none.
function for_destination(KEY, VALUE, REGEX, count, text,   host, i, want, try) {
	host = text
	gsub(/[][]/, "", host)
	sub(/:[^:]*$/, "", host)
	for (try = 1; try <= 4; try++) {
		want = tolower(try == 1 ? text : try == 2 ? host : try == 3 ? "[" host "]" : "*")
		for (i = 1; i <= count; i++)
			if (!REGEX[i] && tolower(KEY[i]) == want) {
				FOUND_AT = i
				return VALUE[i]
			}
	}
	FOUND_AT = 0
	return ""
}
