// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require poll';
'require ui';
'require smtprelay.api as api';
'require smtprelay.sentences as sentences';
'require smtprelay.service as service';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/** Refresh interval of the list, in seconds. */
const EVERY = 5;
/** Number of messages per page. */
const PAGE = 25;

return view.extend({
	/** Number of messages before the current page. */
	offset: 0,

	load() {
		return this.fetch();
	},

	/**
	 * Requests the current page.
	 *
	 * @returns {Promise<Smtprelay.QueuePage | null>} null if the service is not running
	 */
	fetch() {
		return api.queue(this.offset, PAGE).catch((error) => {
			api.lastError = String(error.message || error);

			return null;
		});
	},

	render(/** @type {Smtprelay.QueuePage | null} */ page) {
		this.writable = !!L.hasViewPermission();
		this.list = E('div', { 'id': 'smtprelay-queue' });
		this.buttons = E('div', { 'class': 'cbi-page-actions smtprelay-row' });
		this.absent = E('div');
		poll.add(() => this.refresh(), EVERY);

		return this.show(page).then(() => E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('Queue') ]),
			E('div', { 'class': 'cbi-map-descr' }, [ _('Messages that were accepted but not delivered yet, oldest first.') ]),
			this.absent,
			this.list,
			this.buttons
		]));
	},

	/**
	 * Requests the page again and shows it.
	 *
	 * @returns {Promise<void>} resolves when it is shown
	 */
	refresh() {
		return this.fetch().then((page) => {
			// The last page may have become empty.
			if (page && !page.messages.length && this.offset > 0) {
				this.offset = Math.max(0, this.offset - PAGE);

				return this.refresh();
			}

			return this.show(page);
		});
	},

	/**
	 * Shows a page.
	 *
	 * @param {Smtprelay.QueuePage | null} page the page
	 */
	async show(page) {
		const messages = page ? page.messages : [];
		const rows = messages.map((message) => [
			[ E('div', [ this.arrival(message) ]), E('code', [ text.plain(message.id, 40) ]) ],
			this.envelope(message),
			this.reason(message),
			[ E('div', { 'class': 'smtprelay-actions' }, this.actions(message)) ]
		]);

		if (!this.list || !this.buttons)
			return;

		widgets.replace(this.absent, page ? [] : await service.notice(() => this.refresh()));
		this.list.classList.toggle('hidden', !page);

		widgets.replace(this.list, [ widgets.table([ _('Received'), _('Message'), _('Status'), '' ], rows, _('The queue is empty.'), [ 8, 12, 8, 8 ]) ]);
		const buttons = this.pageButtons(page);

		widgets.replace(this.buttons, buttons);
		this.buttons.classList.toggle('hidden', !buttons.length);
	},

	/**
	 * When a message was received.
	 *
	 * @param {Smtprelay.Message} message the message
	 * @returns {string} its age in words
	 */
	arrival(message) {
		return (message.age == null) ? _('clock not set') : _('%s ago').format(text.duration(message.age));
	},

	/**
	 * Subject, sender, recipients and size.
	 *
	 * @param {Smtprelay.Message} message the message
	 * @returns {(Node | string)[]} lines
	 */
	envelope(message) {
		if (message.error)
			return [ text.size(message.size) ];

		const recipients = message.recipients || [];
		const words = /** @type {Record<string, string>} */ ({ waiting: _('queued'), delivered: _('delivered'), failed: _('failed') });
		const from = message.notice ? _('notification from the relay') : (message.from || _('no sender'));

		return [
			widgets.subject(message.subject),
			E('div', [ `${text.plain(from, 80)}, ${text.size(message.size)}` ]),
			message.client ? E('div', [ _('device %s').format(text.plain(message.device ? `${message.device} (${message.client})` : message.client, 90)) ]) : ''
		].concat(recipients.slice(0, 5).map((recipient) =>
			E('div', [ `\u2192 ${text.plain(recipient.address, 80)} (${words[recipient.state] || text.plain(recipient.state)})` ]))
		).concat((recipients.length > 5) ? [ E('div', [ _('and %d more').format(recipients.length - 5) ]) ] : []);
	},

	/**
	 * Why it is still in the queue.
	 *
	 * @param {Smtprelay.Message} message the message
	 * @returns {(Node | string)[]} lines
	 */
	reason(message) {
		if (message.error)
			return [ sentences.say(message.error) ];

		/** @type {(Node | string)[]} */
		const lines = [ E('div', [ message.held && !message.doubts ? _('The message is held until it is released.') : sentences.say(message.why) ]) ];

		if (message.standing == 'sending')
			lines.push(E('div', [ _('The message is being sent.') ]));
		else if (message.standing == 'later' && message.next != null)
			lines.push(E('div', [ _('Next attempt in %s.').format(text.duration(message.next)) ]));

		if (message.escalation?.step)
			lines.push(E('div', [ _('Next step of the escalation: %s in %s.').format(text.plain(message.escalation.step.account, 80), text.duration(message.escalation.step.next)) ]));

		if (message.attempts)
			lines.push(E('div', [ N_(message.attempts, '%d attempt so far.', '%d attempts so far.').format(message.attempts) ]));

		return lines;
	},

	/**
	 * The actions available for a message.
	 *
	 * @param {Smtprelay.Message} message the message
	 * @returns {HTMLElement[]} buttons
	 */
	actions(message) {
		const button = (/** @type {string} */ what, /** @type {string} */ style, /** @type {string} */ title, /** @type {() => unknown} */ action) =>
			E('button', { 'class': `btn cbi-button ${style}`, 'data-change': what, 'data-message': message.id, 'click': ui.createHandlerFn(this, action) }, [ title ]);
		const buttons = message.error ? [] : [ button('show', 'cbi-button-neutral', _('Show'), () => this.open(message.id)) ];

		if (!this.writable)
			return buttons;

		// One that is not held may wait for a release for some of its recipients.
		if (message.held || (message.doubts ?? 0) >= 3)
			buttons.push(button('release', 'cbi-button-neutral', _('Release'), () => this.change('release', message.id)));

		if (!message.held)
			buttons.push(button('retry', 'cbi-button-neutral', _('Retry'), () => this.change('retry', message.id)), button('hold', 'cbi-button-neutral', _('Hold'), () => this.change('hold', message.id)));

		buttons.push(button('delete', 'cbi-button-remove', _('Delete'), () => this.askToDelete(message)));

		return buttons;
	},

	/**
	 * Buttons for the whole list.
	 *
	 * @param {Smtprelay.QueuePage | null} page the page
	 * @returns {(Node | string)[]} buttons
	 */
	pageButtons(page) {
		const total = page ? page.total : 0;
		/** @type {(Node | string)[]} */
		const buttons = [];
		const turn = (/** @type {string} */ title, /** @type {number} */ offset) => E('button', {
			'class': 'btn cbi-button',
			'click': ui.createHandlerFn(this, () => {
				this.offset = offset;

				return this.refresh();
			})
		}, [ title ]);

		if (this.offset > 0)
			buttons.push(turn(`\u2039 ${_('Older')}`, Math.max(0, this.offset - PAGE)));

		if (total > PAGE)
			buttons.push(_('%d to %d of %d').format(this.offset + 1, Math.min(total, this.offset + PAGE), total));

		if (this.offset + PAGE < total)
			buttons.push(turn(`${_('Newer')} \u203a`, this.offset + PAGE));

		if (this.writable && total > 0) {
			buttons.push(E('button', {
				'class': 'btn cbi-button cbi-button-positive', 'data-change': 'retry', 'data-message': 'all',
				'click': ui.createHandlerFn(this, () => this.change('retry', 'all'))
			}, [ _('Retry all') ]), E('button', {
				'class': 'btn cbi-button cbi-button-remove', 'id': 'smtprelay-delete-all',
				'click': ui.createHandlerFn(this, () => this.askToDelete(null, total))
			}, [ _('Delete all') ]));
		}

		return buttons;
	},

	/**
	 * Changes the state of a message.
	 *
	 * @param {'retry' | 'hold' | 'release' | 'delete'} what the change
	 * @param {string} id ID of the message, or 'all'
	 * @returns {Promise<void>} resolves when the list has been refreshed
	 */
	change(what, id) {
		return api.change(what, id).catch((error) => {
			ui.addNotification(null, E('p', [ sentences.say(error.message) ]), 'warning');
		}).then(() => this.refresh());
	},

	/**
	 * Deletes a message, or all of them, after confirmation.
	 *
	 * @param {Smtprelay.Message | null} message the message; null for all
	 * @param {number} [total] number of all messages
	 */
	askToDelete(message, total) {
		ui.showModal(_('Delete'), [
			E('p', [ message
				? _('The message from %s will be deleted permanently. No notification is sent.').format(text.plain(message.from || message.id, 80))
				: N_(total || 0, '%d message will be deleted permanently. No notification is sent.', '%d messages will be deleted permanently. No notifications are sent.').format(total) ]),
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]),
				' ',
				E('button', {
					'class': 'btn cbi-button cbi-button-negative important', 'id': 'smtprelay-delete',
					'click': ui.createHandlerFn(this, () => this.change('delete', message ? message.id : 'all').then(() => ui.hideModal()))
				}, [ message ? _('Delete') : _('Delete all') ])
			])
		]);
	},

	/**
	 * Shows the header and the history of a message.
	 *
	 * @param {string} id its ID
	 * @returns {Promise<unknown>} resolves when it is shown
	 */
	open(id) {
		return api.message(id).then((message) => {
			ui.showModal(_('Message'), [
				E('p', [ E('code', [ text.plain(message.id, 40) ]) ]),
				E('h5', [ _('History') ]),
				this.history(message),
				E('h5', [ _('Header') ]),
				E('pre', { 'class': 'smtprelay-pre' }, [ text.lines(message.header) ]),
				E('div', { 'class': 'right' }, [ E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ]) ])
			]);
		}).catch((error) => ui.addNotification(null, E('p', [ sentences.say(error.message) ]), 'warning'));
	},

	/**
	 * The history of a message.
	 *
	 * @param {Smtprelay.WholeMessage} message the message
	 * @returns {HTMLElement} a list
	 */
	history(message) {
		const words = /** @type {Record<string, string>} */ ({
			'tried': _('delivery attempted'),
			'held': _('held'),
			'released': _('released'),
			'time of arrival corrected': _('time of arrival corrected'),
			'delay to be reported in a summary': _('delay to be reported in a summary'),
			'sender notified of the delay': _('sender notified of the delay'),
			'failure reported': _('failure reported'),
			'sent, outcome unknown': _('sent, outcome unknown'),
			'reported that it is held': _('reported that it is held'),
			'sent by itself': _('sent separately'),
			'escalated': _('escalated'),
			'step sent, outcome unknown': _('sent as a step of the escalation, outcome unknown'),
			'step taken': _('step of the escalation: accepted'),
			'step failed': _('step of the escalation: failed')
		});
		const recipients = message.recipients || [];
		const steps = (message.history || []).map((note) => E('li', [
			`${text.time(note.at || note.to)} ${words[note.what] || text.plain(note.what)}${note.account ? `, ${text.plain(note.account, 80)}: ${sentences.say(note.reply)}` : ''}`
		].concat((note.results || []).map((result) =>
			/** @type {any} */ (E('div', [ `${text.plain(recipients[result.recipient]?.address ?? result.recipient, 80)}: ${sentences.say(result.reply)}` ]))))));

		return steps.length ? E('ul', steps) : E('p', [ _('No delivery attempt yet.') ]);
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
