// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.check as check';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/*
 * A mail server whose certificate no known authority has signed: the owner compares the fingerprint and trusts this one
 * certificate, or names the authority by pasting its certificate.
 */

return baseclass.extend({
	/**
	 * The choice, below a test that has failed because of the certificate.
	 *
	 * @param {Smtprelay.Certificate} presented the certificate that the server presented
	 * @param {string} account name of the account
	 * @param {() => unknown} again called when the settings have been changed, to test once more
	 * @returns {HTMLElement} the choice
	 */
	offer(presented, account, again) {
		const pem = E('textarea', { 'class': 'cbi-input-textarea smtprelay-pem', 'id': 'smtprelay-pem', 'placeholder': '-----BEGIN CERTIFICATE-----' });
		const said = E('div');
		const pinned = uci.get('smtprelay', account, 'fingerprint');

		return E('div', { 'class': 'cbi-section', 'id': 'smtprelay-certificate' }, [
			E('h4', [ _('Certificate of the server') ]),
			E('p', [ pinned
				? _('The server presents another certificate than the one that is trusted. Trust it only if you have replaced it yourself.')
				: _('If this is your own mail server, compare the fingerprint with the one on the server. If they are the same, trust this certificate; all others will be rejected from then on.') ]),
			E('p', [
				E('div', [ _('Signed by: %s').format(text.plain(presented.issuer) || '\u2013') ]),
				E('div', [ _('Valid until: %s').format(presented.expires ? text.date(presented.expires) : '\u2013') ]),
				E('div', { 'class': 'smtprelay-fingerprint' }, [ _('SHA-256 fingerprint:'), ' ', E('code', { 'id': 'smtprelay-fingerprint' }, [ text.plain(presented.fingerprint) ]) ])
			]),
			E('p', [ E('button', {
				'class': 'btn cbi-button cbi-button-action', 'id': 'smtprelay-trust',
				'click': ui.createHandlerFn(this, () => this.apply(account, { fingerprint: presented.fingerprint, ca_file: null }).then(again))
			}, [ _('Trust this certificate') ]) ]),
			E('p', [ _('Or paste the certificate of the authority that has signed it (PEM):') ]),
			pem,
			said,
			E('p', [ E('button', {
				'class': 'btn cbi-button cbi-button-neutral', 'id': 'smtprelay-authority',
				'click': ui.createHandlerFn(this, async () => {
					const problem = check.pem(pem.value);

					if (problem !== true)
						return widgets.replace(said, [ widgets.box({ level: 'warning', text: problem, remedy: '' }) ]);

					try {
						await this.apply(account, { ca_file: await api.storeAuthority(account, pem.value), fingerprint: null });
					}
					catch (error) {
						return widgets.replace(said, [ widgets.box({ level: 'bad', text: text.plain(/** @type {Error} */ (error).message, 400), remedy: '' }) ]);
					}

					return again();
				})
			}, [ _('Use this authority') ]) ])
		]);
	},

	/**
	 * Changes options of an account, and makes the service use them.
	 *
	 * @param {string} account name of the account
	 * @param {Record<string, string | null>} changes the options
	 */
	async apply(account, changes) {
		for (const option of Object.keys(changes))
			uci.set('smtprelay', account, option, changes[option]);

		await api.commit();
		await L.resolveDefault(ui.changes.init());
		await api.reload();
	}
});
