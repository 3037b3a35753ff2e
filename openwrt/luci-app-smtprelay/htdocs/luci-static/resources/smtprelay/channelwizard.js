// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require uci';
'require smtprelay.api as api';
'require smtprelay.channels as channels';
'require smtprelay.check as check';
'require smtprelay.presets as presets';
'require smtprelay.setup as setup';
'require smtprelay.widgets as widgets';

/*
 * Setup of a channel up to a delivered test message: a service, what it calls its recipient, a token, one button.
 */

return baseclass.extend({
	/**
	 * Writes the channel to the settings, and which mail takes it.
	 *
	 * @param {string} name name of the section; '' for a new one
	 * @param {Smtprelay.Service} service the service
	 * @param {Smtprelay.ChannelAnswers} answers the values entered
	 * @returns {string} name of the section
	 */
	store(name, service, answers) {
		setup.prepare(name);

		if (name == '') {
			name = this.nameFor(service);
			uci.add('smtprelay', 'channel', name);
		}

		const before = [ 'service', 'url' ].map((option) => uci.get('smtprelay', name, option) ?? null).join(' ');
		const options = channels.options(service, answers);

		for (const option of Object.keys(options))
			uci.set('smtprelay', name, option, options[option]);

		// What was trusted belongs to the server before.
		if (before != [ options.service, options.url ].join(' '))
			for (const option of [ 'ca_file', 'fingerprint' ])
				uci.set('smtprelay', name, option, null);

		const plan = channels.plan(name, answers, uci.sections('smtprelay'));

		plan.remove.forEach((section) => uci.remove('smtprelay', section));
		plan.set.forEach((change) => uci.set('smtprelay', change.name, change.option, change.value));

		for (const { type, options: wanted } of plan.add) {
			const first = uci.sections('smtprelay', type)[0];
			const section = uci.add('smtprelay', type);

			for (const option of Object.keys(wanted))
				uci.set('smtprelay', section, option, wanted[option]);

			// The first route that matches counts, and one for certain devices would match.
			if (type == 'route' && first)
				uci.move('smtprelay', section, first['.name'], false);
		}

		return name;
	},

	/**
	 * The name that the section of a new channel will have.
	 *
	 * @param {Smtprelay.Service} service the service
	 * @returns {string} a name that is not in use
	 */
	nameFor(service) {
		return presets.sectionName(service, uci.sections('smtprelay').map((section) => section['.name']));
	},

	/**
	 * The wizard.
	 *
	 * @param {Smtprelay.Service[]} services all services
	 * @param {string} suggested address that is suggested for mail that goes to the channel as well; '' if there is no account
	 * @param {() => Promise<void>} arrived called when a test message was accepted
	 * @param {() => void} finished called when the user leaves the wizard
	 * @param {() => void} [cancelled] called when the user gives up; without it, there is no button for that
	 * @returns {HTMLElement} its section of the page
	 */
	render(services, suggested, arrived, finished, cancelled) {
		const offered = channels.offered(services);
		const hasAccount = uci.sections('smtprelay', 'account').some((section) => presets.isFilledIn(section));
		const chosen = setup.select('service', offered.map((service) => [ service.id, channels.title(service) ]));
		const fields = {
			url: setup.input('url', { 'inputmode': 'url', 'autocapitalize': 'none' }),
			to: setup.input('channel-to', { 'autocapitalize': 'none' }),
			token: setup.input('token', { 'type': 'password', 'autocomplete': 'new-password' }),
			mail: setup.select('mail', [
				[ 'also', _('mail to one address, in addition to the mail') ],
				[ 'only', _('only mail to an address of its own') ],
				[ 'all', hasAccount ? _('all mail while no account works') : _('all mail') ],
				[ 'none', _('none yet') ]
			]),
			alias: setup.input('alias', { 'inputmode': 'email', 'autocapitalize': 'none', 'placeholder': 'alarms@example.com' })
		};
		const help = E('div', { 'class': 'cbi-value-description', 'id': 'smtprelay-service-help' });
		const urlHelp = E('span');
		const toHelp = E('span');
		const mailHelp = E('span', { 'id': 'smtprelay-mail-help' });
		const tokenLine = widgets.field(_('Token'), fields.token);
		const lines = {
			url: widgets.field(_('Server'), fields.url, [ urlHelp ]),
			to: widgets.field(_('Recipient'), fields.to, [ toHelp ]),
			alias: widgets.field(_('Address'), fields.alias)
		};
		const progress = E('div', { 'id': 'smtprelay-progress' });
		/** Section of the channel, once it has been written. */
		let name = '';
		/** The service whose token has been stored for it. */
		let stored = '';

		const service = () => offered.find((one) => one.id == chosen.value) || offered[0];

		fields.mail.value = hasAccount ? 'also' : 'all';
		fields.alias.value = check.isAddress(suggested) ? suggested : '';

		const refresh = () => {
			const one = service();
			const show = (/** @type {HTMLElement} */ line, /** @type {boolean} */ wanted) => line.classList.toggle('hidden', !wanted);
			const own = channels.address(name || this.nameFor(one));

			show(lines.url, one.own);
			show(lines.to, one.to != '');
			show(lines.alias, fields.mail.value == 'also');
			fields.url.placeholder = one.base || 'https://push.example.com';
			widgets.replace(urlHelp, [ one.base ? _('Only for a server of your own: its address, beginning with https://.') : _('Address of your server, beginning with https://.') ]);
			widgets.replace(toHelp, [ `${channels.capital(one.to)}.` ]);
			tokenLine.firstElementChild?.replaceChildren(channels.tokenTitle(one));
			widgets.replace(help, [ `${channels.capital(one.help)}. `, one.docs ? widgets.link(one.docs, _('Documentation of the service')) : '' ]);
			widgets.replace(mailHelp, [ this.mailHelp(fields.mail.value, own, hasAccount) ]);
		};

		const answers = () => ({
			url: fields.url.value.trim().replace(/\/+$/, ''),
			to: fields.to.value.trim(),
			token: fields.token.value.trim(),
			mail: fields.mail.value,
			alias: fields.alias.value.trim()
		});

		const submit = async () => {
			const given = answers();
			const one = service();
			// At another attempt the token need not be entered again.
			const problem = channels.problem(one, (!given.token && stored == one.id) ? { ...given, token: 'https://stored.invalid' } : given);

			if (problem)
				return widgets.replace(progress, [ widgets.box({ level: 'warning', text: problem, remedy: '' }) ]);

			try {
				name = this.store(name, one, given);
				await setup.run({
					name: name, to: channels.address(name),
					login: async (say) => {
						// That of one service must not be sent to another.
						if (given.token || (stored && stored != one.id)) {
							say(_('Storing the token…'));
							await api.setPassword(name, given.token);
							stored = given.token ? one.id : '';
							fields.token.value = '';
						}
					},
					sending: _('Sending a test message…'),
					accepted: _('%s has accepted the test message. Everything works.').format(channels.title(one))
				}, progress, finished);
				await arrived();
			}
			catch (error) {
				setup.failed(error, progress, submit);
			}
		};

		[ chosen, fields.mail ].forEach((field) => field.addEventListener('change', refresh));
		refresh();

		return E('div', { 'class': 'cbi-section', 'id': 'smtprelay-channel-wizard' }, [
			E('h3', [ _('Set up a channel') ]),
			E('div', { 'class': 'cbi-section-descr' }, [
				_('A channel sends the mail of your devices as push messages to a phone, or into a chat room. For a service that is not listed, use the Channels tab of the settings.')
			]),
			widgets.field(_('Service'), chosen),
			lines.url, lines.to, tokenLine,
			widgets.field('', help),
			widgets.field(_('Which mail'), fields.mail, [ mailHelp ]),
			lines.alias,
			progress,
			setup.buttons(submit, cancelled)
		]);
	},

	/**
	 * What a choice of mail means.
	 *
	 * @param {string} mail the choice
	 * @param {string} own the address that stands for the channel
	 * @param {boolean} hasAccount whether there is an account for mail
	 * @returns {string} one or two sentences
	 */
	mailHelp(mail, own, hasAccount) {
		switch (mail) {
		case 'also':
			return _('Mail to the address below is delivered as before, and to the channel as well.');
		case 'only':
			return _('On a device, in its rules or in an alias, enter %s as the recipient. No mail is sent to that address.').format(own);
		case 'all':
			return hasAccount
				? _('The channel takes over when no account can send.')
				: _('Everything that your devices send goes to the channel.');
		default:
			return _('Assign it later: on the Routes tab of the settings, or in the rules of a device.');
		}
	}
});
