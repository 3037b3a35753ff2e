// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

/*
 * Checks whether the daemon (src/config) would accept the value of an option: with one that it refuses, the gateway does
 * not start. Each check returns true or an error message, like the `validate` function of LuCI's forms. An empty value
 * means that the option is not set. tests/data/values.json has values for both, the daemon and these checks.
 */

const SIZE = { g: 1073741824, m: 1048576, k: 1024, '': 1 };
const TIME = { w: 604800, d: 86400, h: 3600, m: 60, s: 1, '': 1 };
/** Placeholders of templates, and header fields that the daemon writes itself (src/push/template.rs, src/config/channel.rs). */
const PLACEHOLDERS = [ 'subject', 'text', 'from', 'device', 'id', 'time', 'to', 'priority', 'token' ];
const OWN_FIELDS = [ 'host', 'content-length', 'content-type', 'connection', 'transfer-encoding', 'user-agent', 'accept', 'accept-encoding', 'expect' ];
/** The daemon's numbers have 64 bits. */
const BEYOND = Math.pow(2, 64);

/**
 * A number with a unit.
 *
 * @param {string} text such as '16M'
 * @param {Record<string, number>} units factors by lower-case unit
 * @returns {number | null} null if it is not valid
 */
function scaled(text, units) {
	const parts = /^([0-9]+)(?:[ ]*([a-zA-Z]))?$/.exec(text);
	const factor = parts ? units[(parts[2] ?? '').toLowerCase()] : undefined;
	const number = (parts && factor) ? Number(parts[1]) * factor : BEYOND;

	return (number < BEYOND) ? number : null;
}

/**
 * The length of a text in UTF-8, in which the daemon counts.
 *
 * @param {string} text any text
 * @returns {number} number of bytes
 */
function bytes(text) {
	return Array.from(text).reduce((sum, c) => sum + ((c.length == 2) ? 4 : (c > '\u07ff') ? 3 : (c > '\u007f') ? 2 : 1), 0);
}

/**
 * The four numbers of an IPv4 address. Panels of devices show it with leading zeros, but elsewhere these mean octal
 * numbers, so the daemon does not guess.
 *
 * @param {string} text such as '192.168.1.1'
 * @returns {number[] | null} null if it is not valid
 */
function ipv4(text) {
	const parts = text.split('.');
	const numbers = parts.map(Number);

	return (parts.length == 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part)) && numbers.every((n) => n < 256)) ? numbers : null;
}

/**
 * Whether a text is an IPv6 address.
 *
 * @param {string} text such as 'fd00::1'
 * @returns {boolean} true if it is
 */
function ipv6(text) {
	if (!/^[0-9a-fA-F:.]+$/.test(text) || !text.includes(':'))
		return false;

	const halves = text.split('::');
	const groups = halves.flatMap((half) => (half == '') ? [] : half.split(':'));
	const last = groups.length ? groups[groups.length - 1] : '';
	let count = groups.length;

	// An IPv4 address may only be the end (RFC 4291 section 2.2).
	if (last.includes('.')) {
		if (!text.endsWith(last) || !ipv4(last))
			return false;

		groups.pop();
		count++;
	}

	return groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group)) && ((halves.length == 1) ? count == 8 : halves.length == 2 && count < 8);
}

/**
 * Whether each character is allowed in an address: no whitespace, no control characters, and only ASCII that matches
 * `ascii`.
 *
 * @param {string} text part of an address
 * @param {RegExp} ascii pattern for ASCII characters
 * @returns {boolean} true if it is
 */
function holdsOnly(text, ascii) {
	return Array.from(text).every((c) => (c > '\u007f') ? !/[\s\u0080-\u009f\u200b]/.test(c) : ascii.test(c));
}

/**
 * Whether a text is an email address.
 *
 * @param {string} text such as 'me@example.com'
 * @returns {boolean} true if it is
 */
function isAddress(text) {
	const quoted = /^("(?:[^"\\]|\\.)+")@(.*)$/.exec(text);
	const at = text.indexOf('@');
	const local = quoted ? quoted[1] : text.slice(0, Math.max(0, at));
	const domain = quoted ? quoted[2] : text.slice(at + 1);

	if (bytes(text) > 320 || (!quoted && at < 1) || !holdsOnly(local, quoted ? /[\u0020-\u007e]/ : /[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]/))
		return false;

	if (/^\[[A-Za-z0-9.:-]+\]$/.test(domain))
		return true;

	return bytes(domain) <= 255 && domain.split('.').every((label) => label.length >= 1 && bytes(label) <= 63 && holdsOnly(label, /[A-Za-z0-9_-]/));
}

/**
 * Whether a text can be a local name, such as 'root'.
 *
 * @param {string} text the name
 * @returns {boolean} true if it is
 */
