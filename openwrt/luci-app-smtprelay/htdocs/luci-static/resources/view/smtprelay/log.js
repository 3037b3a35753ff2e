// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require poll';
'require ui';
'require smtprelay.api as api';
'require smtprelay.logfilter as logfilter';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/** Refresh interval of the page, in seconds. */
const EVERY = 10;
/** Number of entries that the daemon keeps. */
const VERDICTS = 200;
/** Number of entries shown initially, and added each time. */
const STEP = 50;
/** Number of lines read from the system log. */
const LINES = 1000;

return view.extend({
	load() {
		return this.fetch();
	},

	/**
	 * Both logs.
	 *
	 * @returns {Promise<[Smtprelay.HistoryPage | null, Smtprelay.LogLine[] | null]>} null for a log that cannot be read
	 */
	fetch() {
		return Promise.all([ L.resolveDefault(api.history(0, VERDICTS), null), api.log(LINES) ]);
	},

	render(/** @type {[Smtprelay.HistoryPage | null, Smtprelay.LogLine[] | null]} */ data) {
		const filter = { text: '', outcome: '', client: '' };
		const list = E('div', { 'id': 'smtprelay-log' });
		const system = E('div', { 'id': 'smtprelay-syslog' });
		const words = E('input', { 'type': 'text', 'class': 'cbi-input-text', 'id': 'smtprelay-filter', 'placeholder': _('search text') });
		const outcome = E('select', { 'class': 'cbi-input-select', 'id': 'smtprelay-outcome' },
			[ '', 'delivered', 'failed', 'refused', 'rejected' ].map((value) => E('option', { 'value': value }, [ value ? text.outcome(value) : _('all results') ])));
		const client = E('select', { 'class': 'cbi-input-select', 'id': 'smtprelay-client' }, [ E('option', { 'value': '' }, [ _('all devices') ]) ]);
		let shown = STEP;
		let [ history, lines ] = data;

		const show = () => {
			const entries = logfilter.entries(history ? history.entries : [], filter);

			widgets.replace(list, [ this.table(history, entries.slice(0, shown)) ].concat((entries.length > shown) ? [
				E('button', {
					'class': 'btn cbi-button',
					'click': ui.createHandlerFn(this, () => {
						shown += STEP;
						show();
					})
				}, [ _('Show more') ])
			] : []));
			widgets.replace(system, this.systemLog(lines, filter.text));

			for (const name of logfilter.clients(history ? history.entries : []))
				if (!Array.from(client.options).some((option) => option.value == name))
					client.appendChild(E('option', { 'value': name }, [ text.plain(name, 60) ]));
		};
		const changed = () => {
			filter.text = words.value;
			filter.outcome = outcome.value;
			filter.client = client.value;
			show();
		};

		words.addEventListener('input', changed);
		outcome.addEventListener('change', changed);
		client.addEventListener('change', changed);
		show();

		poll.add(() => this.fetch().then((fresh) => {
			[ history, lines ] = fresh;
			show();
		}), EVERY);

		return E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('Mail log') ]),
			E('div', { 'class': 'cbi-map-descr' }, [ _('Results of the most recent messages, and refused clients.') ]),
			E('div', { 'style': 'display:flex;flex-wrap:wrap;gap:.5em;margin:.5em 0' }, [ words, outcome, client ]),
			list,
			system
		]);
	},

	/**
	 * The log entries.
	 *
	 * @param {Smtprelay.HistoryPage | null} history all entries; null if the service is not running
	 * @param {Smtprelay.Verdict[]} entries the entries to show
	 * @returns {HTMLElement} a table
	 */
	table(history, entries) {
		const levels = /** @type {Record<string, Smtprelay.Level>} */ ({ delivered: 'good', failed: 'bad', refused: 'warning', rejected: 'warning' });
		const rows = entries.map((entry) => [
			[ text.time(entry.time) ],
			[
				widgets.badge({ level: levels[entry.outcome] || 'neutral', label: text.outcome(entry.outcome), title: '' }),
				(entry.times > 1) ? _('%d times').format(entry.times) : ''
			],
			[ E('div', [ text.plain(entry.from || '\u2013', 80) ]), entry.to ? E('div', [ `\u2192 ${text.plain(entry.to, 120)}` ]) : '' ],
			[ text.plain(entry.client || '\u2013', 60) ],
			[
				E('div', [ text.plain(entry.text, 400) ]),
				(entry.outcome == 'delivered') ? E('div', [
					_('%s, %s, after %s').format(text.plain(entry.account, 60), text.protection(entry.tls, entry.verified), text.duration(entry.delay))
				]) : ''
			]
		]);

		return widgets.table([ _('Time'), _('Result'), _('From, to'), _('Device'), _('Details') ], rows, history ? _('No matching entries.') : _('The service is not running.'), [ 7, 8, 15, 11, 8 ]);
	},

	/**
	 * The daemon's lines of the system log.
	 *
	 * @param {Smtprelay.LogLine[] | null} lines all lines; null if this user is not allowed to read them
	 * @param {string} words text that they must contain
	 * @returns {(Node | string)[]} a section of the page, or nothing
	 */
	systemLog(lines, words) {
		if (!lines)
			return [];

		const ours = logfilter.lines(lines, words);

		return [ widgets.section(_('System Log'), [
			ours.length
				? E('pre', { 'style': 'max-height:30em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere' }, [
					ours.map((line) => `${text.time(Math.floor(line.time / 1000))} ${text.plain(line.msg, 1100)}`).join('\n')
				])
				: E('em', [ _('No matching entries.') ])
		]) ];
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
