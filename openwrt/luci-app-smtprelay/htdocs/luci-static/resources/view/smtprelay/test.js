// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.certificate as certificate';
'require smtprelay.check as check';
'require smtprelay.sentences as sentences';
'require smtprelay.service as service';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

return view.extend({
	load() {
		return api.status().then(async (status) => {
			if (status && L.hasViewPermission())
				await uci.load('smtprelay');

			return [ status, status ? [] : await service.notice(async () => window.location.reload()) ];
		});
	},

	render(/** @type {[Smtprelay.Status | null, HTMLElement[]]} */ [ status, absent ]) {
		const accounts = status ? status.accounts : [];
		const to = E('input', {
			'type': 'email', 'class': 'cbi-input-text', 'id': 'smtprelay-to', 'placeholder': 'me@example.com', 'autocapitalize': 'none',
			'value': (accounts.length && accounts[0].from) || null
		});
		const account = E('select', { 'class': 'cbi-input-select', 'id': 'smtprelay-account' },
			[ E('option', { 'value': '' }, [ _('automatic') ]) ].concat(accounts.map((known) =>
				E('option', { 'value': known.name }, [ text.plain(known.name) ]))));
		// A channel says itself who gets its messages.
		const isChannel = () => accounts.some((known) => known.name == account.value && known.service != null);
		const recipient = widgets.field(_('Recipient'), to);

		account.addEventListener('change', () => recipient.classList.toggle('hidden', isChannel()));

		const result = E('div', { 'id': 'smtprelay-result' });
		const transcript = E('div', { 'id': 'smtprelay-transcript' });

		if (!L.hasViewPermission())
			return this.page([ widgets.box({ level: 'neutral', text: _('Only administrators can send test messages.'), remedy: '' }) ]);

		if (!status)
			return this.page(absent);

		return this.page([
			E('div', { 'class': 'cbi-section' }, [
				widgets.field(_('Account'), account),
				recipient,
				E('div', { 'class': 'right' }, [
					E('button', {
						'class': 'btn cbi-button cbi-button-positive important', 'id': 'smtprelay-send',
						'click': ui.createHandlerFn(this, () => this.send(to, account, result, transcript, isChannel()))
					}, [ _('Send test message') ])
				])
			]),
			result,
			transcript
		]);
	},

	/**
	 * The page around its content.
	 *
	 * @param {(Node | string)[]} children the content
	 * @returns {HTMLElement} the page
	 */
	page(children) {
		return E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('Test') ]),
			E('div', { 'class': 'cbi-map-descr' }, [ _('Sends a message and shows each step of its delivery to the provider.') ]),
			...children
		]);
	},

	/**
	 * Sends a test message and follows its delivery.
	 *
	 * @param {HTMLInputElement} to its recipient
	 * @param {HTMLSelectElement} account the account
	 * @param {HTMLElement} result element for the steps
	 * @param {HTMLElement} transcript element for the dialogue
	 * @param {boolean} isChannel whether it is a channel, which needs no recipient
	 */
	async send(to, account, result, transcript, isChannel) {
		const recipient = isChannel ? '' : to.value.trim();

		widgets.replace(transcript, []);

		if (!isChannel && !check.isAddress(recipient))
			return widgets.replace(result, [ widgets.box({ level: 'warning', text: _('Enter the recipient of the test message.'), remedy: '' }) ]);

		try {
			const id = await api.test(recipient, account.value);

			await api.follow(id, (job) => {
				/** @type {(Node | string)[]} */
				const parts = [ widgets.chain(job.steps) ];

				if (job.state == 'done')
					parts.push(widgets.box({ level: 'good', text: sentences.say(job.text) || _('The provider has accepted the message.'), remedy: '' }));
				else if (job.state == 'failed')
					parts.push(widgets.box({ level: 'bad', text: sentences.say(job.text), remedy: '' }));

				if (job.certificate && job.state == 'failed' && uci.get('smtprelay', job.account))
					parts.push(certificate.offer(job.certificate, job.account, () => this.send(to, account, result, transcript, isChannel)));

				widgets.replace(result, [ widgets.section(_('Steps'), parts) ]);
				widgets.replace(transcript, (job.transcript || []).length
					? [ widgets.section(_('Transcript'), [ widgets.transcript(job.transcript) ]) ]
					: []);
			}, () => !result.isConnected);
		}
		catch (error) {
			widgets.replace(result, [ widgets.box({ level: 'bad', text: sentences.say(/** @type {Error} */ (error).message), remedy: '' }) ]);
		}
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