function isLocalName(text) {
	return !text.includes('@') && !text.startsWith('"') && isAddress(`${text}@x`);
}

/**
 * Whether a text is the address of one mailbox: a star is valid in an address, but means a pattern.
 *
 * @param {string} text such as 'me@example.com'
 * @returns {boolean} true if it is
 */
function isOneAddress(text) {
	return isAddress(text) && !text.includes('*');
}

/**
 * Whether a text is a recipient: an address, or a name for which there is an alias.
 *
 * @param {string} text such as 'ops@example.com'
 * @returns {boolean} true if it is
 */
function isRecipient(text) {
	return isOneAddress(text) || (isLocalName(text) && !text.includes('*'));
}

/**
 * Whether a text is an IP address or a network.
 *
 * @param {string} text such as '192.168.1.0/24'
 * @returns {boolean} true if it is
 */
function isNetwork(text) {
	const parts = text.split('/');
	const most = ipv4(parts[0]) ? 32 : ipv6(parts[0]) ? 128 : -1;

	return most > 0 && (parts.length == 1 || (parts.length == 2 && /^(0|[1-9][0-9]{0,2})$/.test(parts[1]) && Number(parts[1]) <= most));
}

/**
 * Whether a text is an HTTPS URL as the daemon takes it apart.
 *
 * @param {string} text such as 'https://push.example.com:8443/path'
 * @returns {boolean} true if it is
 */
