'use strict';
'require baseclass';
'require smtprelay.check as check';

/*
 * Every option of the settings: how it is asked, what it means, what holds without it. docs/reference/settings.md is the same for
 * readers, src/config for the daemon; tests/luci compares all three.
 *
 * kind: flag, text, list, choice, password, secret, interfaces, provider, and names of sections: accounts, devices, users.
 * preset: what holds without it, shown as placeholder. check: see check.js. when: options that it depends on.
 */

return baseclass.extend({
	/**
	 * The kinds of sections in the order of the page.
	 *
	 * @returns {Smtprelay.SectionForm[]} the forms
	 */
	sections() {
		return [ this.accounts(), this.listeners(), this.devices(), this.aliases(), this.routes(), this.users(), this.relay() ];
	},

	/**
	 * Section `account`.
	 *
	 * @returns {Smtprelay.SectionForm} its form
	 */
	accounts() {
		return {
			type: 'account', title: _('Accounts'), named: true, columns: [ 'enabled', 'provider', 'username' ],
			help: _('Accounts at mail providers, in the order in which they are used: the first one that is not in trouble takes the mail.'),
			tabs: [ [ 'login', _('Login') ], [ 'sender', _('Sender') ], [ 'server', _('Server') ], [ 'oauth', _('Sign-in') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'login', preset: '1', title: _('Enabled'), help: _('Whether the account is used.') },
				{ name: 'provider', kind: 'provider', tab: 'login', preset: _('by the address'), title: _('Provider'), help: _('A preset that fills in server, port, TLS, sender rules and the login name.') },
				{ name: 'username', kind: 'text', tab: 'login', title: _('User name'), placeholder: 'me@example.com', help: _('The login, with most providers the mail address.') },
				{ name: 'password', kind: 'password', tab: 'login', title: _('Password'), help: _('Many providers want an app password. It is stored by the service and never shown again; empty leaves it as it is.') },
				{ name: 'region', kind: 'text', tab: 'login', title: _('Region'), placeholder: 'eu-central-1', help: _('Region of the account where the server of the preset has one (Amazon SES).') },
				{ name: 'auth', kind: 'choice', tab: 'login', preset: 'password', choices: [ [ 'password', _('password') ], [ 'xoauth2', _('sign-in with tokens (OAuth 2.0)') ] ], title: _('Kind of login'), help: _('With tokens the account is signed in once in a browser; see the overview.') },
				{ name: 'from', kind: 'text', tab: 'sender', check: check.address, preset: _('the user name, if that is an address'), title: _('Sender address'), help: _('The sender that the provider allows.') },
				{ name: 'from_policy', kind: 'choice', tab: 'sender', preset: _('the preset\'s, else account'), choices: [ [ 'account', _('account: sender becomes the address above') ], [ 'domain', _('domain: only when the domain differs') ], [ 'keep', _('keep: nothing is changed') ] ], title: _('Other senders'), help: _('What happens to the sender that a device gives. Its address goes into the name and Reply-To.') },
				{ name: 'null_sender', kind: 'choice', tab: 'sender', preset: _('the preset\'s, else yes'), choices: [ [ '1', _('yes') ], [ '0', _('no') ] ], title: _('Takes mail without a sender'), help: _('No if the provider refuses notices, which have no sender; they go out with the sender address, then.') },
				{ name: 'default', kind: 'flag', tab: 'sender', preset: '1', title: _('For all mail'), help: _('Off: only for mail that a route names.') },
				{ name: 'host', kind: 'text', tab: 'server', check: check.server, preset: _('the preset\'s'), title: _('Mail server'), help: _('The provider\'s mail server; its certificate must carry this name.') },
				{ name: 'port', kind: 'text', tab: 'server', check: check.numberFrom(1, 65535), preset: '465', title: _('Port'), help: _('Without a preset 465; 587 with STARTTLS, 25 without TLS.') },
				{ name: 'tls', kind: 'choice', tab: 'server', preset: 'implicit', choices: [ [ 'implicit', _('TLS from the first byte') ], [ 'starttls', _('STARTTLS, required') ], [ 'none', _('none: readable by all') ] ], title: _('Protection'), help: _('Without TLS only an account without a login can be used.') },
				{ name: 'verify', kind: 'flag', tab: 'server', preset: '1', title: _('Check the certificate'), help: _('Off: anybody on the way can read mail and password. Only for tests.') },
				{ name: 'ca_file', kind: 'text', tab: 'server', preset: _('the system\'s'), title: _('Authorities'), help: _('PEM file with the authorities to trust, for a server of your own.') },
				{ name: 'fingerprint', kind: 'text', tab: 'server', check: check.fingerprint, title: _('Fingerprint'), placeholder: 'AA:BB:…', help: _('SHA-256 of the one certificate to trust, as openssl x509 -fingerprint -sha256 prints it.') },
				{ name: 'connections', kind: 'text', tab: 'server', check: check.numberFrom(1, 16), preset: '2', title: _('Connections'), help: _('Connections to the provider at once.') },
				{ name: 'timeout', kind: 'text', tab: 'server', check: check.durationFrom(5, 600), preset: '2m', title: _('Patience'), help: _('How long the provider may take for a reply. Too little sends mail twice.') },
				{ name: 'oauth', kind: 'choice', tab: 'oauth', when: { auth: 'xoauth2' }, choices: [ [ 'google', 'Google' ], [ 'microsoft', 'Microsoft' ], [ 'custom', _('another login server') ] ], title: _('Login server'), help: _('Who gives the tokens.') },
				{ name: 'client_id', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, title: _('Client ID'), help: _('Of a client of your own at the provider; none is shipped.') },
				{ name: 'client_secret', kind: 'secret', tab: 'oauth', when: { auth: 'xoauth2' }, title: _('Client secret'), help: _('Google shows it beside the client ID; Microsoft has none. Empty leaves it as it is.') },
				{ name: 'device_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('that of the login server'), title: _('Address for codes'), help: _('Where the login server gives a code to type in.') },
				{ name: 'auth_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('that of the login server'), title: _('Address for the browser'), help: _('Where a person signs in when there are no codes.') },
				{ name: 'token_url', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, check: check.url, preset: _('that of the login server'), title: _('Address for tokens'), help: _('Where tokens are renewed.') },
				{ name: 'scope', kind: 'text', tab: 'oauth', when: { auth: 'xoauth2' }, preset: _('that of the login server'), title: _('Scope'), help: _('What the token is good for.') }
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
			help: _('Where devices connect, and which of them may.'),
			tabs: [ [ 'where', _('Where') ], [ 'who', _('Who') ], [ 'tls', _('TLS') ], [ 'limits', _('Limits') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'where', preset: '1', title: _('Enabled'), help: _('Whether devices can connect here.') },
				{ name: 'interface', kind: 'interfaces', tab: 'where', title: _('Networks'), help: _('Networks whose addresses are listened on; followed as they change.') },
				{ name: 'address', kind: 'list', tab: 'where', check: check.ip, title: _('Addresses'), placeholder: '192.168.1.1', help: _('Fixed addresses; 0.0.0.0 and :: mean all of IPv4 and all of IPv6.') },
				{ name: 'port', kind: 'text', tab: 'where', check: check.numberFrom(0, 65535), preset: '25', title: _('Port'), help: _('TCP port that devices connect to.') },
				{ name: 'dialect', kind: 'choice', tab: 'where', preset: 'tolerant', choices: [ [ 'tolerant', _('tolerant: what is meant counts') ], [ 'strict', _('strict: only what RFC 5321 allows') ] ], title: _('Dialect'), help: _('How closely a device must keep to the protocol.') },
				{ name: 'allow', kind: 'list', tab: 'who', check: check.network, placeholder: '192.168.1.0/24', title: _('May send'), help: _('Networks that may send; all others are refused at once. Empty: the subnets of the networks listened on, and the router itself.') },
				{ name: 'auth', kind: 'choice', tab: 'who', preset: 'ignore', choices: [ [ 'ignore', _('ignore: any login is accepted') ], [ 'none', _('none: no login is offered') ], [ 'optional', _('optional: a login must be right') ], [ 'required', _('required: no mail without a login') ] ], title: _('Logins'), help: _('What a login of a device means. The logins are those of the tab Users.') },
				{ name: 'tls', kind: 'choice', tab: 'tls', preset: 'none', choices: [ [ 'none', _('none') ], [ 'starttls', _('STARTTLS, offered') ], [ 'implicit', _('TLS from the first byte, usually port 465') ] ], title: _('Protection'), help: _('Many old devices try STARTTLS where it is offered, and give up.') },
				{ name: 'certificate', kind: 'text', tab: 'tls', check: check.path, preset: _('the router\'s, else one of our own'), title: _('Certificate'), help: _('File with the certificate chain, PEM or DER.') },
				{ name: 'key', kind: 'text', tab: 'tls', check: check.path, preset: _('the router\'s, else one of our own'), title: _('Private key'), help: _('File with its key: ECDSA on P-256 or P-384.') },
				{ name: 'max_sessions', kind: 'text', tab: 'limits', check: check.numberFrom(1, 10000), preset: '600', title: _('Connections'), help: _('Connections at once, a quarter of them for one address; more wait without an error.') },
				{ name: 'max_sessions_per_client', kind: 'text', tab: 'limits', check: check.numberFrom(1, 10000), preset: '500', title: _('Connections of one address'), help: _('More than that are put off.') },
				{ name: 'max_recipients', kind: 'text', tab: 'limits', check: check.numberFrom(1, 1000), preset: '100', title: _('Recipients'), help: _('Recipients of one message.') },
				{ name: 'timeout', kind: 'text', tab: 'limits', check: check.durationFrom(1), preset: '5m', title: _('Patience'), help: _('How long a silent device is waited for.') }
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
			help: _('What holds for the mail of one device. The section named default holds for all that have none of their own.'),
			tabs: [ [ 'who', _('Who') ], [ 'mail', _('Its mail') ], [ 'rate', _('Rate') ] ],
			options: [
				{ name: 'name', kind: 'text', tab: 'who', preset: _('the section\'s name'), title: _('Display name'), help: _('Display name in From, if the device gives none of its own.') },
				{ name: 'ip', kind: 'list', tab: 'who', check: check.network, placeholder: '192.168.1.20', title: _('Addresses'), help: _('Addresses of the device, or networks of which all members are meant.') },
				{ name: 'mac', kind: 'list', tab: 'who', check: check.mac, placeholder: '00:11:22:aa:bb:cc', title: _('Hardware addresses'), help: _('For devices whose address changes.') },
				{ name: 'host', kind: 'list', tab: 'who', check: check.host, placeholder: 'plc-1', title: _('DHCP names'), help: _('Names under which the device asks for its address by DHCP. Any other could use the same one.') },
				{ name: 'account', kind: 'accounts', tab: 'mail', preset: _('as for all others'), title: _('Accounts'), help: _('The accounts that its mail leaves by, first choice first.') },
				{ name: 'recipient', kind: 'list', tab: 'mail', check: check.recipient, placeholder: 'ops@example.com', title: _('Recipients'), help: _('Who gets its mail, whatever the device says: addresses or names of aliases.') },
				{ name: 'allow_recipient', kind: 'list', tab: 'mail', check: check.pattern, placeholder: '*@example.com', title: _('May write to'), help: _('Empty: anybody. A star stands for anything.') },
				{ name: 'rewrite', kind: 'list', tab: 'mail', check: check.rewrite, placeholder: '*@plant.local ops@example.com', title: _('Replace recipients'), help: _('A pattern and a new recipient; the first that fits counts.') },
				{ name: 'rate', kind: 'text', tab: 'rate', check: check.rate, preset: _('no limit'), title: _('Rate'), help: _('Messages in a time, and at once: 20/h, 5/m, 100/d, 2/s.') },
				{ name: 'over_rate', kind: 'choice', tab: 'rate', preset: 'digest', choices: [ [ 'digest', _('digest: sent together, one mail an interval') ], [ 'defer', _('defer: they wait, each for its turn') ], [ 'reject', _('reject: they are refused for now') ] ], title: _('More than that'), help: _('What happens to messages beyond the rate.') },
				{ name: 'digest_every', kind: 'text', tab: 'rate', check: check.durationFrom(10, 604800), preset: '15m', title: _('Digest every'), help: _('Interval of the digests.') }
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
			help: _('Names that stand for addresses. Names without a domain that no alias explains mean the admin.'),
			tabs: [],
			options: [
				{ name: 'name', kind: 'list', needed: true, check: check.aliasName, placeholder: 'root', title: _('Names'), help: _('An address, a name such as root, *@example.com for a domain, or * for all names without domain.') },
				{ name: 'to', kind: 'list', needed: true, check: check.recipient, placeholder: 'ops@example.com', title: _('Mean'), help: _('Who gets their mail: addresses, or names of other aliases.') }
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
			help: _('Sends some mail through accounts of its own. The first rule that fits counts; what a rule leaves out fits everything.'),
			tabs: [],
			options: [
				{ name: 'account', kind: 'accounts', needed: true, title: _('Accounts'), help: _('The accounts that this mail leaves by, first choice first.') },
				{ name: 'sender', kind: 'list', check: check.pattern, placeholder: 'camera*@*', title: _('Senders'), help: _('Patterns of senders; a star stands for anything.') },
				{ name: 'recipient', kind: 'list', check: check.pattern, placeholder: '*@example.com', title: _('Recipients'), help: _('Patterns of recipients.') },
				{ name: 'client', kind: 'list', check: check.network, placeholder: '192.168.1.0/28', title: _('Addresses'), help: _('Addresses or networks of devices.') },
				{ name: 'device', kind: 'devices', title: _('Sections of devices'), help: _('Names of sections of the tab Devices.') },
				{ name: 'login', kind: 'users', title: _('Logins'), help: _('Names of sections of the tab Users, or of their logins.') }
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
			help: _('Logins of devices, for listeners where a login is optional or required.'),
			tabs: [],
			options: [
				{ name: 'enabled', kind: 'flag', preset: '1', title: _('Enabled'), help: _('Whether the login is accepted.') },
				{ name: 'username', kind: 'text', preset: _('the section\'s name'), title: _('User name'), help: _('Name of the login.') },
				{ name: 'password', kind: 'secret', title: _('Password'), help: _('Must not be empty. Kept in the settings; empty leaves it as it is.') },
				{ name: 'sender', kind: 'list', check: check.sender, placeholder: 'cam@example.com', title: _('Senders'), help: _('Addresses and domains that it may use as envelope sender. Empty: all.') },
				{ name: 'account', kind: 'accounts', preset: _('as for all others'), title: _('Accounts'), help: _('The accounts that its mail leaves by, first choice first. Those of the device come before.') }
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
			help: _('Everything that exists once.'),
			tabs: [ [ 'general', _('General') ], [ 'queue', _('Queue') ], [ 'retry', _('Tries') ], [ 'files', _('Files') ] ],
			options: [
				{ name: 'enabled', kind: 'flag', tab: 'general', preset: '1', title: _('Enabled'), help: _('Whether the service runs.') },
				{ name: 'hostname', kind: 'text', tab: 'general', check: check.heloName, preset: _('the router\'s own name'), title: _('Host name'), help: _('Our name towards the provider and in Received lines.') },
				{ name: 'admin', kind: 'text', tab: 'general', check: check.address, placeholder: 'me@example.com', title: _('Admin'), help: _('Who gets mail for root and postmaster, and notices whose sender can\'t be told.') },
				{ name: 'notify_boot', kind: 'flag', tab: 'general', preset: '0', title: _('Mail after a start'), help: _('One mail to the admin after each start of the router.') },
				{ name: 'log_level', kind: 'choice', tab: 'general', preset: 'info', choices: [ [ 'error', _('errors') ], [ 'warning', _('warnings') ], [ 'info', _('one line a message') ], [ 'debug', _('everything') ] ], title: _('Log'), help: _('What goes into the system log.') },
				{ name: 'durability', kind: 'choice', tab: 'queue', preset: 'deferred', choices: [ [ 'memory', _('memory: survives a restart of the program') ], [ 'deferred', _('deferred: also a reboot') ], [ 'always', _('always: also a power cut at any instant') ] ], title: _('Durability'), help: _('What it means that a message was accepted. The last two need a safe directory.') },
				{ name: 'spool_limit', kind: 'text', tab: 'queue', check: check.sizeFrom(65536), preset: _('by the memory, at most 32M'), title: _('Size of the queue'), help: _('Bytes that waiting mail may take.') },
				{ name: 'message_limit', kind: 'text', tab: 'queue', check: check.sizeFrom(16384), preset: '25M', title: _('Largest message'), help: _('Never more than three quarters of the size of the queue.') },
				{ name: 'retry_for', kind: 'text', tab: 'retry', check: check.durationFrom(10), preset: '4d', title: _('Try for'), help: _('How long delivery is tried before the sender hears that it failed.') },
				{ name: 'retry_min', kind: 'text', tab: 'retry', check: check.durationFrom(1), preset: '30s', title: _('First wait'), help: _('How long a message waits after its first temporary refusal; the time doubles with each further one.') },
				{ name: 'retry_max', kind: 'text', tab: 'retry', check: check.durationFrom(1), preset: '1h', title: _('Longest wait'), help: _('How long it waits at most between two attempts.') },
				{ name: 'delay_notice', kind: 'text', tab: 'retry', check: check.durationFrom(0), preset: '4h', title: _('Tell of a delay'), help: _('After how long the sender hears that a message is still waiting; 0 means never.') },
				{ name: 'spool', kind: 'text', tab: 'files', check: check.path, preset: '/var/spool/smtprelay', title: _('Directory of the queue'), help: _('RAM on OpenWrt.') },
				{ name: 'safe_spool', kind: 'text', tab: 'files', check: check.path, placeholder: '/mnt/usb/smtprelay', title: _('Safe directory'), help: _('A directory that survives a power cut: flash, USB stick.') },
				{ name: 'secrets', kind: 'text', tab: 'files', check: check.path, preset: '/etc/smtprelay', title: _('Directory of secrets'), help: _('Where stored passwords and tokens are kept.') },
				{ name: 'hook', kind: 'text', tab: 'files', check: check.hook, preset: '/sbin/hotplug-call', title: _('Hook'), help: _('Program that is run when mail stops or starts to flow; none for none.') },
				{ name: 'user', kind: 'text', tab: 'files', preset: 'smtprelay', title: _('User'), help: _('Who the gateway becomes after its start. The package makes this user; root would leave it all rights.') },
				{ name: 'jail', kind: 'flag', tab: 'files', preset: '1', title: _('Jail'), help: _('Whether the service runs in a jail where the router has one (procd-ujail).') }
			]
		};
	}
});
