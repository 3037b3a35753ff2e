// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.check as check';

/*
 * The provider presets as the wizard needs them: which preset an address belongs to, which fields are required, and
 * which options are written to the settings. This module does not access the page.
 */

/** Presets that are listed first. */
const COMMON = [ 'gmail', 'outlook', 'm365', 'gmx', 'webde', 'icloud', 'yahoo', 'tonline' ];

/**
 * Whether `rest` may follow the name of a provider that uses it under every top-level domain.
 *
 * @param {string} rest such as 'de' or 'co.uk'
 * @returns {boolean} true if it is
 */
function isTop(rest) {
	const labels = rest.split('.');

	return (labels.length == 1) ? rest.length > 1 : labels.length == 2 && [ 'co', 'com', 'net', 'org' ].includes(labels[0]) && labels[1].length == 2;
}

return baseclass.extend({
	/**
	 * The display name of a provider.
	 *
	 * @param {Smtprelay.Provider} provider the preset
	 * @returns {string} its name
	 */
	title(provider) {
		return provider.name || provider.id;
	},

	/**
	 * The presets in display order: the common ones first, then by name.
	 *
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @returns {Smtprelay.Provider[]} in display order
	 */
	sorted(providers) {
		const rank = (/** @type {Smtprelay.Provider} */ provider) => {
			const place = COMMON.indexOf(provider.id);

			return (place < 0) ? COMMON.length : place;
		};

		return providers.slice().sort((a, b) => rank(a) - rank(b) || this.title(a).localeCompare(this.title(b)));
	},

	/**
	 * The preset for a mailbox, determined in the same way as in the daemon's providers.rs.
	 *
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {string} address the mailbox
	 * @returns {Smtprelay.Provider | null} null if its domain is unknown
	 */
	ofAddress(providers, address) {
		const domain = address.slice(address.lastIndexOf('@') + 1).toLowerCase();

		if (!address.includes('@') || !domain)
			return null;

		const names = (/** @type {Smtprelay.Provider} */ provider) => (provider.domains || '').split(' ').filter((name) => name);
		const exact = providers.find((provider) => names(provider).includes(domain));
		const general = (/** @type {Smtprelay.Provider} */ provider) => names(provider).some((name) =>
			name.endsWith('*') && domain.startsWith(name.slice(0, -1)) && isTop(domain.slice(name.length - 1)));

		return exact || providers.find(general) || null;
	},

	/**
	 * The OAuth issuer that an account at this provider can sign in with; '' if there is none.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @returns {string} google, microsoft or ''
	 */
	issuer(provider) {
		return provider?.issuer || '';
	},

	/**
	 * The fields required for an account at this provider, in addition to its address.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset; null for a custom server
	 * @param {boolean} signIn whether the account signs in through the browser
	 * @returns {Smtprelay.Needs} the fields
	 */
	needs(provider, signIn) {
		const user = provider ? (provider.user || 'address') : 'address';

		return {
			host: provider == null,
			region: !!provider && provider.host.includes('{region}'),
			// A separate username: assigned by the provider, or possibly required by a custom server.
			username: user == 'given' || provider == null,
			// The address is not the username, only the sender.
			sender: user != 'address' && user != 'localpart',
			password: !signIn && user != 'none',
			client: signIn,
			secret: signIn && this.issuer(provider) == 'google'
		};
	},

	/**
	 * What the provider calls the password.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @returns {string} title of the field
	 */
	passwordTitle(provider) {
		switch (provider ? provider.secret : '') {
		case 'app':
			return _('App password');
		case 'code':
			return _('Authorization code');
		case 'token':
			return _('Key or token');
		default:
			return _('Password');
		}
	},

	/**
	 * The name for the section of a new account or channel.
	 *
	 * @param {{id: string} | null} provider the preset
	 * @param {string[]} taken names of sections that exist
	 * @returns {string} a name that is not in use
	 */
	sectionName(provider, taken) {
		const base = (provider ? provider.id : 'provider').replace(/[^A-Za-z0-9_]/g, '_');
		let name = base;

		for (let n = 2; taken.includes(name); n++)
			name = `${base}_${n}`;

		return name;
	},

	/**
	 * Checks the answers.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {Smtprelay.Answers} answers the values entered
	 * @returns {string} an error message; '' if all answers are valid
	 */
	problem(provider, answers) {
		const needs = this.needs(provider, answers.signIn);
		const server = needs.host && check.server(answers.host);

		if (needs.host && !answers.host)
			return _('Enter the hostname of the mail server, for example smtp.example.com.');
		if (typeof(server) == 'string')
			return server;
		if (needs.host && answers.port && !check.isPort(answers.port))
			return _('Enter a port from 1 to 65535, or leave the field empty.');
		if (!check.isAddress(answers.address))
			return needs.sender ? _('Enter the sender address that the provider allows.') : _('Enter your email address, for example me@example.com.');
		if (needs.region && !/^[a-z0-9-]+$/.test(answers.region))
			return _('Enter the region of the account, for example eu-central-1.');
		if (provider != null && needs.username && !answers.username)
			return _('Enter the username shown by the provider.');
		if (needs.client && !answers.clientId)
			return _('Enter the client ID.');
		if (needs.secret && !answers.clientSecret)
			return _('Enter the client secret.');
		if (needs.password && !answers.password)
			return _('Enter the password.');
		if (answers.to && !check.isAddress(answers.to))
			return _('The recipient of the test message is not a valid email address.');

		return '';
	},

	/**
	 * The options of the account. The password is not included: it is stored by the service.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {Smtprelay.Answers} answers the values entered
	 * @returns {Record<string, string>} options of the section
	 */
	options(provider, answers) {
		const needs = this.needs(provider, answers.signIn);
		/** @type {Record<string, string>} */
		const options = { provider: provider ? provider.id : 'custom' };

		if (provider == null) {
			options.host = answers.host;

			if (answers.tls != 'implicit')
				options.tls = answers.tls;

			if (answers.port)
				options.port = answers.port;
		}

		if (needs.region)
			options.region = answers.region;

		if (provider && provider.user == 'none') {
			options.from = answers.address;
		}
		else {
			// Where the username is a fixed word or the key itself, an address given instead is the sender.
			options.username = (needs.username && answers.username) || answers.address;

			if (options.username != answers.address)
				options.from = answers.address;
		}

		if (answers.signIn) {
			options.auth = 'xoauth2';
			options.oauth = this.issuer(provider);
			options.client_id = answers.clientId;

			if (needs.secret)
				options.client_secret = answers.clientSecret;
		}

		return options;
	},

	/**
	 * Whether a section is a configured account, as opposed to the empty one in the default configuration.
	 *
	 * @param {Record<string, unknown>} section the section
	 * @returns {boolean} true if it is
	 */
	isFilledIn(section) {
		return !!(section.username || section.host || section.from || section.password);
	}
});
