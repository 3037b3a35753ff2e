'use strict';
'require baseclass';
'require ui';
'require smtprelay.api as api';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/*
 * Signs an account in at Microsoft, Google or another login server. Either the owner types a code into the provider's
 * page, or copies the address of the page where the sign-in ends to here. Nothing that is secret passes through this page.
 */

/** How often is asked whether somebody has signed in, in milliseconds. */
const EVERY = 3000;

return baseclass.extend({
	/**
	 * Leads through a sign-in within `place`.
	 *
	 * @param {string} account name of the account
	 * @param {HTMLElement} place where it is shown
	 * @returns {Promise<void>} resolves when the account is signed in; rejects with the reason why not
	 */
	async run(account, place) {
		const login = await api.loginStart(account);
		const until = Date.now() + login.expires * 1000;
		const state = E('div', { 'class': 'spinning', 'style': 'margin-top:.5em' }, [ _('Waiting for somebody to sign in …') ]);
		/** @type {string} */
		let copied = '';

		widgets.replace(place, login.code
			? [
				E('p', [ _('Open this page, sign in, and type in the code:') ]),
				E('p', [ widgets.link(login.url, login.url) ]),
				E('p', [ E('strong', { 'id': 'smtprelay-code', 'style': 'font-size:150%;letter-spacing:.1em' }, [ text.plain(login.code, 40) ]) ]),
				state
			]
			: [
				E('p', [ widgets.link(login.url, _('Open the page of the provider and sign in.')) ]),
				E('p', [ _('In the end the browser shows a page that it can\'t open. That is right: copy its whole address from the address bar to here.') ]),
				E('p', [ E('input', {
					'type': 'text', 'class': 'cbi-input-text', 'id': 'smtprelay-copied', 'style': 'width:100%', 'placeholder': 'http://127.0.0.1:47110/?…',
					'change': (/** @type {Event} */ ev) => { copied = /** @type {HTMLInputElement} */ (ev.target).value.trim(); }
				}) ]),
				state
			]);

		while (Date.now() < until) {
			await api.pause(EVERY);

			if (!place.isConnected)
				throw new Error(_('The page was left.'));

			const address = copied;
			const answer = await api.loginPoll(login.job, address || undefined);

			copied = (copied == address) ? '' : copied;

			if (answer.state == 'done')
				return widgets.replace(place, [ _('Signed in.') ]);

			if (answer.state == 'failed')
				throw new Error(text.plain(answer.text, 400));

			if (address)
				state.textContent = text.plain(answer.text, 400);
		}

		throw new Error(_('Nobody has signed in in time.'));
	},

	/**
	 * The same in a window of its own.
	 *
	 * @param {string} account name of the account
	 * @returns {Promise<void>} resolves when the window is closed or shows how it ended
	 */
	open(account) {
		const place = E('div', [ _('Asking the login server …') ]);
		const close = E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ]);

		ui.showModal(_('Sign in'), [ place, E('div', { 'class': 'right' }, [ close ]) ]);

		return this.run(account, place).catch((error) => {
			widgets.replace(place, [ widgets.box({ level: 'bad', text: text.plain(error.message, 400), remedy: '' }) ]);
		});
	}
});
