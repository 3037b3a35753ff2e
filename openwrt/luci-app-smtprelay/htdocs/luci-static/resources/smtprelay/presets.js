'use strict';
'require baseclass';

/*
 * The presets of providers as the wizard needs them: which one an address belongs to, what has to be typed in, and what
 * is written into the settings. No part of the page is touched here.
 */

/** Presets that are offered first. */
const COMMON = [ 'gmail', 'outlook', 'm365', 'gmx', 'webde', 'icloud', 'yahoo', 'tonline' ];

/** Whom a sign-in goes to, by preset. */
const ISSUERS = /** @type {Record<string, string>} */ ({
	gmail: 'google', gworkspace: 'google', outlook: 'microsoft', m365: 'microsoft'
});

/**
 * Whether `rest` is what may stand behind the name of a provider that has it under every top-level domain.
 *
 * @param {string} rest such as 'de' or 'co.uk'
 * @returns {boolean} whether
 */
function isTop(rest) {
	const labels = rest.split('.');

	return (labels.length == 1) ? rest.length > 1 : labels.length == 2 && [ 'co', 'com', 'net', 'org' ].includes(labels[0]) && labels[1].length == 2;
}

return baseclass.extend({
	/**
	 * The name of a provider as people know it.
	 *
	 * @param {Smtprelay.Provider} provider the preset
	 * @returns {string} its name
	 */
	title(provider) {
		return provider.name || provider.id;
	},

	/**
	 * The presets for a list to choose from: the common ones first, then by name.
	 *
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @returns {Smtprelay.Provider[]} in the order of the list
	 */
	sorted(providers) {
		const rank = (/** @type {Smtprelay.Provider} */ provider) => {
			const place = COMMON.indexOf(provider.id);

			return (place < 0) ? COMMON.length : place;
		};

		return providers.slice().sort((a, b) => rank(a) - rank(b) || this.title(a).localeCompare(this.title(b)));
	},

	/**
	 * The preset of a mailbox, as the daemon's providers.rs finds it.
	 *
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {string} address the mailbox
	 * @returns {Smtprelay.Provider | null} null if its domain is not known
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
	 * Whether an account at this provider signs in instead of having a password; '' if it can't.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @returns {string} google, microsoft or ''
	 */
	issuer(provider) {
		return (provider && ISSUERS[provider.id]) || '';
	},

	/**
	 * What has to be asked for an account at this provider, beside its address.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset; null for a server of one's own
	 * @param {boolean} signIn whether the account signs in with the browser
	 * @returns {Smtprelay.Needs} the fields
	 */
	needs(provider, signIn) {
		const user = provider ? (provider.user || 'address') : 'address';

		return {
			host: provider == null,
			region: !!provider && provider.host.includes('{region}'),
			// A login of its own: the provider gives one, or a server of one's own may want one.
			username: user == 'given' || provider == null,
			// The address is no login: it only is the sender.
			sender: user != 'address' && user != 'localpart',
			password: !signIn && user != 'none',
			client: signIn,
			secret: signIn && this.issuer(provider) == 'google'
		};
	},

	/**
	 * What the password is called there.
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
	 * The name of the section that an account gets.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {string[]} taken names of sections that exist
	 * @returns {string} a name that none of them has
	 */
	sectionName(provider, taken) {
		const base = (provider ? provider.id : 'provider').replace(/[^A-Za-z0-9_]/g, '_');
		let name = base;

		for (let n = 2; taken.includes(name); n++)
			name = `${base}_${n}`;

		return name;
	},

	/**
	 * What is wrong with the answers.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {Smtprelay.Answers} answers what was typed in
	 * @param {(text: string) => boolean} isAddress tells mail addresses
	 * @returns {string} a sentence; '' if all is well
	 */
	problem(provider, answers, isAddress) {
		const needs = this.needs(provider, answers.signIn);

		if (needs.host && !/^[A-Za-z0-9._:-]+$/.test(answers.host))
			return _('Enter the name of the mail server, such as smtp.example.com.');
		if (!isAddress(answers.address))
			return needs.sender ? _('Enter the sender address that the provider allows.') : _('Enter your mail address, such as me@example.com.');
		if (needs.region && !/^[a-z0-9-]+$/.test(answers.region))
			return _('Enter the region of the account, such as eu-central-1.');
		if (provider != null && needs.username && !answers.username)
			return _('Enter the user name that the provider shows.');
		if (needs.client && !answers.clientId)
			return _('Enter the client ID.');
		if (needs.secret && !answers.clientSecret)
			return _('Enter the client secret.');
		if (needs.password && !answers.password)
			return _('Enter the password.');
		if (answers.to && !isAddress(answers.to))
			return _('The recipient of the test mail is not a mail address.');

		return '';
	},

	/**
	 * The options of the account. The password is not among them: it is stored by the service.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {Smtprelay.Answers} answers what was typed in
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
			// Where the login is a fixed word or the key itself, an address in its place is the sender.
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
	 * Whether a section is an account that somebody filled in, as opposed to how the file is shipped.
	 *
	 * @param {Record<string, unknown>} section the section
	 * @returns {boolean} whether
	 */
	isFilledIn(section) {
		return !!(section.username || section.host || section.from || section.password);
	}
});
