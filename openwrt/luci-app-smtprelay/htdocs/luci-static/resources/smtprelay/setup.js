// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.certificate as certificate';
'require smtprelay.presets as presets';
'require smtprelay.sentences as sentences';
'require smtprelay.widgets as widgets';

/*
 * What the wizards for accounts and for channels have in common: their fields, what the service needs besides, and the
 * way from the settings to a test message that has arrived.
 */

/** Timeout for the start of the service, in seconds. */
const START_TIME = 25;

return baseclass.extend({
	/**
	 * A text field.
	 *
	 * @param {string} id suffix of its element ID
	 * @param {Record<string, unknown>} [attributes] additional attributes
	 * @returns {HTMLInputElement} the field
	 */
	input(id, attributes) {
		return E('input', Object.assign({ 'type': 'text', 'class': 'cbi-input-text', 'id': `smtprelay-${id}`, 'autocomplete': 'off' }, attributes));
	},

	/**
	 * A selection list.
	 *
	 * @param {string} id suffix of its element ID
	 * @param {string[][]} choices values and labels
	 * @returns {HTMLSelectElement} the list
	 */
	select(id, choices) {
		return E('select', { 'class': 'cbi-input-select', 'id': `smtprelay-${id}` },
			choices.map(([ value, label ]) => E('option', { 'value': value }, [ label ])));
	},

	/**
	 * Prepares the settings for an account or channel: the service is enabled and listens.
	 *
	 * @param {string} name name of its section; '' if it has none yet
	 */
	prepare(name) {
		const sections = uci.sections('smtprelay');
		const relay = sections.find((section) => section['.type'] == 'relay');

		// The default configuration contains an empty account.
		for (const account of sections.filter((section) => section['.type'] == 'account'))
			if (!presets.isFilledIn(account) && account['.name'] != name)
				uci.remove('smtprelay', account['.name']);

		if (!relay)
			uci.add('smtprelay', 'relay', 'main');
		else if (relay.enabled != null && relay.enabled != '1')
			uci.set('smtprelay', relay['.name'], 'enabled', '1');

		if (!sections.some((section) => section['.type'] == 'listener')) {
			uci.add('smtprelay', 'listener', 'lan');
			uci.set('smtprelay', 'lan', 'interface', [ 'lan' ]);
		}
	},

	/**
	 * Saves and applies the settings, logs in, and sends a test message.
	 *
	 * @param {Smtprelay.SetUp} plan what is set up
	 * @param {HTMLElement} place where progress is shown
	 * @param {() => void} finished called when the user leaves the wizard
	 */
	async run(plan, place, finished) {
		const work = E('div', { 'class': 'spinning' }, [ _('Saving settings…') ]);
		const more = E('div');

		widgets.replace(place, []);
		place.appendChild(work);
		place.appendChild(more);

		try {
			await this.apply(plan.name);
			await plan.login((text) => { work.textContent = text; }, more);
			work.textContent = plan.sending;

			const job = await api.follow(await api.test(plan.to, plan.name), (state) => widgets.replace(more, [ widgets.chain(state.steps) ]), () => !more.isConnected);

			if (!job)
				return;

			if (job.state == 'failed')
				throw Object.assign(new Error(job.text || _('The test message was not accepted.')), { certificate: job.certificate, section: plan.name });

			more.appendChild(widgets.box({ level: 'good', text: plan.accepted, remedy: '' }));
			more.appendChild(E('button', { 'class': 'btn cbi-button', 'id': 'smtprelay-finished', 'click': finished }, [ _('Back to overview') ]));
		}
		finally {
			if (work.parentNode)
				work.parentNode.removeChild(work);
		}
	},

	/**
	 * Shows why an attempt has failed, below what is shown of its progress. A certificate that was not trusted is offered to be
	 * trusted.
	 *
	 * @param {unknown} error the error
	 * @param {HTMLElement} place where progress is shown
	 * @param {() => Promise<void>} again makes the attempt again
	 */
	failed(error, place, again) {
		const { message, certificate: seen, section } = /** @type {Error & { certificate?: Smtprelay.Certificate, section?: string }} */ (error);

		place.appendChild(widgets.box({ level: 'bad', text: sentences.say(message), remedy: '' }));

		if (seen && section)
			place.appendChild(certificate.offer(seen, section, again));
	},

	/**
	 * The buttons of a wizard.
	 *
	 * @param {() => Promise<void>} submit saves the settings and sends a test message
	 * @param {() => void} [cancelled] called when the user gives up; without it, there is no button for that
	 * @returns {HTMLElement} the last line of the wizard
	 */
	buttons(submit, cancelled) {
		return E('div', { 'class': 'right' }, [
			cancelled ? E('button', { 'class': 'btn cbi-button cbi-button-neutral', 'id': 'smtprelay-cancel', 'click': cancelled }, [ _('Cancel') ]) : '',
			' ',
			E('button', {
				'class': 'btn cbi-button cbi-button-positive important', 'id': 'smtprelay-save',
				'click': ui.createHandlerFn(this, submit)
			}, [ _('Save and send test message') ])
		]);
	},

	/**
	 * Writes the settings and waits until the service uses them.
	 *
	 * @param {string} name section of the account or channel that the service must use
	 */
	async apply(name) {
		const before = await api.status();

		await api.commit();
		await L.resolveDefault(ui.changes.init());

		if (before) {
			// Reports errors in the file; procd also triggers a reload, one second later.
			await api.reload().catch((error) => {
				if (error.kind == 'wrong' || error.kind == 'failed')
					throw error;
			});
		}

		const status = await api.awaitAccount(name, START_TIME);

		if (status)
			return;

		const late = await api.status();

		if (late && late.settings && late.settings.error)
			throw new Error(late.settings.error);

		throw new Error(late
			? _('The service does not use the account yet. The system log shows the reason.')
			: _('The service did not start. Check that smtprelay is enabled under System → Startup. The system log shows the reason.'));
	}
});
