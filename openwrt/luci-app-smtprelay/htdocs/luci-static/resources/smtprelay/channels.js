// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.check as check';
'require smtprelay.sentences as sentences';
'require smtprelay.text as text';

/*
 * Channels as the wizard needs them: which fields a service requires, which options are written to the settings, and
 * which mail takes the channel. What a service requires is the daemon's data. This module does not access the page.
 */

/** The service whose request the settings describe: too much for the wizard. */
const CUSTOM = 'custom';

/**
 * The entries of a list option.
 *
 * @param {unknown} value the option: a list, a single text, or nothing
 * @returns {string[]} the entries
 */
function list(value) {
	return /** @type {string[]} */ ([]).concat(/** @type {any} */ (value ?? []));
}

/**
 * Whether a list has one entry only, and which.
 *
 * @param {unknown} value the option
 * @param {string} entry the entry
 * @returns {boolean} true if it has no others
 */
function isOnly(value, entry) {
	const entries = list(value);

	return entries.length == 1 && entries[0].toLowerCase() == entry.toLowerCase();
}

return baseclass.extend({
	/**
	 * The services that the wizard offers.
	 *
	 * @param {Smtprelay.Service[]} services all services
	 * @returns {Smtprelay.Service[]} those, in the order of the daemon
	 */
	offered(services) {
		return services.filter((service) => service.id != CUSTOM);
	},

	/**
	 * The display name of a service.
	 *
	 * @param {Smtprelay.Service} service the service
	 * @returns {string} its name
	 */
	title(service) {
		return (service.id == CUSTOM) ? _('other (a request of your own)') : text.plain(service.name || service.id, 60);
	},

	/**
	 * A sentence of the daemon that stands alone on the page.
	 *
	 * @param {string} sentence such as 'the token is …'
	 * @returns {string} the same in the language of the page, with a capital letter
	 */
	capital(sentence) {
		const said = sentences.say(sentence);

		return said.charAt(0).toUpperCase() + said.slice(1);
	},

	/**
	 * What the service calls the token.
	 *
	 * @param {Smtprelay.Service | null} service the service
	 * @returns {string} title of the field
	 */
	tokenTitle(service) {
		switch (service ? service.token : '') {
		case 'address':
			return _('Webhook address');
		case 'optional':
			return _('Token (optional)');
		default:
			return _('Token');
		}
	},

	/**
	 * The address that stands for a channel in routes and aliases; no mail is sent to it.
	 *
	 * @param {string} name name of the channel
	 * @returns {string} the address
	 */
	address(name) {
		return `${name}@channel.invalid`;
	},

	/**
	 * Checks the answers.
	 *
	 * @param {Smtprelay.Service} service the service
	 * @param {Smtprelay.ChannelAnswers} answers the values entered
	 * @returns {string} an error message; '' if all answers are valid
	 */
	problem(service, answers) {
		if (service.own && ((!service.base && !answers.url) || check.url(answers.url) !== true))
			return _('Enter the address of your server, for example https://push.example.com.');
		if (service.to && !answers.to)
			return _('Enter who gets the messages: %s.').format(sentences.say(service.to));
		if (service.token != 'optional' && !answers.token)
			return (service.token == 'address') ? _('Enter the webhook address.') : _('Enter the token.');
		if (service.token == 'address' && check.url(answers.token) !== true)
			return _('The webhook address must begin with https://.');
		if (answers.mail == 'also' && !check.isAddress(answers.alias))
			return _('Enter the address whose mail goes to the channel as well.');

		return '';
	},

	/**
	 * The options of the channel. The token is not included: it is stored by the service.
	 *
	 * @param {Smtprelay.Service} service the service
	 * @param {Smtprelay.ChannelAnswers} answers the values entered
	 * @returns {Record<string, string | null>} options of the section
	 */
	options(service, answers) {
		return {
			service: service.id,
			url: (service.own && answers.url) || null,
			to: (service.to && answers.to) || null,
			default: (answers.mail == 'all') ? '1' : null
		};
	},

	/**
	 * What has to change in routes and aliases so that mail takes the channel as wanted. What an earlier attempt of the
	 * wizard has written for this channel, and nothing else, is taken back.
	 *
	 * @param {string} name name of the channel
	 * @param {{mail: string, alias: string}} wanted which mail
	 * @param {Smtprelay.Section[]} sections all sections
	 * @returns {Smtprelay.ChannelPlan} sections to remove, to add, and to change
	 */
	plan(name, wanted, sections) {
		const address = this.address(name);
		const isAddress = (/** @type {string} */ entry) => entry.toLowerCase() == address.toLowerCase();
		const ofType = (/** @type {string} */ type) => sections.filter((section) => section['.type'] == type);
		const routes = ofType('route').filter((section) => isOnly(section.recipient, address) && isOnly(section.account, name));
		const needsRoute = wanted.mail == 'also' || wanted.mail == 'only';
		/** @type {Smtprelay.ChannelPlan} */
		const plan = { remove: [], set: [], add: [] };

		if (!needsRoute)
			plan.remove.push(...routes.map((section) => section['.name']));
		else if (!routes.length)
			plan.add.push({ type: 'route', options: { recipient: [ address ], account: [ name ] } });

		let there = wanted.mail != 'also';

		for (const alias of ofType('alias')) {
			const names = list(alias.name);
			const to = list(alias.to);
			const others = to.filter((entry) => !isAddress(entry));
			const isMeant = !there && names.some((entry) => entry.toLowerCase() == wanted.alias.toLowerCase());

			if (isMeant) {
				there = true;

				if (others.length == to.length)
					plan.set.push({ name: alias['.name'], option: 'to', value: to.concat([ address ]) });
			}
			else if (others.length < to.length) {
				// An alias that only says that mail to an address goes to that address says nothing.
				if (!others.length || (names.length == 1 && isOnly(others, names[0])))
					plan.remove.push(alias['.name']);
				else
					plan.set.push({ name: alias['.name'], option: 'to', value: others });
			}
		}

		if (!there)
			plan.add.push({ type: 'alias', options: { name: [ wanted.alias ], to: [ wanted.alias, address ] } });

		return plan;
	}
});
