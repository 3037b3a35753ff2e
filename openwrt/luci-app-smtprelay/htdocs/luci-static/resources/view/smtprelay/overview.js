// SPDX-License-Identifier: Apache-2.0
'use strict';
'require view';
'require poll';
'require uci';
'require ui';
'require smtprelay.allow as allow';
'require smtprelay.api as api';
'require smtprelay.channels as channels';
'require smtprelay.channelwizard as channelwizard';
'require smtprelay.health as health';
'require smtprelay.presets as presets';
'require smtprelay.sentences as sentences';
'require smtprelay.service as service';
'require smtprelay.signin as signin';
'require smtprelay.silence as silence';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';
'require smtprelay.wizard as wizard';

/** Refresh interval of the page, in seconds. */
const EVERY = 5;

/** Levels of the last results of a device that need attention. */
const OUTCOMES = /** @type {Record<string, Smtprelay.Level>} */ ({ deferred: 'warning', failed: 'bad', refused: 'warning', rejected: 'bad', aborted: 'warning' });

return view.extend({
	load() {
		const writable = !!L.hasViewPermission();

		return Promise.all([
			api.status(),
			L.resolveDefault(api.devices(), []),
			api.providers(),
			api.services(),
			// The file may contain plain-text passwords, so read-only users do not get it.
			writable ? uci.load('smtprelay').then(() => this.isMissing()) : false
		]);
	},

	/**
	 * Whether no account or channel has been set up yet.
	 *
	 * @returns {boolean} true if none is configured
	 */
	isMissing() {
		return !uci.sections('smtprelay', 'account').some((section) => presets.isFilledIn(section)) && !uci.sections('smtprelay', 'channel').length;
	},

	render(/** @type {[Smtprelay.Status | null, Smtprelay.Device[], Smtprelay.Provider[], Smtprelay.Service[], boolean]} */ [ status, devices, providers, services, missing ]) {
		const presented = { providers: providers, services: services };
		const writable = !!L.hasViewPermission();
		const places = {
			health: E('div', { 'id': 'smtprelay-health' }),
			wizard: E('div'),
			accounts: E('div', { 'id': 'smtprelay-accounts' }),
			queue: E('div', { 'id': 'smtprelay-queue' }),
			chart: E('div', { 'id': 'smtprelay-chart' }),
			devices: E('div', { 'id': 'smtprelay-devices' })
		};
		const show = async (/** @type {Smtprelay.Status | null} */ now, /** @type {Smtprelay.Device[]} */ seen) => {
			const line = missing ? [ widgets.box(health.fresh()) ] : now ? [ widgets.box(health.line(now)) ] : await service.notice(refresh);

			widgets.replace(places.health, line.concat(missing ? [] : health.notes(now).map((note) => widgets.box(note)), this.leftSecrets(now, writable, refresh)));

			// Before an account has been set up there is nothing to show but the first step; without a daemon, nothing at all.
			rest.classList.toggle('hidden', missing || !now);
			this.suggested = now ? this.knownAddress(now) : '';
			widgets.replace(places.accounts, [ this.accounts(now, writable, presented, refresh) ]);
			widgets.replace(places.queue, this.queue(now));
			widgets.replace(places.chart, now ? [ widgets.chart(now.counters.days, now.clock.set ? now.clock.now : Date.now() / 1000, now.queue.messages) ] : []);
			widgets.replace(places.devices, [ this.devices(seen, now?.expected, writable) ]);
		};

		const refresh = () => Promise.all([ api.status(), L.resolveDefault(api.devices(), []) ]).then(([ now, seen ]) => show(now, seen));

		const close = () => places.wizard.replaceChildren();

		const rest = E('div', { 'id': 'smtprelay-rest' }, [
			widgets.section(_('Accounts and channels'), [
				places.accounts,
				writable ? E('div', { 'class': 'right' }, [
					E('button', { 'class': 'btn cbi-button cbi-button-add', 'id': 'smtprelay-add', 'click': ui.createHandlerFn(this, () => this.showWizard(places.wizard, 'account', presented, refresh, close)) }, [ _('Add account') ]),
					' ',
					// Without the list of services there is nothing to choose from.
					services.length ? E('button', { 'class': 'btn cbi-button cbi-button-add', 'id': 'smtprelay-add-channel', 'click': ui.createHandlerFn(this, () => this.showWizard(places.wizard, 'channel', presented, refresh, close)) }, [ _('Add channel') ]) : ''
				]) : ''
			]),
			widgets.section(_('Queue'), [ places.queue ]),
			widgets.section(_('Messages per day'), [ places.chart ]),
			widgets.section(_('Devices'), [ places.devices ])
		]);

		if (missing)
			this.showWizard(places.wizard, 'account', presented, refresh);

		poll.add(refresh, EVERY);

		return show(status, devices).then(() => E('div', { 'class': 'cbi-map' }, [
			E('h2', [ _('SMTP relay') ]),
			places.health,
			places.wizard,
			rest
		]));
	},

	/**
	 * Shows the wizard for an account or for a channel.
	 *
	 * @param {HTMLElement} place the element
	 * @param {'account' | 'channel'} what which one
	 * @param {Smtprelay.Presets} presented presets of both
	 * @param {() => Promise<void>} refresh refreshes the rest of the page
	 * @param {() => void} [cancelled] closes the wizard; without it, it cannot be cancelled, but the other one can be chosen
	 */
	showWizard(place, what, presented, refresh, cancelled) {
		const leave = () => window.location.reload();
		const other = (what == 'account') ? 'channel' : 'account';

		place.classList.add('smtprelay-top');
		place.replaceChildren((what == 'account')
			? wizard.render(presented.providers, refresh, leave, cancelled)
			: channelwizard.render(presented.services, this.suggested, refresh, leave, cancelled));

		if (!cancelled && presented.services.length) {
			place.appendChild(E('p', { 'class': 'right' }, [ E('button', {
				'class': 'btn cbi-button', 'id': 'smtprelay-other', 'click': ui.createHandlerFn(this, () => this.showWizard(place, other, presented, refresh))
			}, [ (what == 'account') ? _('Use push messages instead of mail') : _('Use a mail account instead') ]) ]));
		}

		// The page is long, and the wizard is at its top.
		if (cancelled)
			place.scrollIntoView?.();
	},

	/** Address whose mail is suggested for a channel. */
	suggested: '',

	/**
	 * An address that gets mail of the devices.
	 *
	 * @param {Smtprelay.Status} status status of the daemon
	 * @returns {string} the last recipient, else the sender of an account, which is the owner's; '' if there is none
	 */
	knownAddress(status) {
		const mail = status.accounts.filter((account) => !account.service);
		const last = mail.map((account) => account.last).filter((one) => one != null).sort((a, b) => b.time - a.time)[0];

		return last?.to || mail.find((account) => account.from)?.from || '';
	},

	/**
	 * Buttons to remove what is stored for accounts that are no longer in the settings.
	 *
	 * @param {Smtprelay.Status | null} status status of the daemon
	 * @param {boolean} writable whether this user is allowed to change settings
	 * @param {() => Promise<void>} refresh refreshes the page
	 * @returns {HTMLElement[]} one button for each account
	 */
	leftSecrets(status, writable, refresh) {
		return ((writable && status?.settings?.secrets_left) || []).map((name) => E('button', {
			'class': 'btn cbi-button cbi-button-remove', 'data-left': name,
			'click': ui.createHandlerFn(this, () => api.setPassword(name, '').then(refresh).catch((error) => ui.addNotification(null, E('p', [ text.plain(error.message, 400) ]), 'warning')))
		}, [ _('Remove the password of %s').format(text.plain(name)) ]));
	},

	/**
	 * The accounts and their state.
	 *
	 * @param {Smtprelay.Status | null} status status of the daemon
	 * @param {boolean} writable whether this user is allowed to change settings
	 * @param {Smtprelay.Presets} presented presets of accounts and channels
	 * @param {() => Promise<void>} refresh refreshes the page
	 * @returns {HTMLElement} a table
	 */
	accounts(status, writable, presented, refresh) {
		const rows = (status ? status.accounts : []).map((account) => {
			const state = health.account(account);
			const expiry = health.expiry(account, Date.now() / 1000);
			/** @type {(Node | string)[]} */
			const badges = [ widgets.badge(health.badge(account)) ];
			/** @type {(Node | string)[]} */
			const words = [ E('div', { 'data-level': state.level, 'class': 'smtprelay-state' }, [ state.text ]) ];

			if (expiry)
				badges.push(widgets.badge(expiry));

			if (state.remedy)
				words.push(E('div', [ state.remedy ]));

			if (writable && account.auth == 'xoauth2') {
				words.push(E('button', {
					'class': 'btn cbi-button', 'data-sign-in': account.name, 'click': ui.createHandlerFn(signin, 'open', account.name)
				}, [ (account.secret == 'set') ? _('Sign in again') : _('Sign in') ]));
			}

			// A channel without a token may need one.
			if (writable && state.level == 'bad' && (account.auth == 'password' || account.service)) {
				words.push(E('button', {
					'class': 'btn cbi-button', 'data-password': account.name, 'click': ui.createHandlerFn(this, this.askForPassword, account, refresh)
				}, [ account.service ? _('Enter token') : _('Enter password') ]));
			}

			const provider = presented.providers.find((known) => known.id == account.provider);
			const service = presented.services.find((known) => known.id == account.service);
			const title = account.service ? _('Channel: %s').format(service ? channels.title(service) : text.plain(account.service)) : provider ? presets.title(provider) : '';

			return [
				[ E('strong', [ text.plain(account.name) ]), account.service ? '' : E('div', [ text.plain(account.from || account.username) ]), title ? E('div', [ title ]) : '' ],
				account.host ? [ E('div', [ text.plain(account.host) ]), E('div', [ _('port %d').format(account.port) ]) ] : [ '\u2013' ],
				badges,
				words
			];
		});

		return widgets.table([ _('Account'), _('Server'), _('Connection'), _('State') ], rows, status ? _('No account has been set up yet.') : _('The service is not running.'), [ 13, 13, 11, 12 ]);
	},

	/**
	 * Asks for the password of an account or the token of a channel, and stores it.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @param {() => Promise<void>} refresh refreshes the page
	 */
	askForPassword(account, refresh) {
		const field = E('input', { 'type': 'password', 'class': 'cbi-input-text', 'id': 'smtprelay-new-password', 'autocomplete': 'new-password' });
		const said = E('div');
		const name = text.plain(account.name);
		const token = account.service != null;

		const content = [
			E('p', [ token ? _('Token of channel %s.').format(name) : _('Password of account %s.').format(name), ' ', _('Delivery is attempted again as soon as it is stored.') ]),
			widgets.field(token ? _('Token') : _('Password'), field),
			said,
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]),
				' ',
				E('button', {
					'class': 'btn cbi-button cbi-button-positive important', 'id': 'smtprelay-store',
					'click': ui.createHandlerFn(this, () => field.value
						? api.setPassword(account.name, field.value).then(ui.hideModal).then(refresh).catch((error) => widgets.replace(said, [ widgets.box({ level: 'bad', text: sentences.say(error.message), remedy: '' }) ]))
						: widgets.replace(said, [ widgets.box({ level: 'warning', text: token ? _('Enter the token.') : _('Enter the password.'), remedy: '' }) ]))
				}, [ _('Save') ])
			])
		];

		if (token)
			ui.showModal(_('Enter token'), content);
		else
			ui.showModal(_('Enter password'), content);
	},

	/**
	 * The size of the queue.
	 *
	 * @param {Smtprelay.Status | null} status status of the daemon
	 * @returns {(Node | string)[]} the content
	 */
	queue(status) {
		if (!status)
			return [ E('em', [ _('The service is not running.') ]) ];

		const queue = status.queue;
		const count = queue.messages
			? N_(queue.messages, '%d message queued', '%d messages queued').format(queue.messages)
			: _('No messages queued');
		const meaning = sentences.say(status.power_cut.meaning);
		const held = queue.held ? ` (${N_(queue.held, '%d of them held', '%d of them held').format(queue.held)})` : '';

		return [
			E('div', [ E('a', { 'href': L.url('admin/services/smtprelay/queue') }, [ count + held ]), ', ', _('%s of %s used.').format(text.size(queue.bytes), text.size(queue.limit)) ]),
			queue.recovering ? E('div', [ _('Messages queued before the last restart are still being loaded.') ]) : '',
			E('div', { 'class': 'cbi-section-descr' }, [ meaning.charAt(0).toUpperCase() + meaning.slice(1) ])
		];
	},

	/**
	 * Devices that have sent mail, or tried to, and those that are expected to send.
	 *
	 * @param {Smtprelay.Device[]} devices the devices
	 * @param {Smtprelay.Expected[] | undefined} expected those that are expected to send
	 * @param {boolean} writable whether this user is allowed to change settings
	 * @returns {HTMLElement} a table
	 */
	devices(devices, expected, writable) {
		const rows = silence.rows(devices, expected).map((row) => {
			const device = row.device;
			const overdue = silence.badge(row);
			const heard = [ E('div', [ silence.last(row) ]), E('div', [ silence.words(row) ]) ];

			if (!device) {
				return [
					[ E('strong', [ text.plain(row.expected?.device, 60) ]) ],
					heard,
					[ '\u2013' ],
					[ '\u2013' ],
					overdue ? [ widgets.badge(overdue) ] : []
				];
			}

			const last = device.last_mail;
			const verdict = device.last_verdict;
			const refused = allow.isRefused(device);
			const name = this.deviceName(device);
			/** @type {(Node | string)[]} */
			const state = [];

			if (overdue)
				state.push(widgets.badge(overdue));

			if (refused)
				state.push(widgets.badge({ level: 'bad', label: _('not allowed'), title: _('Its address is not in any of the allowed networks.') }));

			if (verdict && OUTCOMES[verdict.outcome])
				state.push(widgets.badge({ level: OUTCOMES[verdict.outcome], label: text.outcome(verdict.outcome), title: '' }));

			if (verdict)
				state.push(E('div', [ `${text.time(verdict.time)} ${text.outcome(verdict.outcome)}`, verdict.text ? `: ${sentences.say(verdict.text)}` : '' ]));

			if (device.rate)
				state.push(E('div', [ _('Rate limit %s: %d sent in digests, %d deferred, %d rejected.').format(text.plain(device.rate.limit), device.rate.digested, device.rate.deferred, device.rate.rejected) ]));

			if (refused && writable) {
				state.push(E('button', {
					'class': 'btn cbi-button cbi-button-action', 'data-allow': device.client,
					'click': ui.createHandlerFn(this, this.askToAllow, device)
				}, [ _('Allow') ]));
			}

			return [
				[ E('strong', [ name ]), E('div', [ text.plain([ device.client, device.mac, (device.helo && device.helo != name) ? `HELO ${device.helo}` : '' ].filter((word) => word && word != name).join(' ')) ]) ],
				heard,
				last ? [ E('div', [ _('to %s').format(text.plain(last.to, 80)) ]) ] : [ '\u2013' ],
				[ _('%d accepted, %d delivered, %d failed, %d refused').format(device.accepted, device.delivered, device.failed, device.refused) ],
				state
			];
		});

		return widgets.table([ _('Device'), _('Last heard'), _('Last message'), _('Totals'), _('State') ], rows, _('No device has connected yet. On the device, set the mail server to the address of this router, port 25, no login.'), [ 11, 8, 9, 10, 11 ]);
	},

	/**
	 * The name of a device.
	 *
	 * @param {Smtprelay.Device} device the device
	 * @returns {string} the configured name, or that from its DHCP request, or its address; never what it says in HELO
	 */
	deviceName(device) {
		if (device.client == 'local')
			return _('this router');

		return text.plain(device.device || device.client, 60);
	},

	/**
	 * Shows the changes required to allow a device, and applies them after confirmation.
	 *
	 * @param {Smtprelay.Device} device the device
	 */
	async askToAllow(device) {
		await uci.unload('smtprelay');
		await uci.load('smtprelay');

		const listeners = uci.sections('smtprelay', 'listener').filter((section) => section.enabled != '0');
		const interfaces = await api.interfaces();

		if (!listeners.length)
			return void ui.addNotification(null, E('p', [ _('No listener is enabled. Set one up in the settings.') ]), 'warning');

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
				E('p', [ _('The following networks will be allowed to send mail through your account:') ]),
				E('ul', plan.list.map((net) => E('li', [ (net == device.client) ? E('strong', [ net ]) : net ]))),
				plan.written.length ? E('p', [ _('The list was empty, which allows the current networks of the listener. This no longer applies once the list has an entry, so these networks are added as well. If the networks of the router change, update the list in the settings.') ]) : '',
				plan.unknown.length ? widgets.box({ level: 'warning', text: _('The addresses of %s are currently unknown, so their networks would no longer be allowed. Add them in the settings.').format(plan.unknown.join(', ')), remedy: '' }) : ''
			]);
		};

		which.addEventListener('change', explain);
		explain();

		ui.showModal(_('Allow device'), [
			E('p', [ _('%s was refused.').format((name == device.client) ? name : `${name} (${device.client})`) ]),
			(listeners.length > 1) ? E('p', [ _('Listener:'), ' ', which ]) : '',
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
	 * Saves the list of allowed networks.
	 *
	 * @param {string} section the listener
	 * @param {string[]} list the allowed networks
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
