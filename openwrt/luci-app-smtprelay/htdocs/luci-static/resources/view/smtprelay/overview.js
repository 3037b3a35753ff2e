'use strict';
'require view';
'require poll';
'require uci';
'require ui';
'require smtprelay.allow as allow';
'require smtprelay.api as api';
'require smtprelay.health as health';
'require smtprelay.presets as presets';
'require smtprelay.signin as signin';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';
'require smtprelay.wizard as wizard';

/** How often the page is brought up to date, in seconds. */
const EVERY = 5;

return view.extend({
	load() {
		const writable = !!L.hasViewPermission();

		return Promise.all([
			api.status(),
			L.resolveDefault(api.devices(), []),
			// Passwords may stand there in plain, so who may only look gets nothing of it.
			writable ? uci.load('smtprelay').then(() => this.isMissing() ? api.providers() : null) : null
		]);
	},

	/**
	 * Whether there is no account yet.
	 *
	 * @returns {boolean} whether nobody has filled one in
	 */
	isMissing() {
		return !uci.sections('smtprelay', 'account').some((section) => presets.isFilledIn(section));
	},

	render(/** @type {[Smtprelay.Status | null, Smtprelay.Device[], Smtprelay.Provider[] | null]} */ [ status, devices, providers ]) {
		const writable = !!L.hasViewPermission();
		const places = {
			health: E('div', { 'id': 'smtprelay-health' }),
			wizard: E('div'),
			accounts: E('div', { 'id': 'smtprelay-accounts' }),
			queue: E('div', { 'id': 'smtprelay-queue' }),
			chart: E('div', { 'id': 'smtprelay-chart' }),
			devices: E('div', { 'id': 'smtprelay-devices' })
		};
		const missing = (providers != null);

		const show = (/** @type {Smtprelay.Status | null} */ now, /** @type {Smtprelay.Device[]} */ seen) => {
			widgets.replace(places.health, [ (missing && !now) ? health.fresh() : health.line(now) ].concat(health.notes(now)).map((line) => widgets.box(line)).concat(this.switchOn(now, writable, missing)));
			widgets.replace(places.accounts, [ this.accounts(now, writable) ]);
			widgets.replace(places.queue, this.queue(now));
			widgets.replace(places.chart, now ? [ widgets.chart(now.counters.days, now.clock.set ? now.clock.now : Date.now() / 1000, now.queue.messages) ] : []);
			widgets.replace(places.devices, [ this.devices(seen, writable) ]);
		};

		const refresh = () => Promise.all([ api.status(), L.resolveDefault(api.devices(), []) ]).then(([ now, seen ]) => show(now, seen));

		show(status, devices);

		if (providers)
			this.showWizard(places.wizard, providers, refresh);

		poll.add(refresh, EVERY);

		return E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('SMTP relay') ]),
			places.health,
			places.wizard,
			widgets.section(_('Accounts'), [
				places.accounts,
				(writable && !missing) ? E('div', { 'class': 'right' }, [
					E('button', { 'class': 'btn cbi-button cbi-button-add', 'id': 'smtprelay-add', 'click': ui.createHandlerFn(this, () => api.providers().then((all) => this.showWizard(places.wizard, all, refresh))) }, [ _('Add an account') ])
				]) : ''
			]),
			widgets.section(_('Queue'), [ places.queue ]),
			widgets.section(_('Mails a day'), [ places.chart ]),
			widgets.section(_('Devices'), [ places.devices ])
		]);
	},

	/**
	 * Shows the wizard for an account.
	 *
	 * @param {HTMLElement} place where
	 * @param {Smtprelay.Provider[]} providers all presets
	 * @param {() => Promise<void>} refresh brings the rest of the page up to date
	 */
	showWizard(place, providers, refresh) {
		place.replaceChildren(wizard.render(providers, refresh, () => window.location.reload()));
	},

	/**
	 * A button for a service that is switched off though it has an account.
	 *
	 * @param {Smtprelay.Status | null} status what the daemon tells
	 * @param {boolean} writable whether this user may change settings
	 * @param {boolean} missing whether there is no account yet
	 * @returns {HTMLElement[]} the button, or nothing
	 */
	switchOn(status, writable, missing) {
		const relay = writable ? uci.sections('smtprelay', 'relay')[0] : null;

		if (status || missing || !relay || relay.enabled == null || relay.enabled == '1')
			return [];

		return [ E('button', {
			'class': 'btn cbi-button cbi-button-apply', 'id': 'smtprelay-switch-on',
			'click': ui.createHandlerFn(this, () => {
				uci.set('smtprelay', relay['.name'], 'enabled', '1');

				return api.commit().then(() => ui.changes.init());
			})
		}, [ _('Switch the service on') ]) ];
	},

	/**
	 * The accounts and how they stand.
	 *
	 * @param {Smtprelay.Status | null} status what the daemon tells
	 * @param {boolean} writable whether this user may change settings
	 * @returns {HTMLElement} a table
	 */
	accounts(status, writable) {
		const rows = (status ? status.accounts : []).map((account) => {
			const state = health.account(account);
			const expiry = health.expiry(account, Date.now() / 1000);
			/** @type {(Node | string)[]} */
			const badges = [ widgets.badge(health.badge(account)) ];
			/** @type {(Node | string)[]} */
			const words = [ E('div', { 'data-level': state.level, 'style': (state.level == 'bad') ? `color:${widgets.colours.bad}` : null }, [ state.text ]) ];

			if (expiry)
				badges.push(widgets.badge(expiry));

			if (state.remedy)
				words.push(E('div', [ state.remedy ]));

			if (writable && account.auth == 'xoauth2') {
				words.push(E('button', {
					'class': 'btn cbi-button', 'data-sign-in': account.name, 'click': ui.createHandlerFn(signin, 'open', account.name)
				}, [ (account.secret == 'set') ? _('Sign in again') : _('Sign in') ]));
			}

			return [
				[ E('strong', [ text.plain(account.name) ]), E('div', [ text.plain(account.from || account.username) ]) ],
				[ E('div', [ text.plain(account.host) ]), E('div', [ _('port %d').format(account.port) ]) ],
				badges,
				words
			];
		});

		return widgets.table([ _('Account'), _('Mail server'), _('Connection'), _('State') ], rows, status ? _('There is no account yet.') : _('The service does not run.'), [ 13, 13, 11, 12 ]);
	},

	/**
	 * How full the queue is.
	 *
	 * @param {Smtprelay.Status | null} status what the daemon tells
	 * @returns {(Node | string)[]} sentences
	 */
	queue(status) {
		if (!status)
			return [ E('em', [ _('The service does not run.') ]) ];

		const queue = status.queue;
		const count = queue.messages
			? N_(queue.messages, '%d message waits', '%d messages wait').format(queue.messages)
			: _('No message waits');
		const held = queue.held ? ` (${N_(queue.held, '%d of them held back', '%d of them held back').format(queue.held)})` : '';

		return [
			E('div', [ E('a', { 'href': L.url('admin/services/smtprelay/queue') }, [ count + held ]), ' ', _('(%s of %s).').format(text.size(queue.bytes), text.size(queue.limit)) ]),
			queue.recovering ? E('div', [ _('Messages of an earlier run are still being read.') ]) : '',
			E('div', { 'class': 'cbi-section-descr' }, [ text.plain(status.power_cut.meaning, 400) ])
		];
	},

	/**
	 * Who sent, or tried to.
	 *
	 * @param {Smtprelay.Device[]} devices the devices
	 * @param {boolean} writable whether this user may change settings
	 * @returns {HTMLElement} a table
	 */
	devices(devices, writable) {
		const rows = devices.map((device) => {
			const last = device.last_mail;
			const verdict = device.last_verdict;
			const refused = allow.isRefused(device);
			const name = this.deviceName(device);
			/** @type {(Node | string)[]} */
			const state = [];

			if (refused)
				state.push(widgets.badge({ level: 'bad', label: _('may not send'), title: _('Its address is in none of the networks that may send.') }));

			if (verdict)
				state.push(E('div', [ `${text.time(verdict.time)} ${text.outcome(verdict.outcome)}`, verdict.text ? `: ${text.plain(verdict.text)}` : '' ]));

			if (device.rate)
				state.push(E('div', [ _('Rate %s: %d in a digest, %d put off, %d refused.').format(text.plain(device.rate.limit), device.rate.digested, device.rate.deferred, device.rate.rejected) ]));

			if (refused && writable) {
				state.push(E('button', {
					'class': 'btn cbi-button cbi-button-apply', 'data-allow': device.client,
					'click': ui.createHandlerFn(this, this.askToAllow, device)
				}, [ _('Allow') ]));
			}

			return [
				[ E('strong', [ name ]), E('div', [ text.plain([ device.client, device.mac ].filter((word) => word && word != name).join(' ')) ]) ],
				last ? [ E('div', [ `${text.time(last.time)} ${_('to %s').format(text.plain(last.to, 80))}` ]) ] : [ '\u2013' ],
				[ _('%d accepted, %d delivered, %d failed, %d refused').format(device.accepted, device.delivered, device.failed, device.refused) ],
				state
			];
		});

		return widgets.table([ _('Device'), _('Last mail'), _('Counted'), _('State') ], rows, _('No device has connected yet. Enter the address of this router as mail server in your device, port 25, no login.'), [ 12, 13, 12, 12 ]);
	},

	/**
	 * What a device is called.
	 *
	 * @param {Smtprelay.Device} device the device
	 * @returns {string} its name; how it greets where it has none
	 */
	deviceName(device) {
		if (device.client == 'local')
			return _('this router');

		return text.plain(device.name || device.section || device.helo || device.client, 60);
	},

	/**
	 * Shows what would be changed to let a device in, and does it when the owner agrees.
	 *
	 * @param {Smtprelay.Device} device the device
	 */
	async askToAllow(device) {
		await uci.unload('smtprelay');
		await uci.load('smtprelay');

		const listeners = uci.sections('smtprelay', 'listener').filter((section) => section.enabled != '0');
		const interfaces = await api.interfaces();

		if (!listeners.length)
			return void ui.addNotification(null, E('p', [ _('There is no listener: set one up in the settings.') ]), 'warning');

		const which = E('select', { 'class': 'cbi-input-select' }, listeners.map((section) => E('option', { 'value': section['.name'] }, [ section['.name'] ])));
		const explained = E('div');
		const name = this.deviceName(device);
		const planned = () => {
			const listener = listeners.find((section) => section['.name'] == which.value) || listeners[0];

			return { listener: listener, plan: allow.plan(listener, device.client, interfaces) };
		};
		const explain = () => {
			const { plan } = planned();

			widgets.replace(explained, [
				E('p', [ _('Then these networks may send mail through your account:') ]),
				E('ul', plan.list.map((net) => E('li', [ (net == device.client) ? E('strong', [ net ]) : net ]))),
				plan.written.length ? E('p', [ _('The list was empty, which means the networks that the listener has now. As soon as it has one entry that no longer holds, so they are written down as well. When the router gets other networks, change the list in the settings.') ]) : '',
				plan.unknown.length ? widgets.box({ level: 'warning', text: _('The addresses of %s are not known at this moment: their networks would no longer be allowed. Add them in the settings.').format(plan.unknown.join(', ')), remedy: '' }) : ''
			]);
		};

		which.addEventListener('change', explain);
		explain();

		ui.showModal(_('Allow a device'), [
			E('p', [ _('%s was refused.').format((name == device.client) ? name : `${name} (${device.client})`) ]),
			(listeners.length > 1) ? E('p', [ _('At which listener?'), ' ', which ]) : '',
			explained,
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]),
				' ',
				E('button', {
					'class': 'btn cbi-button cbi-button-apply important', 'id': 'smtprelay-allow',
					'click': ui.createHandlerFn(this, () => {
						const { listener, plan } = planned();

						return this.allowDevice(listener['.name'], plan.list);
					})
				}, [ _('Allow') ])
			])
		]);
	},

	/**
	 * Writes the list.
	 *
	 * @param {string} section the listener
	 * @param {string[]} list networks that may send
	 */
	async allowDevice(section, list) {
		try {
			uci.set('smtprelay', section, 'allow', list);
			await api.commit();
			await ui.changes.init();
			await api.reload();
		}
		catch (error) {
			ui.addNotification(null, E('p', [ text.plain(/** @type {Error} */ (error).message, 400) ]), 'error');
		}

		ui.hideModal();
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
