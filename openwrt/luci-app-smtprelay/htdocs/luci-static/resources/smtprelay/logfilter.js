'use strict';
'require baseclass';

/*
 * Which entries of the logs fit what was asked for.
 */

/** How the daemon names itself in the system log. */
const OURS = /^smtprelay(\[[0-9]+\])?:/;

return baseclass.extend({
	/**
	 * Verdicts that fit.
	 *
	 * @param {Smtprelay.Verdict[]} entries all
	 * @param {{text: string, outcome: string, client: string}} filter what is asked for; '' fits all
	 * @returns {Smtprelay.Verdict[]} those that fit
	 */
	entries(entries, filter) {
		const words = filter.text.trim().toLowerCase();

		return entries.filter((entry) =>
			(!filter.outcome || entry.outcome == filter.outcome)
			&& (!filter.client || entry.client == filter.client)
			&& (!words || [ entry.id, entry.client, entry.from, entry.to, entry.account, entry.text ].some((field) => String(field ?? '').toLowerCase().includes(words))));
	},

	/**
	 * The devices that are named.
	 *
	 * @param {Smtprelay.Verdict[]} entries verdicts
	 * @returns {string[]} each once
	 */
	clients(entries) {
		return Array.from(new Set(entries.map((entry) => entry.client).filter((client) => client))).sort();
	},

	/**
	 * Lines of the daemon that fit, newest first.
	 *
	 * @param {Smtprelay.LogLine[]} lines all lines of the system log
	 * @param {string} words what they must hold
	 * @returns {Smtprelay.LogLine[]} those that fit
	 */
	lines(lines, words) {
		const wanted = words.trim().toLowerCase();

		return lines.filter((line) => OURS.test(line.msg) && line.msg.toLowerCase().includes(wanted)).reverse();
	}
});
