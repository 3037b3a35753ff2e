// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

/*
 * Formats values for display. Text from devices is made safe to show: it may contain control characters and characters
 * that change the writing direction.
 */

/** Invisible characters, and characters that reorder or hide adjacent text. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const DAY = 86400;

/**
 * The date as numbers, to compare days.
 *
 * @param {Date} date a time
 * @returns {string} year, month, day
 */
function dayOf(date) {
	return `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;
}

return baseclass.extend({
	/**
	 * Text from a device, made safe to show.
	 *
	 * @param {unknown} value the text
	 * @param {number} [limit] maximum number of characters
	 * @returns {string} one line without invisible characters
	 */
	plain(value, limit) {
		const text = String(value ?? '').replace(INVISIBLE, '\u00b7');
		const most = limit || 200;

		return (text.length > most) ? `${text.slice(0, most - 1)}\u2026` : text;
	},

	/**
	 * Multi-line text from a device, made safe to show.
	 *
	 * @param {unknown} value the text
	 * @returns {string} the text with its line breaks but without other invisible characters
	 */
	lines(value) {
		return String(value ?? '').replace(/\r\n?/g, '\n').split('\n')
			.map((line) => line.replace(/\t/g, ' ').replace(INVISIBLE, '\u00b7')).join('\n');
	},

	/**
	 * A point in time: the time of day if it was today, otherwise with the date.
	 *
	 * @param {number | null | undefined} seconds since 1970
	 * @param {Date} [now] the current time
	 * @returns {string} the time; '–' if there is none
	 */
	time(seconds, now) {
		if (!seconds)
			return '\u2013';

		const date = new Date(seconds * 1000);
		const hour = date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });

		return (dayOf(date) == dayOf(now || new Date())) ? hour : `${this.date(seconds)} ${hour}`;
	},

	/**
	 * A day.
	 *
	 * @param {number} seconds since 1970
	 * @returns {string} its date
	 */
	date(seconds) {
		return new Date(seconds * 1000).toLocaleDateString(undefined, { year: 'numeric', month: '2-digit', day: '2-digit' });
	},

	/**
	 * A duration in its largest unit.
	 *
	 * @param {number} seconds how long
	 * @param {boolean} [exact] whether nothing is rounded: 26 hours are not a day
	 * @returns {string} such as '5 minutes'
	 */
	duration(seconds, exact) {
		const whole = Math.max(0, Math.round(seconds));
		const units = [
			[ DAY, (/** @type {number} */ n) => N_(n, '%d day', '%d days') ],
			[ 3600, (/** @type {number} */ n) => N_(n, '%d hour', '%d hours') ],
			[ 60, (/** @type {number} */ n) => N_(n, '%d minute', '%d minutes') ]
		];

		for (const [ size, words ] of /** @type {[number, (n: number) => string][]} */ (units)) {
			if (whole >= size && !(exact && whole % size)) {
				const count = Math.round(whole / size);

				return words(count).format(count);
			}
		}

		return N_(whole, '%d second', '%d seconds').format(whole);
	},

	/**
	 * A number of bytes.
	 *
	 * @param {number} bytes how many
	 * @returns {string} such as '1.5 MB'
	 */
	size(bytes) {
		let value = bytes;

		for (const unit of [ 'B', 'KB', 'MB' ]) {
			if (value < 1024)
				return `${(unit == 'B' || value >= 10) ? Math.round(value) : value.toFixed(1)} ${unit}`;

			value /= 1024;
		}

		return `${value.toFixed(1)} GB`;
	},

	/**
	 * Whether a connection was encrypted.
	 *
	 * @param {string | null | undefined} tls TLS version as reported by the daemon
	 * @returns {boolean} false for none
	 */
	isProtected(tls) {
		return !!tls && tls != 'none';
	},

	/**
	 * How a connection was encrypted.
	 *
	 * @param {string | null | undefined} tls TLS version; empty if not encrypted
	 * @param {string | null | undefined} verified how the certificate was verified
	 * @returns {string} such as 'TLS 1.3, verified'
	 */
	protection(tls, verified) {
		if (!this.isProtected(tls))
			return _('no TLS');

		// The daemon's TLS library calls it TLSv1.3.
		const version = this.plain(tls, 30).replace(/^TLSv/, 'TLS ');

		switch (verified) {
		case 'ca':
		case 'yes':
			return _('%s, verified').format(version);
		case 'fingerprint':
			return _('%s, verified by fingerprint').format(version);
		default:
			return _('%s, not verified').format(version);
		}
	},

	/**
	 * The word for the outcome of a message.
	 *
	 * @param {string} outcome accepted, deferred, delivered, failed, refused, rejected, aborted, connected, silent, heard
	 * @returns {string} the word
	 */
	outcome(outcome) {
		switch (outcome) {
		case 'accepted':
			return _('accepted');
		case 'deferred':
			return _('deferred');
		case 'aborted':
			return _('aborted');
		case 'connected':
			return _('connected, no message');
		case 'delivered':
			return _('delivered');
		case 'failed':
			return _('failed');
		case 'refused':
			return _('refused');
		case 'rejected':
			return _('rejected');
		case 'silent':
			return _('silent');
		case 'heard':
			return _('heard again');
		default:
			return this.plain(outcome, 30);
		}
	}
});
