// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

/*
 * Filters for the log entries.
 */

/** How the daemon identifies itself in the system log. */
const OURS = /^smtprelay(\[[0-9]+\])?:/;

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
			&& (!words || [ entry.id, entry.client, entry.from, entry.to, entry.account, entry.text ].some((field) => String(field ?? '').toLowerCase().includes(words))));
	},

	/**
	 * The devices that occur in the entries.
	 *
	 * @param {Smtprelay.Verdict[]} entries the entries
	 * @returns {string[]} each once
	 */
	clients(entries) {
		return Array.from(new Set(entries.map((entry) => entry.client).filter((client) => client))).sort();
	},

	/**
	 * Matching lines of the daemon, newest first.
	 *
	 * @param {Smtprelay.LogLine[]} lines all lines of the system log
	 * @param {string} words text that they must contain
	 * @returns {Smtprelay.LogLine[]} the matching ones
	 */
	lines(lines, words) {
		const wanted = words.trim().toLowerCase();

		return lines.filter((line) => OURS.test(line.msg) && line.msg.toLowerCase().includes(wanted)).reverse();
	}
});
