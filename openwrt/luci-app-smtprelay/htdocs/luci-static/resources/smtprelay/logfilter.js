// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

/*
 * Filters for the log entries.
 */

return baseclass.extend({
	/**
	 * Matching log entries.
	 *
	 * @param {Smtprelay.Verdict[]} entries all entries
	 * @param {{text: string, outcome: string, client: string}} filter the criteria; '' matches all
	 * @returns {Smtprelay.Verdict[]} the matching ones
	 */
	entries(entries, filter) {
		const words = filter.text.trim().toLowerCase();

		return entries.filter((entry) =>
			(!filter.outcome || entry.outcome == filter.outcome)
			&& (!filter.client || entry.client == filter.client)
			&& (!words || [ entry.id, entry.client, entry.device, entry.from, entry.to, entry.subject, entry.account, entry.text ].some((field) => String(field ?? '').toLowerCase().includes(words))));
	},

	/**
	 * The devices that occur in the entries.
	 *
	 * @param {Smtprelay.Verdict[]} entries the entries
	 * @returns {Map<string, string>} names by address, each once
	 */
	clients(entries) {
		const named = entries.filter((entry) => entry.client).map((entry) => /** @type {[string, string]} */ ([ entry.client, entry.device || entry.client ]));

		return new Map(named.sort((a, b) => a[1].localeCompare(b[1])));
	},

	/**
	 * Matching lines, newest first.
	 *
	 * @param {Smtprelay.LogLine[]} lines all lines
	 * @param {string} words text that they must contain
	 * @returns {Smtprelay.LogLine[]} the matching ones
	 */
	lines(lines, words) {
		const wanted = words.trim().toLowerCase();

		return lines.filter((line) => line.text.toLowerCase().includes(wanted)).reverse();
	}
});
