// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.text as text';

/*
 * Devices that are expected to send: which of them are silent for too long, and how they are listed together with the
 * clients that have connected.
 */

return baseclass.extend({
	/**
	 * Clients and expected devices as one list: who is overdue is on top, the longest silence first. A section counts as
	 * one device, so of several clients that belong to it the most recently seen one stands for it.
	 *
	 * @param {Smtprelay.Device[]} devices clients, the most recently seen first
	 * @param {Smtprelay.Expected[] | undefined} expected devices that are expected to send
	 * @returns {Smtprelay.Heard[]} what is in each row
	 */
	rows(devices, expected) {
		const left = (expected || []).slice();
		/** @type {Smtprelay.Heard[]} */
		const rows = devices.map((device) => {
			const place = left.findIndex((one) => one.name == device.section);

			return { device: device, expected: (place < 0) ? null : left.splice(place, 1)[0] };
		});

		// Those that have not connected since the history began.
		for (const one of left)
			rows.push({ device: null, expected: one });

		const silent = (/** @type {Smtprelay.Heard} */ row) => row.expected?.overdue ? row.expected.silent + 1 : 0;

		return rows.map((row, place) => ({ row: row, place: place }))
			.sort((a, b) => silent(b.row) - silent(a.row) || a.place - b.place)
			.map(({ row }) => row);
	},

	/**
	 * When a message was last accepted.
	 *
	 * @param {Smtprelay.Heard} row the device
	 * @returns {string} the time; '–' if it is not known
	 */
	last(row) {
		return text.time(row.expected?.last_heard || row.device?.last_mail?.time);
	},

	/**
	 * What is said about a device that is expected to send.
	 *
	 * @param {Smtprelay.Heard} row the device
	 * @returns {string} empty if nothing is expected
	 */
	words(row) {
		const one = row.expected;

		if (!one)
			return '';

		return one.overdue
			? _('Silent for %s, expected every %s.').format(text.duration(one.silent), text.duration(one.every, true))
			: _('Expected every %s.').format(text.duration(one.every, true));
	},

	/**
	 * The badge of a device that is silent for too long.
	 *
	 * @param {Smtprelay.Heard} row the device
	 * @returns {Smtprelay.Badge | null} null if it is not
	 */
	badge(row) {
		return row.expected?.overdue ? { level: 'bad', label: _('silent'), title: _('No message has been accepted from it for longer than expected.') } : null;
	}
});
