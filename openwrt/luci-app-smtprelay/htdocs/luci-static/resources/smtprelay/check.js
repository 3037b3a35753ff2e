// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

/*
 * Checks whether the daemon (src/config) would accept the value of an option. Each check returns true or an error
 * message, like the `validate` function of LuCI's forms. An empty value means that the option is not set.
 */

const SIZE = { g: 1073741824, m: 1048576, k: 1024, '': 1 };
const TIME = { w: 604800, d: 86400, h: 3600, m: 60, s: 1, '': 1 };

/**
 * A number with a unit.
 *
 * @param {string} text such as '16M'
 * @param {Record<string, number>} units factors by lower-case unit
 * @returns {number | null} null if it is not valid
 */
function scaled(text, units) {
	const parts = /^([0-9]+)[ \t]*([a-zA-Z]?)$/.exec(text);
	const factor = parts ? units[parts[2].toLowerCase()] : undefined;

	return (parts && factor) ? Number(parts[1]) * factor : null;
}

/**
 * The four numbers of an IPv4 address.
 *
 * @param {string} text such as '192.168.1.1'
 * @returns {number[] | null} null if it is not valid
 */
function ipv4(text) {
	const parts = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$/.exec(text);
	const numbers = parts ? parts.slice(1).map(Number) : null;

	return (numbers && numbers.every((n) => n < 256)) ? numbers : null;
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

	if (last.includes('.')) {
		if (!ipv4(last))
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
	return Array.from(text).every((c) => (c > '\u007f') ? !/[\s\u0080-\u009f]/.test(c) : ascii.test(c));
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

	if (text.length > 320 || (!quoted && at < 1) || !holdsOnly(local, quoted ? /[\u0020-\u007e]/ : /[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]/))
		return false;

	if (/^\[[A-Za-z0-9.:-]+\]$/.test(domain))
		return true;

	return domain.length <= 255 && domain.split('.').every((label) => label.length >= 1 && label.length <= 63 && holdsOnly(label, /[A-Za-z0-9_-]/));
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

	return most > 0 && (parts.length == 1 || (parts.length == 2 && /^[0-9]{1,3}$/.test(parts[1]) && Number(parts[1]) <= most));
}

/**
 * Creates a check from a test. The daemon ignores blanks around a value: they were pasted with it.
 *
 * @param {(text: string) => boolean} fits the test
 * @param {() => string} form the error message
 * @returns {(text: string | null | undefined) => true | string} the check
 */
function check(fits, form) {
	return (text) => (text == null || text.trim() === '' || fits(text.trim())) ? true : form();
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

	address: check(isOneAddress, () => _('Expecting an email address such as me@example.com')),
	pattern: check(isPattern, () => _('Expecting an address or a pattern, such as ops@example.com, *@example.com or *')),
	network: check(isNetwork, () => _('Expecting an IP address or a network, such as 192.168.1.20 or 192.168.1.0/28')),
	ip: check((text) => !!ipv4(text) || ipv6(text), () => _('Expecting an IP address')),
	mac: check((text) => /^[0-9a-fA-F]{2}([:-]?)([0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}$/.test(text), () => _('Expecting a MAC address such as 00:11:22:aa:bb:cc')),
	host: check((text) => text.length <= 255 && /^[A-Za-z0-9._-]+$/.test(text), () => _('Expecting a hostname')),
	server: check((text) => (text.length <= 255 && /^[A-Za-z0-9._-]+$/.test(text)) || ipv6(text), () => _('Expecting a hostname such as smtp.example.com; the port has a field of its own')),
	heloName: check((text) => text.length <= 255 && /^[A-Za-z0-9._:[\]-]+$/.test(text), () => _('Expecting a hostname')),
	path: check((text) => text.startsWith('/'), () => _('Expecting an absolute path')),
	hook: check((text) => text == 'none' || text.startsWith('/'), () => _('Expecting an absolute path, or none')),
	url: check((text) => /^https:\/\/[\u0021-\u0022\u0024-\u007e]+$/.test(text), () => _('Expecting a URL such as https://login.example.com/path')),
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
		const words = text.trim().split(/[ \t]+/);

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
	 * @returns {(text: string) => true | string} the check
	 */
	durationFrom(least, most) {
		const fits = (/** @type {string} */ text) => {
			const seconds = scaled(text, TIME);

			return seconds != null && seconds >= least && seconds <= (most ?? Infinity);
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
