// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require form';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.channels as channels';
'require smtprelay.health as health';
'require smtprelay.options as options';
'require smtprelay.presets as presets';
'require smtprelay.sentences as sentences';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/** Timeout until the service uses a new account, in seconds. */
const TAKE_OVER_TIME = 15;

return view.extend({
	/** Passwords of accounts and tokens of channels that were entered; they are stored once the settings have been applied. */
	passwords: /** @type {Record<string, string>} */ ({}),

	load() {
		if (!L.hasViewPermission())
			return Promise.resolve(null);

		return Promise.all([
			api.status(),
			api.providers(),
			api.services(),
			api.interfaces(),
			uci.load('smtprelay')
		]);
	},

	render(/** @type {[Smtprelay.Status | null, Smtprelay.Provider[], Smtprelay.Service[], Smtprelay.Interface[], unknown] | null} */ data) {
		if (!data) {
			// No buttons if there is nothing to save.
			Object.assign(this, { handleSaveApply: null, handleReset: null });

			return E('div', [
				E('h2', [ _('SMTP relay') ]),
				widgets.box({ level: 'neutral', text: _('The settings may contain passwords and are only available to administrators.'), remedy: '' })
			]);
		}

		const [ status, providers, services, interfaces ] = data;
		const presented = { providers: providers, services: services };

		this.running = (status != null);
		this.status = status;
		this.passwords = {};

		if (!uci.sections('smtprelay', 'relay').length)
			uci.add('smtprelay', 'relay', 'main');

		const map = new form.Map('smtprelay', _('SMTP relay'), _('Empty fields use the default value shown in grey.'));

		map.tabbed = true;
		this.map = map;
		options.sections().forEach((section) => this.addSection(map, section, presented, interfaces));

		// The "Unsaved Changes" indicator can also apply the settings; it then reloads the page.
		document.addEventListener('uci-applied', () => { this.storePasswords(); });

		return map.render();
	},

	/**
	 * Adds a section type to the page.
	 *
	 * @param {LuCI.Map} map the page
	 * @param {Smtprelay.SectionForm} section its description
	 * @param {Smtprelay.Presets} presented presets of accounts and channels
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 */
	addSection(map, section, presented, interfaces) {
		const s = section.single
			? map.section(form.NamedSection, uci.sections('smtprelay', section.type)[0]['.name'], section.type, section.title, section.help)
			: map.section(form.GridSection, section.type, section.title, section.help);

		s.addremove = !section.single;
		s.anonymous = section.single || !section.named;
		s.sortable = !section.single;
		s.nodescriptions = true;

		for (const [ tab, title ] of section.tabs)
			s.tab(tab, title);

		for (const option of section.options) {
			const o = this.addOption(s, option, presented, interfaces);

			if (!section.single && !section.columns.includes(option.name))
				o.modalonly = true;
		}
	},

	/**
	 * Adds an option to its section.
	 *
	 * @param {LuCI.Section} s the section
	 * @param {Smtprelay.OptionForm} option its description
	 * @param {Smtprelay.Presets} presented presets of accounts and channels
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 * @returns {LuCI.Option} the option
	 */
	addOption(s, option, { providers, services }, interfaces) {
		const kinds = {
			flag: form.Flag, text: form.Value, list: form.DynamicList, choice: form.ListValue, password: form.Value, secret: form.Value,
			interfaces: form.DynamicList, accounts: form.DynamicList, devices: form.DynamicList, users: form.DynamicList, provider: form.ListValue, service: form.ListValue
		};
		const o = option.tab
			? s.taboption(option.tab, kinds[option.kind], option.name, option.title, option.help)
			: s.option(kinds[option.kind], option.name, option.title, option.help);

		o.rmempty = !option.needed;
		o.optional = !option.needed;

		if (option.check)
			o.validate = (/** @type {string} */ section_id, /** @type {string} */ value) => option.check ? option.check(value) : true;

		if (option.when)
			o.depends(option.when);

		switch (option.kind) {
		case 'flag':
			o.default = option.preset || '0';
			break;

		case 'choice':
			o.value('', option.preset ? _('default: %s').format(option.preset) : _('not set'));
			(option.choices || []).forEach(([ value, label ]) => o.value(value, label));
			break;

		case 'provider':
			o.value('', _('default: %s').format(option.preset || ''));
			o.value('custom', _('other mail server'));
			presets.sorted(providers).forEach((provider) => o.value(provider.id, presets.title(provider)));
			// In the table, LuCI shows the value, and not its label.
			o.textvalue = (/** @type {string} */ section_id) => {
				const id = uci.get('smtprelay', section_id, 'provider');
				const provider = providers.find((known) => known.id == id);

				return provider ? presets.title(provider) : (id == 'custom') ? _('other mail server') : text.plain(id || option.preset);
			};
			break;

		case 'service':
			o.value('', _('not set'));
			services.forEach((service) => o.value(service.id, channels.title(service)));
			// Without the list of the daemon, what is set must not get lost.
			uci.sections('smtprelay', 'channel').map((section) => section.service).filter((id) => id && !services.some((known) => known.id == id)).forEach((id) => o.value(id));
			o.textvalue = (/** @type {string} */ section_id) => {
				const id = uci.get('smtprelay', section_id, 'service');
				const service = services.find((known) => known.id == id);

				return service ? channels.title(service) : text.plain(id);
			};
			break;

		case 'accounts':
			o.placeholder = option.preset || '';
			// A channel is an account that sends no mail.
			uci.sections('smtprelay').filter((section) => [ 'account', 'channel' ].includes(section['.type'])).forEach((section) =>
				o.value(section['.name'], (section['.type'] == 'channel') ? _('%s (channel)').format(section['.name']) : section['.name']));
			break;

		case 'devices':
		case 'users':
			o.placeholder = option.preset || '';
			uci.sections('smtprelay', option.kind.slice(0, -1)).forEach((section) => o.value(section['.name']));
			break;

		case 'interfaces':
			o.placeholder = this.example('lan');
			interfaces.map((net) => net.interface).filter((name) => name != 'loopback').forEach((name) => o.value(name));
			break;

		case 'password':
		case 'secret':
			this.makeSecret(o, option);
			break;

		default:
			o.placeholder = option.preset || this.example(option.placeholder);
		}

		return o;
	},

	/**
	 * An example, which must not be taken for the default.
	 *
	 * @param {string} [value] a value that the option may have
	 * @returns {string} what an empty field shows
	 */
	example(value) {
		return value ? _('for example %s').format(value) : '';
	},

	/**
	 * Makes an option write-only.
	 *
	 * @param {LuCI.Option} o the option
	 * @param {Smtprelay.OptionForm} option its description: a `password` is stored by the service
	 */
	makeSecret(o, option) {
		o.password = true;
		o.placeholder = '\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022';
		o.cfgvalue = () => null;
		// An empty field keeps the current value.
		o.remove = () => {};

		if (option.kind != 'password')
			return;

		o.write = (/** @type {string} */ section_id, /** @type {string} */ value) => {
			if (!this.running)
				return uci.set('smtprelay', section_id, option.name, value);

			this.passwords[section_id] = value;

			// One in the settings would take precedence over the stored one.
			if (uci.sections('smtprelay').some((section) => section['.name'] == section_id && section[option.name] != null))
				uci.set('smtprelay', section_id, option.name, null);
		};
	},

	/**
	 * Passes the entered passwords to the service.
	 *
	 * @returns {Promise<string[]>} the errors
	 */
	async storePasswords() {
		const waiting = this.passwords;
		/** @type {string[]} */
		const problems = [];

		this.passwords = {};

		for (const account of Object.keys(waiting)) {
			try {
				if (await api.awaitAccount(account, TAKE_OVER_TIME) == null)
					throw new Error(_('the service does not use this account. Complete and enable it first.'));

				await api.setPassword(account, waiting[account]);
			}
			catch (error) {
				const said = (uci.get('smtprelay', account, '.type') == 'channel') ? _('The token of channel %s was not stored: %s') : _('The password of account %s was not stored: %s');

				problems.push(said.format(account, sentences.say(/** @type {Error} */ (error).message)));
			}
		}

		return problems;
	},

	/**
	 * Waits until the service, which was not running, has started with its new settings: nothing else says that it refuses
	 * them.
	 *
	 * @returns {Promise<string[]>} why not
	 */
	async awaitStart() {
		this.running = (await api.awaitAccount(null, TAKE_OVER_TIME) != null);

		if (this.running)
			return [];

		const { text: reason, remedy } = health.absent(await api.absence(true));

		return [ `${reason} ${remedy}`.trim() ];
	},

	/**
	 * Saves the settings, makes the service reload them, and shows its errors and warnings.
	 *
	 * @returns {Promise<void>} resolves when done
	 */
	async handleSaveApply() {
		if (!this.map)
			return;

		try {
			await this.map.save(null, true);
		}
		catch (error) {
			return void ui.addNotification(null, E('p', [ _('The settings were not saved: %s').format(sentences.say(/** @type {Error} */ (error).message)) ]), 'error');
		}

		ui.showModal(null, [ E('p', { 'class': 'spinning' }, [ _('Applying settings…') ]) ]);

		/** @type {string[]} */
		let problems = [];
		/** @type {string[]} */
		let warnings = [];

		try {
			await api.commit();
			await L.resolveDefault(ui.changes.init());

			if (this.running)
				warnings = (await api.reload()).warnings || [];
			else if (uci.sections('smtprelay', 'relay').every((section) => section.enabled == null || section.enabled == '1'))
				problems = await this.awaitStart();

			problems = problems.concat(await this.storePasswords());
			// A missing password may have been stored by now.
			warnings = (await api.status())?.settings?.warnings ?? warnings;
		}
		catch (error) {
			problems.push(_('The settings were saved, but the service rejected them and continues to use the previous settings: %s').format(sentences.say(/** @type {Error} */ (error).message)));
		}

		ui.hideModal();

		for (const problem of problems)
			ui.addNotification(null, E('p', [ problem ]), 'error');
		for (const warning of warnings)
			ui.addNotification(null, E('p', [ sentences.say(warning) ]), 'warning');
		if (!problems.length) {
			const done = E('p', [ _('The settings were saved and applied.') ]);

			// LuCI of OpenWrt 23.05 only has notifications that stay.
			if (ui.addTimeLimitedNotification)
				ui.addTimeLimitedNotification(null, done, 5000, 'success');
			else
				ui.addNotification(null, done, 'success');
		}
	},

	/** Passwords are only stored together with their settings, so saving without applying is not supported. */
	handleSave: null
});
