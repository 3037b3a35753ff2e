'use strict';
'require view';
'require form';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.options as options';
'require smtprelay.presets as presets';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/** How long the service may take to know a new account, in seconds. */
const TAKE_OVER_TIME = 15;

return view.extend({
	/** Passwords of accounts that were typed in and are stored once the settings are in force. */
	passwords: /** @type {Record<string, string>} */ ({}),

	load() {
		if (!L.hasViewPermission())
			return Promise.resolve(null);

		return Promise.all([
			api.status(),
			api.providers(),
			api.interfaces(),
			uci.load('smtprelay')
		]);
	},

	render(/** @type {[Smtprelay.Status | null, Smtprelay.Provider[], Smtprelay.Interface[], unknown] | null} */ data) {
		if (!data) {
			// No buttons where there is nothing to save.
			Object.assign(this, { handleSaveApply: null, handleReset: null });

			return E('div', [
				E('h2', [ _('SMTP relay') ]),
				widgets.box({ level: 'neutral', text: _('The settings are for administrators: they may hold passwords.'), remedy: '' })
			]);
		}

		const [ status, providers, interfaces ] = data;

		this.running = (status != null);
		this.status = status;
		this.passwords = {};

		if (!uci.sections('smtprelay', 'relay').length)
			uci.add('smtprelay', 'relay', 'main');

		const map = new form.Map('smtprelay', _('SMTP relay'), _('What is left empty has the value that is shown in grey.'));

		map.tabbed = true;
		this.map = map;
		options.sections().forEach((section) => this.addSection(map, section, providers, interfaces));

		// "Unsaved changes" at the top of the page applies too, and then loads the page again.
		document.addEventListener('uci-applied', () => { this.storePasswords(); });

		return map.render();
	},

	/**
	 * Adds a kind of sections to the page.
	 *
	 * @param {LuCI.Map} map the page
	 * @param {Smtprelay.SectionForm} section what it looks like
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 */
	addSection(map, section, providers, interfaces) {
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
			const o = this.addOption(s, option, providers, interfaces);

			if (!section.single && !section.columns.includes(option.name))
				o.modalonly = true;
		}
	},

	/**
	 * Adds an option to its section.
	 *
	 * @param {LuCI.Section} s the section
	 * @param {Smtprelay.OptionForm} option what it looks like
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {Smtprelay.Interface[]} interfaces networks of the router
	 * @returns {LuCI.Option} the option
	 */
	addOption(s, option, providers, interfaces) {
		const kinds = {
			flag: form.Flag, text: form.Value, list: form.DynamicList, choice: form.ListValue, password: form.Value, secret: form.Value,
			interfaces: form.DynamicList, accounts: form.DynamicList, devices: form.DynamicList, users: form.DynamicList, provider: form.ListValue
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
			o.value('custom', _('another mail server'));
			presets.sorted(providers).forEach((provider) => o.value(provider.id, presets.title(provider)));
			break;

		case 'accounts':
		case 'devices':
		case 'users':
			o.placeholder = option.preset || '';
			uci.sections('smtprelay', option.kind.slice(0, -1)).forEach((section) => o.value(section['.name']));
			break;

		case 'interfaces':
			o.placeholder = 'lan';
			interfaces.map((net) => net.interface).filter((name) => name != 'loopback').forEach((name) => o.value(name));
			break;

		case 'password':
		case 'secret':
			this.makeSecret(o, option.kind == 'password');
			break;

		default:
			o.placeholder = option.preset || option.placeholder || '';
		}

		return o;
	},

	/**
	 * Makes an option one that can be written and never read.
	 *
	 * @param {LuCI.Option} o the option
	 * @param {boolean} stored whether the service stores it, as it does with passwords of accounts
	 */
	makeSecret(o, stored) {
		o.password = true;
		o.placeholder = '\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022';
		o.cfgvalue = () => null;
		// Nothing typed in leaves it as it is.
		o.remove = () => {};

		if (!stored)
			return;

		o.write = (/** @type {string} */ section_id, /** @type {string} */ value) => {
			if (!this.running)
				return uci.set('smtprelay', section_id, 'password', value);

			this.passwords[section_id] = value;

			// One in the settings would go before the one that is stored.
			if (uci.sections('smtprelay').some((section) => section['.name'] == section_id && section.password != null))
				uci.set('smtprelay', section_id, 'password', null);
		};
	},

	/**
	 * Hands the passwords that were typed in to the service.
	 *
	 * @returns {Promise<string[]>} what went wrong
	 */
	async storePasswords() {
		const waiting = this.passwords;
		/** @type {string[]} */
		const problems = [];

		this.passwords = {};

		for (const account of Object.keys(waiting)) {
			try {
				if (await api.awaitAccount(account, TAKE_OVER_TIME) == null)
					throw new Error(_('the service does not use the account; fill it in and switch it on first.'));

				await api.setPassword(account, waiting[account]);
			}
			catch (error) {
				problems.push(_('The password of %s was not stored: %s').format(account, text.plain(/** @type {Error} */ (error).message, 400)));
			}
		}

		return problems;
	},

	/**
	 * Saves, has the service take the settings over, and tells what it says about them.
	 *
	 * @returns {Promise<void>} resolves when all is done
	 */
	async handleSaveApply() {
		if (!this.map)
			return;

		try {
			await this.map.save(null, true);
		}
		catch (error) {
			return void ui.addNotification(null, E('p', [ _('Nothing was saved: %s').format(text.plain(/** @type {Error} */ (error).message, 400)) ]), 'error');
		}

		ui.showModal(null, [ E('p', { 'class': 'spinning' }, [ _('Applying the settings …') ]) ]);

		/** @type {string[]} */
		let problems = [];
		/** @type {string[]} */
		let warnings = [];

		try {
			await api.commit();
			await L.resolveDefault(ui.changes.init());

			if (this.running)
				warnings = (await api.reload()).warnings || [];

			problems = await this.storePasswords();
			// A password that was missing is there now.
			warnings = (await api.status())?.settings?.warnings ?? warnings;
		}
		catch (error) {
			problems.push(_('The settings were saved, but the service refused them and goes on with the former ones: %s').format(text.plain(/** @type {Error} */ (error).message, 400)));
		}

		ui.hideModal();

		for (const problem of problems)
			ui.addNotification(null, E('p', [ problem ]), 'error');
		for (const warning of warnings)
			ui.addNotification(null, E('p', [ text.plain(warning, 400) ]), 'warning');
		if (!problems.length)
			ui.addTimeLimitedNotification(null, E('p', [ _('The settings were saved and applied.') ]), 5000, 'success');
	},

	/** Passwords are only stored together with the settings that they belong to, so there is no saving without applying. */
	handleSave: null
});
