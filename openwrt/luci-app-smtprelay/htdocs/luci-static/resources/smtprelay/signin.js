// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require ui';
'require smtprelay.api as api';
'require smtprelay.sentences as sentences';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/*
 * Signs an account in at Microsoft, Google or another authorization server. The user either enters a code on the
 * provider's page, or copies the address of the final page of the sign-in here. No secrets pass through this page.
 */

/** Polling interval for the state of the sign-in, in milliseconds. */
const EVERY = 3000;

return baseclass.extend({
	/**
	 * Guides the user through a sign-in within `place`.
	 *
	 * @param {string} account name of the account
	 * @param {HTMLElement} place element that shows it
	 * @returns {Promise<void>} resolves when the account is signed in; rejects with the reason if it fails
	 */
	async run(account, place) {
		const login = await api.loginStart(account);
		const until = Date.now() + login.expires * 1000;
		const state = E('div', { 'class': 'spinning' }, [ _('Waiting for the sign-in…') ]);
		/** @type {string} */
		let copied = '';

		widgets.replace(place, login.code
			? [
				E('p', [ _('Open this page, sign in and enter the code:') ]),
				E('p', [ widgets.link(login.url, login.url) ]),
				E('p', [ E('strong', { 'id': 'smtprelay-code', 'class': 'smtprelay-code' }, [ text.plain(login.code, 40) ]) ]),
				state
			]
			: [
				E('p', [ widgets.link(login.url, _('Open the provider\'s page and sign in.')) ]),
				E('p', [ _('Afterwards the browser tries to open a page that cannot be displayed. This is expected: copy the complete address from the address bar and paste it here.') ]),
				E('p', [ E('input', {
					'type': 'text', 'class': 'cbi-input-text smtprelay-wide', 'id': 'smtprelay-copied', 'placeholder': 'http://127.0.0.1:47110/?…',
					'input': (/** @type {Event} */ ev) => { copied = /** @type {HTMLInputElement} */ (ev.target).value.trim(); }
				}) ]),
				state
			]);

		while (Date.now() < until) {
			await api.pause(EVERY);

			if (!place.isConnected)
				throw new Error(_('The page was closed.'));

			const address = copied;
			const answer = await api.loginPoll(login.job, address || undefined);

			copied = (copied == address) ? '' : copied;

			if (answer.state == 'done')
				return widgets.replace(place, [ _('Signed in.') ]);

			if (answer.state == 'failed')
				throw new Error(answer.text);

			if (address)
				state.textContent = sentences.say(answer.text);
		}

		throw new Error(_('The sign-in timed out.'));
	},

	/**
	 * The same in a modal dialog.
	 *
	 * @param {string} account name of the account
	 * @returns {Promise<void>} resolves when the dialog is closed or shows the result
	 */
	open(account) {
		const place = E('div', [ _('Contacting the authorization server…') ]);
		const close = E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ]);

		ui.showModal(_('Sign in'), [ place, E('div', { 'class': 'right' }, [ close ]) ]);

		return this.run(account, place).catch((error) => {
			widgets.replace(place, [ widgets.box({ level: 'bad', text: sentences.say(error.message), remedy: '' }) ]);
		});
	}
});
