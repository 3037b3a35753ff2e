// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.sentences as sentences';
'require smtprelay.text as text';

/*
 * Turns the status of the daemon into sentences and levels. This module does not access the page.
 */

/** A certificate that expires in less than this time, in seconds, should have been renewed. */
const SOON = 14 * 86400;

/**
 * The number of queued messages in words.
 *
 * @param {number} count messages in the queue
 * @returns {string} part of a sentence
 */
function waiting(count) {
	return count ? N_(count, '%d message queued', '%d messages queued').format(count) : _('queue empty');
}

/**
 * The remedy for a pause, unless the reason already includes it.
 *
 * @param {{reason: string, remedy?: string | null}} pause the pause
 * @returns {string} a sentence; '' if there is none
 */
function remedy(pause) {
	return pause.reason.includes(pause.remedy || '') ? '' : sentences.say(pause.remedy);
}

return baseclass.extend({
	/**
	 * The overall state in one line.
	 *
	 * @param {Smtprelay.Status | null} status status of the daemon; null if it is not running
	 * @param {Date} [now] the current time
	 * @returns {Smtprelay.Health} the line
	 */
	line(status, now) {
		if (!status)
			return this.absent('stopped');

		const line = this.delivery(status, now);

		// The notes name each address and its reason.
		switch (status.reachable) {
		case 'no':
			return { level: 'bad', text: _('Devices cannot connect: see below.') + ' ' + line.text, remedy: line.remedy };
		case 'partly':
			return { level: (line.level == 'bad') ? 'bad' : 'warning', text: _('Some devices cannot connect: see below.') + ' ' + line.text, remedy: line.remedy };
		default:
			return line;
		}
	},

	/**
	 * What becomes of mail, in one line.
	 *
	 * @param {Smtprelay.Status} status status of the daemon
	 * @param {Date} [now] the current time
	 * @returns {Smtprelay.Health} the line
	 */
	delivery(status, now) {
		if (status.state == 'no_account')
			return { level: 'warning', text: _('No account has been set up yet. Mail is queued but not sent.'), remedy: '' };

		if (status.state == 'paused')
			return this.trouble(status);

		const today = status.today ? status.today.delivered : 0;
		const mails = today ? N_(today, '%d message today', '%d messages today').format(today) : _('No messages today');
		const last = status.last;
		// A message through a channel has no address.
		const to = status.accounts.some((account) => account.service && account.name == last?.account) ? last?.account : last?.to;
		const lately = last
			? _('Relaying. %s, last message: %s to %s (%s).').format(mails, text.time(last.time, now), text.plain(to, 80), text.protection(last.tls, last.verified))
			: _('Relaying. %s.').format(mails);

		if (!status.clock.set)
			return { level: 'warning', text: _('The clock is not set yet. Certificates cannot be verified, so mail stays in the queue.'), remedy: _('Check System → System → Time Synchronization.') };

		if (last && (!text.isProtected(last.tls) || last.verified == 'no'))
			return { level: 'warning', text: lately, remedy: _('The last message could have been read in transit.') };

		const unable = status.accounts.find((account) => this.account(account).level == 'bad');

		if (unable)
			return { level: 'warning', text: lately, remedy: (unable.service ? _('Channel %s cannot deliver: see below.') : _('Account %s cannot deliver: see below.')).format(text.plain(unable.name)) };

		// The configured settings are not the ones in use; the notes show the reason.
		const refused = status.settings && status.settings.error;

		return { level: refused ? 'bad' : 'good', text: lately, remedy: status.queue.messages ? _('Currently %s.').format(waiting(status.queue.messages)) : '' };
	},

	/**
	 * The line before the initial setup, when it is not an error that the service is not running.
	 *
	 * @returns {Smtprelay.Health} the line
	 */
	fresh() {
		return { level: 'neutral', text: _('Not set up yet. Your devices can send mail as soon as an account has been set up.'), remedy: '' };
	},

	/**
	 * The line while there is no status.
	 *
	 * @param {Smtprelay.Absence | 'off'} reason why; `off` if the settings disable the service
	 * @returns {Smtprelay.Health} the line
	 */
	absent(reason) {
		switch (reason) {
		case 'router':
			return { level: 'bad', text: _('The router does not answer.'), remedy: _('Check the connection to the router, then reload the page.') };
		case 'rpcd':
			return { level: 'bad', text: _('The state cannot be read: rpcd is not running on the router.'), remedy: _('Mail is not affected. On the router, run: service rpcd restart') };
		case 'session':
			return { level: 'warning', text: _('The session has expired.'), remedy: _('Mail is not affected. Log in again.') };
		case 'silent':
			return { level: 'bad', text: _('The service is running, but does not answer.'), remedy: _('The system log shows the reason.') };
		case 'off':
			return { level: 'warning', text: _('The service is not running: it is disabled in the settings.'), remedy: '' };
		case 'disabled':
			return { level: 'warning', text: _('The service is not running: it is disabled under System → Startup.'), remedy: '' };
		default:
			return { level: 'bad', text: _('The service is not running: it was stopped, or failed to start.'), remedy: _('If it does not start, the system log shows the reason.') };
		}
	},

	/**
	 * The line while delivery is paused.
	 *
	 * @param {Smtprelay.Status} status status of the daemon
	 * @returns {Smtprelay.Health} the line
	 */
	trouble(status) {
		const paused = status.accounts.map((account) => account.paused).find((pause) => pause != null);

		const locked = status.accounts.find((account) => account.secret == 'missing');

		if (!paused && locked) {
			const state = this.account(locked);

			return {
				level: 'bad',
				text: _('Not relaying (%s): %s').format(waiting(status.queue.messages), `${text.plain(locked.name)}: ${state.text}`),
				remedy: state.remedy
			};
		}

		if (!paused)
			return { level: 'bad', text: _('Not relaying (%s): %s').format(waiting(status.queue.messages), sentences.say(status.health)), remedy: '' };

		return {
			level: 'bad',
			text: _('Not relaying (%s, next attempt in %s): %s').format(waiting(status.queue.messages), text.duration(paused.next), sentences.say(paused.reason)),
			remedy: remedy(paused)
		};
	},

	/**
	 * The state of an account.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @returns {Smtprelay.Health} the state in words
	 */
	account(account) {
		if (account.paused) {
			return {
				level: 'bad',
				text: _('Paused for %s, next attempt in %s: %s').format(text.duration(account.paused.since), text.duration(account.paused.next), sentences.say(account.paused.reason)),
				remedy: remedy(account.paused)
			};
		}

		if (account.secret == 'missing') {
			return {
				level: 'bad',
				text: (account.auth == 'xoauth2') ? _('Not signed in yet.') : account.service ? _('No token is stored.') : _('No password is stored.'),
				remedy: ''
			};
		}

		if (account.failed_test) {
			return {
				level: 'bad',
				text: _('The last test message was not accepted (%s): %s').format(text.time(account.failed_test.time), sentences.say(account.failed_test.text)),
				remedy: ''
			};
		}

		if (!account.last)
			return { level: 'neutral', text: account.service ? _('No message has been sent through this channel yet.') : _('No message has been sent through this account yet.'), remedy: '' };

		// Its recipient is a name for the route.
		if (account.service)
			return { level: 'good', text: _('Last message: %s.').format(text.time(account.last.time)), remedy: '' };

		return { level: 'good', text: _('Last message: %s to %s.').format(text.time(account.last.time), text.plain(account.last.to, 80)), remedy: '' };
	},

	/**
	 * How the connection to the provider is encrypted.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @returns {Smtprelay.Badge} the badge
	 */
	badge(account) {
		const last = account.last;

		if (account.tls_mode == 'none')
			return { level: 'bad', label: _('no TLS'), title: _('Mail is sent unencrypted and can be read in transit.') };

		if (!last)
			return { level: 'neutral', label: (account.tls_mode == 'starttls') ? _('STARTTLS') : _('TLS'), title: _('Required, not used yet.') };

		if (!text.isProtected(last.tls) || last.verified == 'no')
			return { level: 'bad', label: text.protection(last.tls, last.verified), title: _('The certificate is not verified: anyone on the network path can read the mail and the password.') };

		return { level: 'good', label: text.protection(last.tls, last.verified), title: text.plain(last.cipher) };
	},

	/**
	 * When the provider's certificate expires.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @param {number} now seconds since 1970
	 * @returns {Smtprelay.Badge | null} null if it is unknown
	 */
	expiry(account, now) {
		const expires = account.last ? account.last.expires : null;

		if (!expires)
			return null;

		const label = (expires < now)
			? _('certificate expired on %s').format(text.date(expires))
			: _('certificate valid until %s').format(text.date(expires));
		const level = (expires < now) ? 'bad' : (expires - now < SOON) ? 'warning' : 'neutral';

		return { level: level, label: label, title: (level == 'neutral') ? '' : _('The provider has to renew it.') };
	},

	/**
	 * Errors and warnings about the settings.
	 *
	 * @param {Smtprelay.Status | null} status status of the daemon
	 * @returns {Smtprelay.Health[]} the messages
	 */
	notes(status) {
		/** @type {Smtprelay.Health[]} */
		const notes = [];

		if (!status)
			return notes;

		const settings = status.settings;
		const silent = (status.expected || []).filter((device) => device.overdue).map((device) => text.plain(device.device, 60));

		if (silent.length)
			notes.push({ level: 'warning', text: _('Silent for too long: %s. See the devices below.').format(silent.join(', ')), remedy: '' });

		if (settings && settings.error)
			notes.push({ level: 'bad', text: _('The settings were rejected, the previous settings remain in use: %s').format(sentences.say(settings.error)), remedy: '' });

		for (const warning of (settings && settings.warnings) || [])
			notes.push({ level: 'warning', text: sentences.say(warning), remedy: '' });

		for (const listener of status.listeners || [])
			if (listener.note)
				notes.push({ level: 'warning', text: _('Listener %s: %s').format(text.plain(listener.name), sentences.say(listener.note)), remedy: '' });

		return notes;
	}
});
