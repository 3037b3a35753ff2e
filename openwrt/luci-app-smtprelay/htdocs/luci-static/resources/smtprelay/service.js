// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require uci';
'require ui';
'require smtprelay.api as api';
'require smtprelay.health as health';
'require smtprelay.text as text';
'require smtprelay.widgets as widgets';

/*
 * What a page shows while the daemon does not answer: which of the possible reasons it is, and the one button that helps.
 */

return baseclass.extend({
	/**
	 * The reason and the remedy.
	 *
	 * @param {() => Promise<unknown>} refresh refreshes the page once the service has been started
	 * @returns {Promise<HTMLElement[]>} a message, and a button if there is something to press
	 */
	async notice(refresh) {
		const writable = !!L.hasViewPermission();
		const reason = await api.absence(writable);

		if (writable && (reason == 'stopped' || reason == 'disabled')) {
			await uci.load('smtprelay');

			const relay = uci.sections('smtprelay', 'relay')[0];

			if (relay && relay.enabled != null && relay.enabled != '1')
				return [ widgets.box(health.absent('off')), this.button('smtprelay-switch-on', _('Enable the service'), () => this.enable(relay['.name'], reason == 'disabled'), refresh) ];
		}

		const line = [ widgets.box(health.absent(reason)) ];

		if (writable && (reason == 'stopped' || reason == 'disabled'))
			line.push(this.button('smtprelay-start', (reason == 'stopped') ? _('Start') : _('Enable and start'), () => api.start(reason == 'disabled'), refresh));

		return line;
	},

	/**
	 * A button that brings the service back.
	 *
	 * @param {string} id ID of the element
	 * @param {string} title its label
	 * @param {() => Promise<unknown>} action what it does
	 * @param {() => Promise<unknown>} refresh refreshes the page
	 * @returns {HTMLElement} the button
	 */
	button(id, title, action, refresh) {
		return E('button', {
			'class': 'btn cbi-button cbi-button-positive important', 'id': id,
			'click': ui.createHandlerFn(this, () => action().then(refresh).catch((error) => ui.addNotification(null, E('p', [ text.plain(error.message, 400) ]), 'error')))
		}, [ title ]);
	},

	/**
	 * Enables the service in its settings.
	 *
	 * @param {string} section the section with the option
	 * @param {boolean} disabled whether it is not started at boot either
	 * @returns {Promise<unknown>} resolves when it has been applied
	 */
	async enable(section, disabled) {
		uci.set('smtprelay', section, 'enabled', '1');
		await api.commit();
		await ui.changes.init();

		return disabled ? api.start(true) : api.pause(1000);
	}
});