function isUrl(text) {
	const parts = /^https:\/\/(?:\[[A-Za-z0-9._:-]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(?:\/[\u0021-\u0022\u0024-\u007e]*)?$/.exec(text);

	return parts != null && (parts[1] == null || isPort(parts[1]));
}

/**
 * Whether a text is the port of a server.
 *
 * @param {string} text such as '465'
 * @returns {boolean} true if it is
 */
function isPort(text) {
	return /^[0-9]{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;
}

/**
 * Whether a template has only placeholders that exist.
 *
 * @param {string} text such as '{subject}: {text}'
 * @returns {boolean} true if it has
 */
function isTemplate(text) {
	return text.split('{').slice(1).every((part) => {
		const [ name, rest ] = part.split('}', 2);

		return rest == null || !/^[a-z_]+$/.test(name) || PLACEHOLDERS.includes(name);
	});
}

/**
 * Whether a text is a header field of a request.
 *
 * @param {string} text such as 'X-Title: {subject}'
 * @returns {boolean} true if it is
 */
function isHeader(text) {
	const parts = /^([A-Za-z0-9!#$%&'*+.^_`|~-]+): /.exec(text);

	return parts != null && !OWN_FIELDS.includes(parts[1].toLowerCase()) && isTemplate(text);
}

/**
 * Creates a check from a test. The daemon ignores blanks around a value, which were pasted with it, and refuses control
 * characters in every option.
 *
 * @param {(text: string) => boolean} fits the test
 * @param {() => string} form the error message
 * @returns {(text: string | null | undefined) => true | string} the check
 */
function check(fits, form) {
	return (text) => {
		const given = (text ?? '').replace(/^[\s\u200b]+|[\s\u200b]+$/g, '');

		return (given === '' || (!/[\u0000-\u001f\u007f-\u009f]/.test(given) && fits(given))) ? true : form();
	};
}

/**
 * Whether a text is an address or an address pattern.
 *
 * @param {string} text such as '*@example.com'
 * @returns {boolean} true if it is
 */
function isPattern(text) {
	const sample = text.replaceAll('*', 'x');

	return isAddress(sample) || isLocalName(sample);
}

return baseclass.extend({
	isAddress: isOneAddress,
	isNetwork: isNetwork,
	isPort: isPort,
	size: (/** @type {string} */ text) => scaled(text, SIZE),
	duration: (/** @type {string} */ text) => scaled(text, TIME),

	/**
	 * The network of an address in CIDR notation.
	 *
	 * @param {string} address an IPv4 address
	 * @param {number} mask prefix length
	 * @returns {string | null} such as '192.168.1.0/24'; null if the address is not valid
	 */
	networkOf(address, mask) {
		const numbers = ipv4(address);

		if (!numbers || !(mask >= 0 && mask <= 32))
			return null;

		const kept = numbers.map((n, i) => {
			const bits = Math.max(0, Math.min(8, mask - 8 * i));

			return n & (256 - Math.pow(2, 8 - bits));
		});

		return `${kept.join('.')}/${mask}`;
	},

	header: (/** @type {string} */ text) => (text && text != text.trimStart()) ? _('Expecting a header field such as X-Title: {subject}')
		: check(isHeader, () => _('Expecting a header field such as X-Title: {subject}'))(text),
	template: check(isTemplate, () => _('Expecting text with no other placeholders than %s').format(PLACEHOLDERS.map((name) => `{${name}}`).join(', '))),
	region: check((text) => /^[A-Za-z0-9._-]+$/.test(text), () => _('Expecting a region such as eu-central-1')),
	text: check(() => true, () => _('Expecting text without control characters such as tabs')),
	address: check(isOneAddress, () => _('Expecting an email address such as me@example.com')),
	pattern: check(isPattern, () => _('Expecting an address or a pattern, such as ops@example.com, *@example.com or *')),
	network: check(isNetwork, () => _('Expecting an IP address or a network without leading zeros, such as 192.168.1.20 or 192.168.1.0/28')),
	ip: check((text) => !!ipv4(text) || ipv6(text), () => _('Expecting an IP address without leading zeros, such as 192.168.1.1')),
	mac: check((text) => /^[0-9a-fA-F]{2}([:-]?)([0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}$/.test(text), () => _('Expecting a MAC address such as 00:11:22:aa:bb:cc')),
	host: check((text) => text.length <= 255 && /^[A-Za-z0-9._-]+$/.test(text), () => _('Expecting a hostname')),
	server: check((text) => (text.length <= 255 && /^[A-Za-z0-9._-]+$/.test(text)) || ipv6(text), () => _('Expecting a hostname such as smtp.example.com; the port has a field of its own')),
	heloName: check((text) => text.length <= 255 && /^[A-Za-z0-9._:[\]-]+$/.test(text), () => _('Expecting a hostname')),
	path: check((text) => text.startsWith('/'), () => _('Expecting an absolute path')),
	hook: check((text) => text == 'none' || text.startsWith('/'), () => _('Expecting an absolute path, or none')),
	url: check(isUrl, () => _('Expecting a URL such as https://login.example.com/path')),
	pem: (/** @type {string} */ text) => /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{100,}-----END CERTIFICATE-----/.test(text)
		? true
		: _('Expecting a certificate in PEM format, from BEGIN CERTIFICATE to END CERTIFICATE'),
	rate: check((text) => {
		const parts = /^([0-9]{1,6})[ ]*\/[ ]*[smhd]$/.exec(text);

		return parts != null && Number(parts[1]) >= 1 && Number(parts[1]) <= 100000;
	}, () => _('Expecting a number of messages per s, m, h or d, such as 20/h')),
	fingerprint: check((text) => /^[0-9a-fA-F]{64}$/.test(text.replaceAll(':', '')), () => _('Expecting a SHA-256 fingerprint: 64 hexadecimal digits')),
	recipient: check(isRecipient, () => _('Expecting an email address or the name of an alias')),
	rewrite: check((text) => {
		const words = text.split(/ +/).filter((word) => word);

		return words.length == 2 && isPattern(words[0]) && isRecipient(words[1]);
	}, () => _('Expecting a pattern and a new address, such as *@plant.local ops@example.com')),
	sender: check((text) => isOneAddress(text) || isAddress(`x@${text.replace(/^\*@/, '')}`), () => _('Expecting an email address or a domain')),
	aliasName: check((text) => {
		if (text == '*')
			return true;

		if (text.startsWith('*@'))
			return isAddress(`x${text.slice(1)}`);

		return isRecipient(text);
	}, () => _('Expecting an address, a name such as root, *@example.com, or * for all names without a domain')),

	/**
	 * A check for sizes.
	 *
	 * @param {number} least minimum in bytes
	 * @returns {(text: string) => true | string} the check
	 */
	sizeFrom(least) {
		return check((text) => (scaled(text, SIZE) ?? -1) >= least, () => _('Expecting a size in bytes, or with the suffix K, M or G, of at least %s').format(`${least / 1024}K`));
	},

	/**
	 * A check for durations.
	 *
	 * @param {number} least minimum in seconds
	 * @param {number} [most] maximum in seconds
	 * @param {boolean} [zero] whether zero is valid as well
	 * @returns {(text: string) => true | string} the check
	 */
	durationFrom(least, most, zero) {
		const fits = (/** @type {string} */ text) => {
			const seconds = scaled(text, TIME);

			return seconds != null && ((zero && seconds == 0) || (seconds >= least && seconds <= (most ?? Infinity)));
		};

		return check(fits, () => most
			? _('Expecting a duration with the suffix s, m, h, d or w, from %s to %s').format(`${least}s`, `${most}s`)
			: _('Expecting a duration with the suffix s, m, h, d or w, of at least %s').format(`${least}s`));
	},

	/**
	 * A check for integers.
	 *
	 * @param {number} least minimum
	 * @param {number} most maximum
	 * @returns {(text: string) => true | string} the check
	 */
	numberFrom(least, most) {
		return check((text) => /^[0-9]{1,9}$/.test(text) && Number(text) >= least && Number(text) <= most, () => _('Expecting a number from %d to %d').format(least, most));
	}
});
