'use strict';
'require baseclass';
'require smtprelay.text as text';

/*
 * What the daemon tells of itself, as sentences and colours. No part of the page is touched here.
 */

/** A certificate that ends sooner than this, in seconds, should have been renewed. */
const SOON = 14 * 86400;

/**
 * How many messages wait.
 *
 * @param {number} count messages in the queue
 * @returns {string} a part of a sentence
 */
function waiting(count) {
	return count ? N_(count, '%d mail waits', '%d mails wait').format(count) : _('nothing waits');
}

/**
 * What to do about a pause, unless the reason says it already.
 *
 * @param {{reason: string, remedy?: string | null}} pause the pause
 * @returns {string} a sentence, or nothing
 */
function remedy(pause) {
	return pause.reason.includes(pause.remedy || '') ? '' : text.plain(pause.remedy, 400);
}

return baseclass.extend({
	/**
	 * Everything in one line.
	 *
	 * @param {Smtprelay.Status | null} status what the daemon tells; null while it does not run
	 * @param {Date} [now] the present
	 * @returns {Smtprelay.Health} the line
	 */
	line(status, now) {
		if (!status)
			return { level: 'bad', text: _('Not running.'), remedy: _('Switch the service on in the settings; the system log says why it did not start.') };

		if (status.state == 'no_account')
			return { level: 'warning', text: _('No account is set up yet: mail is kept and not sent.'), remedy: '' };

		if (status.state == 'paused')
			return this.trouble(status);

		const today = status.today ? status.today.delivered : 0;
		const mails = today ? N_(today, '%d mail today', '%d mails today').format(today) : _('No mail today');
		const last = status.last;
		const lately = last
			? _('Relaying. %s, last %s to %s over %s.').format(mails, text.time(last.time, now), text.plain(last.to, 80), text.protection(last.tls, last.verified))
			: _('Relaying. %s.').format(mails);

		if (!status.clock.set)
			return { level: 'warning', text: _('The clock is not set yet: certificates can\'t be judged, so mail waits.'), remedy: _('See System, Time synchronization.') };

		if (last && (!text.isProtected(last.tls) || last.verified == 'no'))
			return { level: 'warning', text: lately, remedy: _('The last mail could be read on its way.') };

		// What the page shows as set is not what is in use; the reason is among the notes.
		const refused = status.settings && status.settings.error;

		return { level: refused ? 'bad' : 'good', text: lately, remedy: status.queue.messages ? _('Now %s.').format(waiting(status.queue.messages)) : '' };
	},

	/**
	 * The line before anything is set up: that the service does not run yet is no trouble, then.
	 *
	 * @returns {Smtprelay.Health} the line
	 */
	fresh() {
		return { level: 'neutral', text: _('Not set up yet: your devices can send as soon as there is an account.'), remedy: '' };
	},

	/**
	 * The line while nothing can leave.
	 *
	 * @param {Smtprelay.Status} status what the daemon tells
	 * @returns {Smtprelay.Health} the line
	 */
	trouble(status) {
		const paused = status.accounts.map((account) => account.paused).find((pause) => pause != null);

		if (!paused)
			return { level: 'bad', text: _('Not relaying, %s: %s').format(waiting(status.queue.messages), text.plain(status.health, 400)), remedy: '' };

		return {
			level: 'bad',
			text: _('Not relaying, %s, next try in %s: %s').format(waiting(status.queue.messages), text.duration(paused.next), text.plain(paused.reason, 400)),
			remedy: remedy(paused)
		};
	},

	/**
	 * How an account stands.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @returns {Smtprelay.Health} its state in words
	 */
	account(account) {
		if (account.paused) {
			return {
				level: 'bad',
				text: _('Paused for %s, next try in %s: %s').format(text.duration(account.paused.since), text.duration(account.paused.next), text.plain(account.paused.reason, 400)),
				remedy: remedy(account.paused)
			};
		}

		if (account.secret == 'missing') {
			return {
				level: 'bad',
				text: (account.auth == 'xoauth2') ? _('Nobody has signed in yet.') : _('No password is stored.'),
				remedy: (account.auth == 'xoauth2') ? _('Sign in below.') : _('Set the password in the settings of the account.')
			};
		}

		if (!account.last)
			return { level: 'neutral', text: _('Nothing was sent through it yet.'), remedy: '' };

		return { level: 'good', text: _('Last mail %s to %s.').format(text.time(account.last.time), text.plain(account.last.to, 80)), remedy: '' };
	},

	/**
	 * How the connection to the provider is protected.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @returns {Smtprelay.Badge} the badge
	 */
	badge(account) {
		const last = account.last;

		if (account.tls_mode == 'none')
			return { level: 'bad', label: _('no TLS'), title: _('Mail goes unprotected and can be read on its way.') };

		if (!last)
			return { level: 'neutral', label: (account.tls_mode == 'starttls') ? _('STARTTLS') : _('TLS'), title: _('Required; not used yet.') };

		if (!text.isProtected(last.tls) || last.verified == 'no')
			return { level: 'bad', label: text.protection(last.tls, last.verified), title: _('Anybody on the way can read mail and password: the certificate is not checked.') };

		return { level: 'good', label: text.protection(last.tls, last.verified), title: text.plain(last.cipher) };
	},

	/**
	 * Until when the provider's certificate is good.
	 *
	 * @param {Smtprelay.Account} account the account
	 * @param {number} now seconds since 1970
	 * @returns {Smtprelay.Badge | null} null if it is not known
	 */
	expiry(account, now) {
		const expires = account.last ? account.last.expires : null;

		if (!expires)
			return null;

		const label = (expires < now)
			? _('certificate expired on %s').format(text.date(expires))
			: _('certificate until %s').format(text.date(expires));
		const level = (expires < now) ? 'bad' : (expires - now < SOON) ? 'warning' : 'neutral';

		return { level: level, label: label, title: (level == 'neutral') ? '' : _('The provider has to renew it.') };
	},

	/**
	 * What the owner should know about the settings.
	 *
	 * @param {Smtprelay.Status | null} status what the daemon tells
	 * @returns {Smtprelay.Health[]} sentences
	 */
	notes(status) {
		/** @type {Smtprelay.Health[]} */
		const notes = [];

		if (!status)
			return notes;

		const settings = status.settings;

		if (settings && settings.error)
			notes.push({ level: 'bad', text: _('The settings were refused, the former ones go on: %s').format(text.plain(settings.error, 400)), remedy: '' });

		for (const warning of (settings && settings.warnings) || [])
			notes.push({ level: 'warning', text: text.plain(warning, 400), remedy: '' });

		for (const listener of status.listeners || [])
			if (listener.note)
				notes.push({ level: 'warning', text: _('Listener %s: %s').format(text.plain(listener.name), text.plain(listener.note, 400)), remedy: '' });

		return notes;
	}
});
