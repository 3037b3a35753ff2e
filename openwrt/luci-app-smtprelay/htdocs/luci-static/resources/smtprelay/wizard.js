// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require uci';
'require smtprelay.api as api';
'require smtprelay.presets as presets';
'require smtprelay.setup as setup';
'require smtprelay.signin as signin';
'require smtprelay.sentences as sentences';
'require smtprelay.widgets as widgets';

/*
 * Initial setup up to a delivered test message: an address, an app password, one button. Everything else comes from the
 * provider preset.
 */

/** Entries in the list of providers that are not presets. */
const BY_ADDRESS = '';
const OTHER = 'custom';

return baseclass.extend({
	/**
	 * Writes the account to the settings, together with anything else that it needs to work.
	 *
	 * @param {string} name name of the section; '' for a new one
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @param {Smtprelay.Answers} answers the values entered
	 * @returns {string} name of the section
	 */
	store(name, provider, answers) {
		const options = presets.options(provider, answers);

		setup.prepare(name);

		if (name == '') {
			name = presets.sectionName(provider, uci.sections('smtprelay').map((section) => section['.name']));
			uci.add('smtprelay', 'account', name);
		}

		const before = uci.get('smtprelay', name, 'host') ?? null;

		// Another attempt may be for a different provider.
		for (const option of [ 'provider', 'host', 'port', 'tls', 'region', 'username', 'from', 'auth', 'oauth', 'client_id', 'client_secret' ])
			uci.set('smtprelay', name, option, options[option] ?? null);

		// What was trusted belongs to the server before.
		if (before != (options.host ?? null))
			for (const option of [ 'ca_file', 'fingerprint' ])
				uci.set('smtprelay', name, option, null);

		return name;
	},

	/**
	 * The wizard.
	 *
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {() => Promise<void>} arrived called when a test message was accepted
	 * @param {() => void} finished called when the user leaves the wizard
	 * @param {() => void} [cancelled] called when the user gives up; without it, there is no button for that
	 * @returns {HTMLElement} its section of the page
	 */
	render(providers, arrived, finished, cancelled) {
		const chosen = setup.select('provider', [ [ BY_ADDRESS, _('detect from the address') ] ]
			.concat(presets.sorted(providers).map((provider) => [ provider.id, presets.title(provider) ]))
			.concat([ [ OTHER, _('other mail server') ] ]));
		const fields = {
			host: setup.input('host', { 'placeholder': 'smtp.example.com' }),
			tls: setup.select('tls', [ [ 'implicit', _('implicit TLS') ], [ 'starttls', 'STARTTLS' ] ]),
			port: setup.input('port', { 'placeholder': '465', 'inputmode': 'numeric' }),
			region: setup.input('region', { 'placeholder': 'eu-central-1' }),
			address: setup.input('address', { 'type': 'email', 'placeholder': 'me@example.com', 'autocapitalize': 'none' }),
			username: setup.input('username', { 'autocapitalize': 'none' }),
			signIn: setup.input('sign-in', { 'type': 'checkbox', 'class': 'cbi-input-checkbox' }),
			password: setup.input('password', { 'type': 'password', 'autocomplete': 'new-password' }),
			clientId: setup.input('client-id'),
			clientSecret: setup.input('client-secret', { 'type': 'password', 'autocomplete': 'new-password' }),
			to: setup.input('to', { 'type': 'email', 'autocapitalize': 'none' })
		};
		const hint = E('div', { 'class': 'cbi-value-description', 'id': 'smtprelay-hint' });
		const addressLine = widgets.field(_('Email address'), fields.address);
		const signInTitle = E('span', [ '' ]);
		const passwordLine = widgets.field(_('Password'), fields.password);
		const lines = {
			host: widgets.field(_('Mail server'), fields.host),
			tls: widgets.field(_('Encryption'), fields.tls),
			port: widgets.field(_('Port'), fields.port),
			region: widgets.field(_('Region'), fields.region),
			username: widgets.field(_('Username'), fields.username),
			signIn: widgets.field(_('Sign-in'), E('label', [ fields.signIn, ' ', signInTitle ])),
			client: widgets.field(_('Client ID'), fields.clientId, [ _('ID of your own OAuth client at the provider. The documentation explains how to create one.') ]),
			secret: widgets.field(_('Client secret'), fields.clientSecret)
		};
		// Below the login fields, since it also applies to sign-in.
		const hintLine = widgets.field('', hint);
		const progress = E('div', { 'id': 'smtprelay-progress' });
		/** Section of the account, once it has been written. */
		let name = '';

		const provider = () => {
			if (chosen.value == OTHER)
				return null;

			return (chosen.value == BY_ADDRESS)
				? presets.ofAddress(providers, fields.address.value.trim())
				: providers.find((preset) => preset.id == chosen.value) || null;
		};
		const mustSignIn = () => provider()?.secret == 'oauth2';
		const signsIn = () => presets.issuer(provider()) != '' && (mustSignIn() || fields.signIn.checked);
		// The wizard does not ask for a mail server until an address has been entered.
		const isUndecided = () => chosen.value == BY_ADDRESS && provider() == null && !fields.address.value.includes('@');

		const refresh = () => {
			const preset = provider();
			const needs = presets.needs(preset, signsIn());
			const show = (/** @type {HTMLElement} */ line, /** @type {boolean} */ wanted) => line.classList.toggle('hidden', !wanted);
			const server = needs.host && !isUndecided();

			show(lines.host, server);
			show(lines.tls, server);
			show(lines.port, server);
			show(lines.region, needs.region);
			show(lines.username, needs.username && !isUndecided());
			show(lines.signIn, presets.issuer(preset) != '' && !mustSignIn());
			show(passwordLine, needs.password);
			show(lines.client, needs.client);
			show(lines.secret, needs.secret);
			fields.port.placeholder = (fields.tls.value == 'starttls') ? '587' : '465';
			fields.username.placeholder = preset ? '' : (fields.address.value || 'me@example.com');
			fields.to.placeholder = fields.address.value || 'me@example.com';
			signInTitle.textContent = (presets.issuer(preset) == 'google') ? _('with Google in the browser, instead of an app password') : _('with Microsoft in the browser, instead of a password');
			addressLine.firstElementChild?.replaceChildren(needs.sender && !isUndecided() ? _('Sender address') : _('Email address'));
			passwordLine.firstElementChild?.replaceChildren(presets.passwordTitle(preset));
			// Hints about passwords do not apply to sign-in.
			widgets.replace(hint, signsIn() ? [] : this.hint(preset));
			show(hintLine, hint.firstChild != null);
		};

		const answers = () => ({
			address: fields.address.value.trim(),
			username: fields.username.value.trim(),
			password: fields.password.value,
			host: fields.host.value.trim(),
			port: fields.port.value.trim(),
			tls: fields.tls.value,
			region: fields.region.value.trim(),
			signIn: signsIn(),
			clientId: fields.clientId.value.trim(),
			clientSecret: fields.clientSecret.value.trim(),
			to: fields.to.value.trim() || fields.address.value.trim()
		});

		const submit = async () => {
			const given = answers();
			const problem = presets.problem(provider(), given);

			if (problem)
				return widgets.replace(progress, [ widgets.box({ level: 'warning', text: problem, remedy: '' }) ]);

			try {
				name = this.store(name, provider(), given);
				await this.run(name, given, progress, finished);
				fields.password.value = '';
				fields.clientSecret.value = '';
				await arrived();
			}
			catch (error) {
				setup.failed(error, progress, submit);
			}
		};

		[ chosen, fields.tls, fields.signIn ].forEach((field) => field.addEventListener('change', refresh));
		fields.address.addEventListener('input', refresh);
		refresh();

		return E('div', { 'class': 'cbi-section', 'id': 'smtprelay-wizard' }, [
			E('h3', [ _('Set up an account') ]),
			E('div', { 'class': 'cbi-section-descr' }, [
				_('Your devices send mail through an account at a mail provider. Select the provider, or just enter your email address.')
			]),
			widgets.field(_('Provider'), chosen),
			lines.host, lines.tls, lines.port, lines.region, addressLine, lines.username, lines.signIn,
			passwordLine, lines.client, lines.secret, hintLine,
			widgets.field(_('Send test message to'), fields.to),
			progress,
			setup.buttons(submit, cancelled)
		]);
	},

	/**
	 * How to obtain the password.
	 *
	 * @param {Smtprelay.Provider | null} provider the preset
	 * @returns {(Node | string)[]} one or two sentences
	 */
	hint(provider) {
		if (!provider)
			return [];

		/** @type {(Node | string)[]} */
		const parts = [ `${presets.title(provider)}: ` ];

		if (provider.secret == 'app')
			parts.push(_('an app password is required, a separate password for applications.'), ' ');

		if (provider.help)
			parts.push(sentences.say(provider.help), ' ');

		if (provider.url)
			parts.push(widgets.link(provider.url, _('Get it here.')));

		return (parts.length > 1) ? parts : [];
	},

	/**
	 * Saves and applies the settings, stores the password or signs in, and sends a test message.
	 *
	 * @param {string} name section of the account
	 * @param {Smtprelay.Answers} given the values entered
	 * @param {HTMLElement} place where progress is shown
	 * @param {() => void} finished called when the user leaves the wizard
	 * @returns {Promise<void>} resolves when the test message was accepted
	 */
	run(name, given, place, finished) {
		return setup.run({
			name: name, to: given.to,
			login: async (say, more) => {
				if (given.signIn) {
					say(_('Signing in…'));
					await signin.run(name, more);
				}
				else if (given.password) {
					say(_('Storing the password…'));
					await api.setPassword(name, given.password);
				}
			},
			sending: _('Sending a test message to %s…').format(given.to),
			accepted: _('The provider has accepted the test message to %s. Everything works.').format(given.to)
		}, place, finished);
	}
});
