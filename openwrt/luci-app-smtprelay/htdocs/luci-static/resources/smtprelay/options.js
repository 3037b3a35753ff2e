// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.check as check';

/*
 * Every option of the settings: its form field, description and default. docs/reference/settings.md documents the same
 * options, src/config/options.rs is the daemon's table of them; tests/luci compares all three.
 *
 * kind: flag, text, list, choice, password, secret, interfaces, provider, service, and names of sections: accounts (with
 * channels), devices, users. preset: the default, shown as placeholder. check: see check.js. when: options that it depends on.
 */

return baseclass.extend({
	/**
	 * The section types in the order in which they are shown.
	 *
	 * @returns {Smtprelay.SectionForm[]} the forms
	 */
	sections() {
		return [ this.accounts(), this.channels(), this.listeners(), this.devices(), this.aliases(), this.routes(), this.escalations(), this.users(), this.relay() ];
	},

	/**
	 * Section `account`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	accounts() {
		return {
			type: 'account', title: _('Accounts'), named: true, columns: [ 'enabled', 'provider', 'username' ],
			help: _('Accounts at mail providers, in order of preference. Mail is sent through the first account that is working.'),
			tabs: [ [ 'login', _('Login') ], [ 'sender', _('Sender') ], [ 'server', _('Server') ], [ 'oauth', _('OAuth 2.0') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'login', preset: '1', title: _('Enabled'), help: _('Use this account.') },
				{ name: 'provider', kind: 'provider', tab: 'login', preset: _('detected from the address'), title: _('Provider'), help: _('Preset for server, port, TLS, sender policy and username.') },
				{ name: 'username', kind: 'text', tab: 'login', check: check.text, title: _('Username'), placeholder: 'me@example.com', help: _('Login name; with most providers this is the email address.') },
				{ name: 'password', kind: 'password', tab: 'login', title: _('Password'), help: _('Many providers require an app password. The service stores the password and never shows it again. Leave empty to keep the stored password.') },
				{ name: 'region', kind: 'text', tab: 'login', when: { provider: 'ses' }, check: check.region, title: _('Region'), placeholder: 'eu-central-1', help: _('Region of the account at Amazon SES.') },
				{ name: 'auth', kind: 'choice', tab: 'login', preset: 'password', choices: [ [ 'password', _('password') ], [ 'xoauth2', _('OAuth 2.0 tokens') ] ], title: _('Authentication'), help: _('With OAuth 2.0, sign in once in a browser; see the overview page.') },
				{ name: 'from', kind: 'text', tab: 'sender', check: check.address, preset: _('the username, if it is an address'), title: _('Sender address'), help: _('Sender address that the provider allows.') },
				{ name: 'from_policy', kind: 'choice', tab: 'sender', preset: _('from the preset, otherwise account'), choices: [ [ 'account', _('account: replace the sender with the address above') ], [ 'domain', _('domain: replace only if the domain differs') ], [ 'keep', _('keep: leave unchanged') ] ], title: _('Sender policy'), help: _('How the sender specified by a device is handled. If it is replaced, the original address is moved to the display name and Reply-To.') },
				{ name: 'null_sender', kind: 'choice', tab: 'sender', preset: _('from the preset, otherwise yes'), choices: [ [ '1', _('yes') ], [ '0', _('no') ] ], title: _('Accepts the null sender'), help: _('Select no if the provider rejects delivery status notifications because they have no sender. They are then sent from the sender address.') },
				{ name: 'default', kind: 'flag', tab: 'sender', preset: '1', title: _('Use for all mail'), help: _('If disabled, the account is only used for mail that is explicitly assigned to it.') },
				{ name: 'host', kind: 'text', tab: 'server', check: check.server, preset: _('from the preset'), title: _('Mail server'), help: _('Mail server of the provider. Its certificate must be valid for this name.') },
				{ name: 'port', kind: 'text', tab: 'server', check: check.numberFrom(1, 65535), preset: '465', title: _('Port'), help: _('Default without a preset: 465, 587 with STARTTLS, 25 without TLS.') },
				{ name: 'tls', kind: 'choice', tab: 'server', preset: 'implicit', choices: [ [ 'implicit', _('implicit TLS') ], [ 'starttls', _('STARTTLS (required)') ], [ 'none', _('none (unencrypted)') ] ], title: _('Encryption'), help: _('Without TLS, only accounts without a login can be used.') },
				{ name: 'verify', kind: 'flag', tab: 'server', preset: '1', title: _('Verify certificate'), help: _('If disabled, anyone on the network path can read the mail and the password. For testing only.') },
				{ name: 'ca_file', kind: 'text', tab: 'server', check: check.path, preset: _('system CA certificates'), title: _('CA file'), help: _('PEM file with the trusted certificate authorities, for a mail server of your own.') },
				{ name: 'fingerprint', kind: 'text', tab: 'server', check: check.fingerprint, title: _('Certificate fingerprint'), placeholder: 'AA:BB:…', help: _('SHA-256 fingerprint of the only certificate to trust, as printed by openssl x509 -fingerprint -sha256.') },
				{ name: 'connections', kind: 'text', tab: 'server', check: check.numberFrom(1, 16), preset: '2', title: _('Maximum connections'), help: _('Maximum number of simultaneous connections to the provider.') },
				{ name: 'timeout', kind: 'text', tab: 'server', check: check.durationFrom(5, 600), preset: '2m', title: _('Timeout'), help: _('Time to wait for a reply from the provider. If it is too short, messages may be delivered twice.') },
				{ name: 'oauth', kind: 'choice', tab: 'oauth', when: { auth: 'xoauth2' }, choices: [ [ 'google', 'Google' ], [ 'microsoft', 'Microsoft' ], [ 'custom', _('other authorization server') ] ], title: _('Authorization server'), help: _('Server that issues the tokens.') },
				{ name: 'client_id', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.text, title: _('Client ID'), help: _('ID of your own OAuth client at the provider; none is included.') },
				{ name: 'client_secret', kind: 'secret', tab: 'oauth', when: { auth: 'xoauth2' }, title: _('Client secret'), help: _('Google shows it next to the client ID; Microsoft does not use one. Leave empty to keep the current value.') },
				{ name: 'device_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('default of the authorization server'), title: _('Device authorization URL'), help: _('Where the authorization server issues the code that the user enters.') },
				{ name: 'auth_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('default of the authorization server'), title: _('Authorization URL'), help: _('Where the user signs in if the server does not issue codes.') },
				{ name: 'token_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('default of the authorization server'), title: _('Token URL'), help: _('Where tokens are renewed.') },
				{ name: 'scope', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.text, preset: _('default of the authorization server'), title: _('Scope'), help: _('Permissions granted by the token.') }
			]
		};
	},

	/**
	 * Section `channel`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	channels() {
		return {
			type: 'channel', title: _('Channels'), named: true, columns: [ 'enabled', 'service', 'to' ],
			help: _('Push and chat services that get messages instead of mail. Routes, devices and users select a channel like an account.'),
			tabs: [ [ 'service', _('Service') ], [ 'server', _('Server') ], [ 'request', _('Request') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'service', preset: '1', title: _('Enabled'), help: _('Use this channel.') },
				{ name: 'service', kind: 'service', needed: true, tab: 'service', title: _('Service'), help: _('Service that gets the messages. On the overview page, a wizard adds a channel and explains what its service requires.') },
				{ name: 'to', kind: 'text', tab: 'service', check: check.text, title: _('Recipient'), help: _('Who gets the messages: the topic (ntfy), chat ID (Telegram), user key (Pushover) or room ID (Matrix).') },
				{ name: 'token', kind: 'password', tab: 'service', title: _('Token'), help: _('The secret of the service; for Slack, Teams and Discord the whole address of the webhook. The service stores it and never shows it again. Leave empty to keep the stored token.') },
				{ name: 'priority', kind: 'choice', tab: 'service', preset: 'normal', choices: [ [ 'low', _('low: without a sound') ], [ 'normal', _('normal') ], [ 'high', _('high') ], [ 'urgent', _('urgent') ] ], title: _('Priority'), help: _('Priority of the messages, if the service has priorities.') },
				{ name: 'picture', kind: 'flag', tab: 'service', when: { service: /^(ntfy|telegram|pushover|discord)$/ }, preset: '1', title: _('Send picture'), help: _('Send the first picture of a message with its text. If the service refuses it, the text is sent without it.') },
				{ name: 'default', kind: 'flag', tab: 'service', preset: '0', title: _('Use for all mail'), help: _('Also use the channel for mail that no route sends elsewhere, after the accounts.') },
				{ name: 'url', kind: 'text', tab: 'server', check: check.url, preset: _('from the service'), title: _('Server'), help: _('Address of your own server, beginning with https://. Required for Gotify, Matrix, Home Assistant and a request of your own.') },
				{ name: 'ca_file', kind: 'text', tab: 'server', check: check.path, preset: _('system CA certificates'), title: _('CA file'), help: _('PEM file with the trusted certificate authorities, for a server of your own.') },
				{ name: 'fingerprint', kind: 'text', tab: 'server', check: check.fingerprint, title: _('Certificate fingerprint'), placeholder: 'AA:BB:…', help: _('SHA-256 fingerprint of the only certificate to trust, as printed by openssl x509 -fingerprint -sha256.') },
				{ name: 'timeout', kind: 'text', tab: 'server', check: check.durationFrom(5, 600), preset: '30s', title: _('Timeout'), help: _('Time to wait for the answer of the service.') },
				{ name: 'method', kind: 'choice', tab: 'request', when: { service: 'custom' }, preset: 'POST', choices: [ [ 'GET', 'GET' ], [ 'POST', 'POST' ], [ 'PUT', 'PUT' ] ], title: _('Method'), help: _('Method of the request.') },
				{ name: 'header', kind: 'list', tab: 'request', when: { service: 'custom' }, placeholder: 'Authorization: Bearer {token}', check: check.header, title: _('Header fields'), help: _('Additional header fields of the request.') },
				{ name: 'body', kind: 'text', tab: 'request', when: { service: 'custom' }, placeholder: '{"title":"{subject}","message":"{text}"}', check: check.template, title: _('Body'), help: _('Template of the request with the placeholders {subject}, {text}, {from}, {device}, {id}, {time}, {to}, {priority} and {token}.') },
				{ name: 'content', kind: 'choice', tab: 'request', when: { service: 'custom' }, preset: 'json', choices: [ [ 'json', 'JSON' ], [ 'form', _('form') ] ], title: _('Format'), help: _('Format of the body; values are escaped accordingly.') }
			]
		};
	},

	/**
	 * Section `listener`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	listeners() {
		return {
			type: 'listener', title: _('Listeners'), named: true, columns: [ 'enabled', 'interface', 'port' ],
			help: _('Where devices connect, and which devices are allowed.'),
			tabs: [ [ 'where', _('General') ], [ 'who', _('Access') ], [ 'tls', _('TLS') ], [ 'limits', _('Limits') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'where', preset: '1', title: _('Enabled'), help: _('Accept connections from devices.') },
				{ name: 'interface', kind: 'interfaces', tab: 'where', title: _('Interfaces'), help: _('Interfaces to listen on. Address changes are followed automatically.') },
				{ name: 'address', kind: 'list', tab: 'where', check: check.ip, title: _('IP addresses'), placeholder: '192.168.1.1', help: _('Fixed addresses to listen on; 0.0.0.0 means all IPv4 and :: all IPv6 addresses.') },
				{ name: 'port', kind: 'text', tab: 'where', check: check.numberFrom(0, 65535), preset: '25', title: _('Port'), help: _('TCP port that devices connect to.') },
				{ name: 'dialect', kind: 'choice', tab: 'where', preset: 'tolerant', choices: [ [ 'tolerant', _('tolerant: accept malformed SMTP if the intent is clear') ], [ 'strict', _('strict: accept only what RFC 5321 allows') ] ], title: _('SMTP dialect'), help: _('How strictly devices must follow the protocol.') },
				{ name: 'allow', kind: 'list', tab: 'who', check: check.network, placeholder: '192.168.1.0/24', title: _('Allowed networks'), help: _('Networks that are allowed to send; all other clients are refused immediately. If empty: the subnets of the interfaces listened on, and the router itself.') },
				{ name: 'auth', kind: 'choice', tab: 'who', preset: 'ignore', choices: [ [ 'ignore', _('ignore: accept any login') ], [ 'none', _('none: do not offer authentication') ], [ 'optional', _('optional: a login must be valid, but is not required') ], [ 'required', _('required: no mail without a valid login') ] ], title: _('Authentication'), help: _('How logins from devices are handled. The valid logins are configured on the Users tab.') },
				{ name: 'tls', kind: 'choice', tab: 'tls', preset: 'none', choices: [ [ 'none', _('none') ], [ 'starttls', _('STARTTLS (offered)') ], [ 'implicit', _('implicit TLS, usually port 465') ] ], title: _('Encryption'), help: _('Many old devices try STARTTLS if it is offered, and then give up.') },
				{ name: 'certificate', kind: 'text', tab: 'tls', check: check.path, preset: _('the router\'s, otherwise a generated one'), title: _('Certificate'), help: _('File with the certificate chain, PEM or DER.') },
				{ name: 'key', kind: 'text', tab: 'tls', check: check.path, preset: _('the router\'s, otherwise a generated one'), title: _('Private key'), help: _('File with the private key of the certificate: ECDSA P-256 or P-384.') },
				{ name: 'max_sessions', kind: 'text', tab: 'limits', check: check.numberFrom(1, 10000), preset: '600', title: _('Maximum connections'), help: _('Maximum number of simultaneous sessions, a quarter of them per client address. Further connections wait without an error.') },
				{ name: 'max_sessions_per_client', kind: 'text', tab: 'limits', check: check.numberFrom(1, 10000), preset: '500', title: _('Maximum connections per client'), help: _('Further connections are refused with a temporary error.') },
				{ name: 'max_recipients', kind: 'text', tab: 'limits', check: check.numberFrom(1, 1000), preset: '100', title: _('Maximum recipients'), help: _('Maximum number of recipients per message.') },
				{ name: 'timeout', kind: 'text', tab: 'limits', check: check.durationFrom(1), preset: '5m', title: _('Timeout'), help: _('Time to wait for an idle client.') }
			]
		};
	},

	/**
	 * Section `device`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	devices() {
		return {
			type: 'device', title: _('Devices'), named: true, columns: [ 'name', 'ip', 'mac', 'rate' ],
			help: _('Rules for mail from individual devices. The section named default applies to all devices without a section of their own.'),
			tabs: [ [ 'who', _('Identification') ], [ 'mail', _('Mail') ], [ 'rate', _('Rate limit') ], [ 'silence', _('Silence') ] ],
			options: [
				{ name: 'name', kind: 'text', tab: 'who', check: check.text, preset: _('name of the section'), title: _('Display name'), help: _('Display name in the From header if the device does not specify one.') },
				{ name: 'ip', kind: 'list', tab: 'who', check: check.network, placeholder: '192.168.1.20', title: _('IP addresses'), help: _('IP addresses of the device, or networks; all members of a network are included.') },
				{ name: 'mac', kind: 'list', tab: 'who', check: check.mac, placeholder: '00:11:22:aa:bb:cc', title: _('MAC addresses'), help: _('For devices whose IP address changes.') },
				{ name: 'host', kind: 'list', tab: 'who', check: check.host, placeholder: 'plc-1', title: _('DHCP hostnames'), help: _('Hostnames that the device sends in its DHCP requests. Any other device could use the same name.') },
				{ name: 'account', kind: 'accounts', tab: 'mail', preset: _('as for all other mail'), title: _('Accounts'), help: _('Accounts used to send mail from this device, in order of preference.') },
				{ name: 'after', kind: 'text', tab: 'mail', check: check.durationFrom(10, 604800, true), preset: '0', title: _('Channels after'), help: _('The channels among these accounts are only used for mail that has not left by then; at least 10s.') },
				{ name: 'recipient', kind: 'list', tab: 'mail', check: check.recipient, placeholder: 'ops@example.com', title: _('Recipients'), help: _('Recipients of all mail from this device, whatever recipient it specifies: addresses or names of aliases.') },
				{ name: 'allow_recipient', kind: 'list', tab: 'mail', check: check.pattern, placeholder: '*@example.com', title: _('Allowed recipients'), help: _('Leave empty to allow all recipients. * matches any characters.') },
				{ name: 'rewrite', kind: 'list', tab: 'mail', check: check.rewrite, placeholder: '*@plant.local ops@example.com', title: _('Rewrite recipients'), help: _('A pattern and a new recipient, separated by a space. The first match applies.') },
				{ name: 'rate', kind: 'text', tab: 'rate', check: check.rate, preset: _('unlimited'), title: _('Rate limit'), help: _('Messages per unit of time, which is also the maximum burst: 20/h, 5/m, 100/d, 2/s.') },
				{ name: 'over_rate', kind: 'choice', tab: 'rate', preset: 'digest', choices: [ [ 'digest', _('digest: combine into one message per interval') ], [ 'defer', _('defer: queue until the rate limit permits') ], [ 'reject', _('reject: refuse with a temporary error') ] ], title: _('Excess messages'), help: _('How messages that exceed the rate limit are handled.') },
				{ name: 'digest_every', kind: 'text', tab: 'rate', check: check.durationFrom(10, 604800), preset: '15m', title: _('Digest interval'), help: _('Time between two digests.') },
				{ name: 'expect_every', kind: 'text', tab: 'silence', check: check.durationFrom(60, 31536000), preset: _('never'), title: _('Expect a message every'), help: _('If no message is accepted from the device for longer than this, the administrator is notified once, and once more when it is heard again: 1h, 24h, 7d. Several addresses of one section count as one device.') }
			]
		};
	},

	/**
	 * Section `alias`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	aliases() {
		return {
			type: 'alias', title: _('Aliases'), named: false, columns: [ 'name', 'to' ],
			help: _('Alternative names for addresses. Mail to a name without a domain for which there is no alias goes to the administrator.'),
			tabs: [],
			options: [
				{ name: 'name', kind: 'list', needed: true, check: check.aliasName, placeholder: 'root', title: _('Names'), help: _('An address, a name such as root, *@example.com for a domain, or * for all names without a domain.') },
				{ name: 'to', kind: 'list', needed: true, check: check.recipient, placeholder: 'ops@example.com', title: _('Recipients'), help: _('Recipients of mail to these names: addresses, or names of other aliases.') }
			]
		};
	},

	/**
	 * Section `route`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	routes() {
		return {
			type: 'route', title: _('Routes'), named: false, columns: [ 'account', 'sender', 'recipient', 'client' ],
			help: _('Send selected mail through specific accounts. The first matching rule applies; criteria that are left empty match everything.'),
			tabs: [],
			options: [
				{ name: 'account', kind: 'accounts', needed: true, title: _('Accounts'), help: _('Accounts used to send this mail, in order of preference.') },
				{ name: 'sender', kind: 'list', check: check.pattern, placeholder: 'camera*@*', title: _('Senders'), help: _('Sender patterns; * matches any characters.') },
				{ name: 'recipient', kind: 'list', check: check.pattern, placeholder: '*@example.com', title: _('Recipients'), help: _('Recipient patterns.') },
				{ name: 'client', kind: 'list', check: check.network, placeholder: '192.168.1.0/28', title: _('IP addresses'), help: _('IP addresses or networks of devices.') },
				{ name: 'device', kind: 'devices', title: _('Device sections'), help: _('Names of sections on the Devices tab.') },
				{ name: 'login', kind: 'users', title: _('Logins'), help: _('Names of sections on the Users tab, or their usernames.') },
				{ name: 'after', kind: 'text', check: check.durationFrom(10, 604800, true), preset: '0', title: _('Channels after'), help: _('The channels are only used for mail that has not left by then; with channels only, for recipients of messages that have not been delivered otherwise. At least 10s.') }
			]
		};
	},

	/**
	 * Section `escalation`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	escalations() {
		return {
			type: 'escalation', title: _('Escalations'), named: true, columns: [ 'enabled', 'device', 'subject', 'account' ],
			help: _('Alarms that must get through. A message that matches and has not been delivered in time is sent to the next account or channel, each once, until one has taken it. The first matching section applies; criteria that are left empty match everything.'),
			tabs: [],
			options: [
				{ name: 'enabled', kind: 'flag', preset: '1', title: _('Enabled'), help: _('Apply to new mail.') },
				{ name: 'device', kind: 'devices', title: _('Device sections'), help: _('Names of sections on the Devices tab.') },
				{ name: 'subject', kind: 'list', placeholder: 'alarm', check: check.text, title: _('Subject contains'), help: _('One of these texts is enough; case-insensitive.') },
				{ name: 'priority', kind: 'choice', choices: [ [ 'high', _('high') ] ], title: _('Priority'), help: _('Only messages that the device has marked as important.') },
				{ name: 'after', kind: 'text', check: check.durationFrom(10, 604800), preset: '10m', title: _('Time per step'), help: _('Time that the mail has before the first step, and each step before the next one.') },
				{ name: 'account', kind: 'accounts', needed: true, title: _('Steps'), help: _('Accounts and channels that get the message, in this order.') }
			]
		};
	},

	/**
	 * Section `user`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	users() {
		return {
			type: 'user', title: _('Users'), named: true, columns: [ 'enabled', 'username', 'sender' ],
			help: _('Logins for devices, used by listeners with optional or required authentication.'),
			tabs: [],
			options: [
				{ name: 'enabled', kind: 'flag', preset: '1', title: _('Enabled'), help: _('Accept this login.') },
				{ name: 'username', kind: 'text', check: check.text, preset: _('name of the section'), title: _('Username'), help: _('Login name.') },
				{ name: 'password', kind: 'secret', title: _('Password'), help: _('Required. Stored in the configuration file. Leave empty to keep the current password.') },
				{ name: 'sender', kind: 'list', check: check.sender, placeholder: 'cam@example.com', title: _('Senders'), help: _('Addresses and domains that this user may use as envelope sender. Leave empty to allow all.') },
				{ name: 'account', kind: 'accounts', preset: _('as for all other mail'), title: _('Accounts'), help: _('Accounts used to send mail from this user, in order of preference. Accounts set for the device take precedence.') }
			]
		};
	},

	/**
	 * Section `relay`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	relay() {
		return {
			type: 'relay', title: _('Relay and queue'), named: true, single: true, columns: [],
			help: _('Settings that apply to the service as a whole.'),
			tabs: [ [ 'general', _('General') ], [ 'queue', _('Queue') ], [ 'retry', _('Retries') ], [ 'files', _('System') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'general', preset: '1', title: _('Enabled'), help: _('Run the service.') },
				{ name: 'hostname', kind: 'text', tab: 'general', check: check.heloName, preset: _('hostname of the router'), title: _('Hostname'), help: _('Name used in EHLO to the provider and in Received headers.') },
				{ name: 'admin', kind: 'text', tab: 'general', check: check.address, placeholder: 'me@example.com', title: _('Administrator'), help: _('Receives mail for root and postmaster, and notifications that cannot be sent to the sender of a message.') },
				{ name: 'notify_boot', kind: 'flag', tab: 'general', preset: '0', title: _('Notify after boot'), help: _('Send one message to the administrator each time the router has started.') },
				{ name: 'log_level', kind: 'choice', tab: 'general', preset: 'info', choices: [ [ 'error', _('errors') ], [ 'warning', _('warnings') ], [ 'info', _('one line per message') ], [ 'debug', _('everything') ] ], title: _('Log level'), help: _('Events that are written to the system log.') },
				{ name: 'log_subject', kind: 'flag', tab: 'general', preset: '1', title: _('Show subjects'), help: _('Show the subject of each message in the system log, on the log page and in the queue. If disabled, subjects are not recorded, and those recorded before are deleted.') },
				{ name: 'durability', kind: 'choice', tab: 'queue', preset: 'deferred', choices: [ [ 'memory', _('memory: survives a restart of the service') ], [ 'deferred', _('deferred: also survives a reboot') ], [ 'always', _('always: also survives a power cut at any time') ] ], title: _('Durability'), help: _('What an accepted message survives. The last two options require a persistent queue directory.') },
				{ name: 'spool_limit', kind: 'text', tab: 'queue', check: check.sizeFrom(65536), preset: _('depends on the available memory, at most 32M'), title: _('Maximum queue size'), help: _('Storage that queued mail may use, in bytes.') },
				{ name: 'message_limit', kind: 'text', tab: 'queue', check: check.sizeFrom(16384), preset: '25M', title: _('Maximum message size'), help: _('At most three quarters of the maximum queue size.') },
				{ name: 'retry_for', kind: 'text', tab: 'retry', check: check.durationFrom(10), preset: '4d', title: _('Retry period'), help: _('How long delivery is attempted before the sender is notified of the failure.') },
				{ name: 'retry_min', kind: 'text', tab: 'retry', check: check.durationFrom(1), preset: '30s', title: _('Initial retry interval'), help: _('Delay after the first temporary failure of a message. It doubles with each further failure.') },
				{ name: 'retry_max', kind: 'text', tab: 'retry', check: check.durationFrom(1), preset: '1h', title: _('Maximum retry interval'), help: _('Longest time between two delivery attempts.') },
				{ name: 'delay_notice', kind: 'text', tab: 'retry', check: check.durationFrom(0), preset: '4h', title: _('Delay notification'), help: _('Time after which the sender is notified that a message is still queued; 0 disables the notification.') },
				{ name: 'spool', kind: 'text', tab: 'files', check: check.path, preset: '/var/spool/smtprelay', title: _('Queue directory'), help: _('In RAM on OpenWrt.') },
				{ name: 'safe_spool', kind: 'text', tab: 'files', check: check.path, placeholder: '/mnt/usb/smtprelay', title: _('Persistent queue directory'), help: _('A directory that survives a power cut: on flash or a USB stick.') },
				{ name: 'secrets', kind: 'text', tab: 'files', check: check.path, preset: '/etc/smtprelay', title: _('Secrets directory'), help: _('Directory for stored passwords and tokens.') },
				{ name: 'hook', kind: 'text', tab: 'files', check: check.hook, preset: '/sbin/hotplug-call', title: _('Hook'), help: _('Program to run when mail delivery stops or resumes; none disables it.') },
				{ name: 'user', kind: 'text', tab: 'files', check: check.text, preset: 'smtprelay', title: _('User'), help: _('User that the service runs as after startup. The package creates this user; with root the service keeps all privileges.') },
				{ name: 'jail', kind: 'flag', tab: 'files', preset: '1', title: _('Jail'), help: _('Run the service in a jail if the router supports it (procd-ujail).') }
			]
		};
	}
});
