// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require poll';
'require ui';
'require smtprelay.api as api';
'require smtprelay.logfilter as logfilter';
'require smtprelay.sentences as sentences';
'require smtprelay.service as service';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/** Refresh interval of the page, in seconds. */
const EVERY = 10;
/** Number of entries shown initially, and added each time. */
const STEP = 50;

return view.extend({
	/** What is known of the log: only what is new is fetched. */
	log: /** @type {Smtprelay.Log} */ ({ cursor: '', entries: [], lines: [] }),

	load() {
		return this.fetch();
	},

	/**
	 * Brings the log up to date.
	 *
	 * @returns {Promise<HTMLElement[]>} what to say if the daemon does not answer
	 */
	fetch() {
		return api.readLog(this.log).then(() => []).catch((error) => {
			api.lastError = String(error.message || error);

			return service.notice(() => this.fetch());
		});
	},

	render(/** @type {HTMLElement[]} */ absent) {
		const filter = { text: '', outcome: '', client: '' };
		const list = E('div', { 'id': 'smtprelay-log' });
		const system = E('div', { 'id': 'smtprelay-syslog' });
		const notice = E('div', absent);
		const words = E('input', { 'type': 'text', 'class': 'cbi-input-text', 'id': 'smtprelay-filter', 'placeholder': _('search text') });
		const outcome = E('select', { 'class': 'cbi-input-select', 'id': 'smtprelay-outcome' },
			[ '', 'delivered', 'failed', 'refused', 'rejected', 'silent', 'heard' ].map((value) => E('option', { 'value': value }, [ value ? text.outcome(value) : _('all results') ])));
		const client = E('select', { 'class': 'cbi-input-select', 'id': 'smtprelay-client' }, [ E('option', { 'value': '' }, [ _('all devices') ]) ]);
		let shown = STEP;

		const show = () => {
			const all = this.log.entries.slice().reverse();
			const entries = logfilter.entries(all, filter);

			widgets.replace(list, [ this.table(entries.slice(0, shown)) ].concat((entries.length > shown) ? [
				E('button', {
					'class': 'btn cbi-button',
					'click': ui.createHandlerFn(this, () => {
						shown += STEP;
						show();
					})
				}, [ _('Show more') ])
			] : []));
			widgets.replace(system, this.systemLog(this.log.lines, filter.text));

			for (const [ address, name ] of logfilter.clients(all))
				if (!Array.from(client.options).some((option) => option.value == address))
					client.appendChild(E('option', { 'value': address }, [ text.plain(name, 60) ]));
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
			widgets.replace(notice, fresh);
			show();
		}), EVERY);

		return E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('Mail log') ]),
			E('div', { 'class': 'cbi-map-descr' }, [ _('Results of the most recent messages, and refused clients.') ]),
			notice,
			E('div', { 'class': 'smtprelay-row' }, [ words, outcome, client ]),
			list,
			system
		]);
	},

	/**
	 * The log entries.
	 *
	 * @param {Smtprelay.Verdict[]} entries the entries to show
	 * @returns {HTMLElement} a table
	 */
	table(entries) {
		const levels = /** @type {Record<string, Smtprelay.Level>} */ ({ delivered: 'good', failed: 'bad', refused: 'warning', rejected: 'warning', silent: 'warning', heard: 'good' });
		const rows = entries.map((entry) => [
			[ text.time(entry.time) ],
			[
				widgets.badge({ level: levels[entry.outcome] || 'neutral', label: text.outcome(entry.outcome), title: '' }),
				(entry.times > 1) ? _('%d times').format(entry.times) : ''
			],
			[ widgets.subject(entry.subject), E('div', [ text.plain(entry.from || '\u2013', 80) ]), entry.to ? E('div', [ `\u2192 ${text.plain(entry.to, 120)}` ]) : '' ],
			[ E('div', [ text.plain(entry.device || entry.client || '\u2013', 60) ]), entry.device ? E('div', [ text.plain(entry.client, 60) ]) : '' ],
			[
				E('div', [ sentences.say(entry.text) ]),
				(entry.outcome == 'delivered') ? E('div', [
					_('%s, %s, after %s').format(text.plain(entry.account, 60), text.protection(entry.tls, entry.verified), text.duration(entry.delay))
				]) : ''
			]
		]);

		return widgets.table([ _('Time'), _('Result'), _('Message'), _('Device'), _('Details') ], rows, _('No matching entries.'), [ 7, 8, 15, 11, 8 ]);
	},

	/**
	 * The daemon's lines of the system log.
	 *
	 * @param {Smtprelay.LogLine[]} lines all lines
	 * @param {string} words text that they must contain
	 * @returns {(Node | string)[]} a section of the page, or nothing
	 */
	systemLog(lines, words) {
		const ours = logfilter.lines(lines, words);

		return [ widgets.section(_('System Log'), [
			ours.length
				? E('pre', { 'class': 'smtprelay-pre' }, [
					ours.map((line) => `${text.time(line.time)} ${text.plain(line.text, 1100)}`).join('\n')
				])
				: E('em', [ _('No matching entries.') ])
		]) ];
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
