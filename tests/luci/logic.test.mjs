// SPDX-License-Identifier: Apache-2.0
// Sentences, checks, presets, and the list of networks that may send.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { TREE } from './sources.mjs';

const there = world();
const allow = there.require('smtprelay.allow');
const check = there.require('smtprelay.check');
const health = there.require('smtprelay.health');
const logfilter = there.require('smtprelay.logfilter');
const silence = there.require('smtprelay.silence');
const presets = there.require('smtprelay.presets');
const text = there.require('smtprelay.text');
const widgets = there.require('smtprelay.widgets');
const now = new Date(sample.NOW * 1000);

test('the line of health', () => {
	const at = new Date((sample.NOW - 600) * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
	const line = (changes) => health.line(changes && sample.status(changes), now);

	assert.deepEqual(line({}), { level: 'good', text: `Relaying. 3 messages today, last message: ${at} to ops@example.com (TLS 1.3, verified).`, remedy: 'Currently 2 messages queued.' });
	assert.equal(line({ today: { delivered: 1 }, last: null }).text, 'Relaying. 1 message today.');
	assert.equal(line({ today: { delivered: 0 }, last: null, queue: { messages: 0 } }).text, 'Relaying. No messages today.');
	assert.equal(line(null).level, 'bad');
	// Mail leaves, but not as the page has it set.
	assert.equal(line({ settings: { error: 'line 3', warnings: [] } }).level, 'bad');
	assert.match(line({ state: 'no_account' }).text, /No account/);
	assert.equal(line({ clock: { set: false, now: 5 } }).level, 'warning');
	assert.equal(line({ last: { time: 1, to: 'x', tls: 'TLSv1.2', verified: 'no' } }).level, 'warning');
	assert.equal(line({ last: { time: 1, to: 'x', tls: 'none', verified: 'no' } }).level, 'warning');
	assert.deepEqual(line({ state: 'paused', accounts: [ sample.account(), sample.account({ paused: { reason: 'login refused.', remedy: 'Set the password.', since: 60, next: 45 } }) ] }), {
		level: 'bad', text: 'Not relaying (2 messages queued, next attempt in 45 seconds): login refused.', remedy: 'Set the password.'
	});
	assert.deepEqual(line({ state: 'paused', accounts: [ sample.account({ name: 'new', secret: 'missing' }) ] }), {
		level: 'bad', text: 'Not relaying (2 messages queued): new: No password is stored.', remedy: ''
	});

	// Before all else that nothing arrives, or not from everywhere; a state that is worse anyway stays.
	assert.deepEqual([ line({ reachable: 'no' }).level, line({ reachable: 'no' }).remedy ], [ 'bad', line({}).remedy ]);
	assert.match(line({ reachable: 'no' }).text, /^Devices cannot connect: see below\. Relaying\. 3 messages today/);
	assert.match(line({ reachable: 'partly' }).text, /^Some devices cannot connect: see below\. Relaying\./);
	assert.equal(line({ reachable: 'partly' }).level, 'warning');
	assert.equal(line({ reachable: 'partly', settings: { error: 'line 3', warnings: [] } }).level, 'bad');
	assert.match(line({ reachable: 'no', state: 'no_account' }).text, /^Devices cannot connect: see below\. No account/);

	// Green only while every account could deliver.
	const other = (changes) => line({ accounts: [ sample.account(), sample.account({ name: 'spare', ...changes }) ] });

	assert.equal(other({}).level, 'good');
	assert.deepEqual([ other({ secret: 'missing' }).level, other({ secret: 'missing' }).remedy ], [ 'warning', 'Account spare cannot deliver: see below.' ]);
	assert.equal(other({ secret: 'missing', service: 'ntfy' }).remedy, 'Channel spare cannot deliver: see below.');
	assert.equal(other({ paused: { reason: 'quota', since: 5, next: 5 } }).level, 'warning');
	assert.equal(other({ failed_test: { time: sample.NOW, text: 'the login was refused' } }).level, 'warning');
	assert.match(health.account(sample.account({ failed_test: { time: sample.NOW, text: 'the login was refused' } })).text, /The last test message was not accepted .*: the login was refused/);
});

test('badges of accounts', () => {
	const badge = (last, changes) => {
		const account = sample.account({ ...changes, last: last && { ...sample.account().last, ...last } });

		return [ health.badge(account).level, health.badge(account).label, health.expiry(account, sample.NOW)?.level ];
	};

	assert.deepEqual(badge({}), [ 'good', 'TLS 1.3, verified', 'neutral' ]);
	assert.deepEqual(badge({ verified: 'fingerprint' }), [ 'good', 'TLS 1.3, verified by fingerprint', 'neutral' ]);
	assert.deepEqual(badge({ verified: 'no', expires: sample.NOW + 86400 }), [ 'bad', 'TLS 1.3, not verified', 'warning' ]);
	assert.deepEqual(badge({ expires: sample.NOW - 1 }), [ 'good', 'TLS 1.3, verified', 'bad' ]);
	assert.deepEqual(badge(null), [ 'neutral', 'TLS', undefined ]);
	assert.deepEqual(badge(null, { tls_mode: 'none' }), [ 'bad', 'no TLS', undefined ]);
	assert.match(health.account(sample.account({ paused: { reason: 'quota', since: 7200, next: 61 } })).text, /Paused for 2 hours, next attempt in 1 minute: quota/);
	assert.match(health.account(sample.account({ secret: 'missing' })).text, /No password/);
});

test('notes of the settings', () => {
	const status = sample.status({ settings: { error: 'line 3', warnings: [ 'a', 'b' ] }, listeners: [ { name: 'lan', note: 'zone wan' }, { name: 'x', note: null } ] });

	assert.deepEqual(health.notes(status).map(({ level }) => level), [ 'bad', 'warning', 'warning', 'warning' ]);
	assert.deepEqual(health.notes(sample.status({ settings: undefined, listeners: undefined })), []);
});

test('who is silent for too long is on top, the longest first', () => {
	const device = (client, section) => sample.device({ client, section, last_mail: { time: sample.NOW - 60 } });
	const overdue = (name, silent) => sample.expected({ name, silent, overdue: true, last_heard: null });
	const shown = (devices, expected) => silence.rows(devices, expected).map((row) => [ row.device?.client, row.expected?.name ]);
	const devices = [ device('10.0.0.1', ''), device('10.0.0.2', 'pump'), device('10.0.0.3', 'lift'), device('10.0.0.4', 'pump') ];

	assert.deepEqual(shown(devices, undefined).map(([ client ]) => client), [ '10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4' ]);
	assert.deepEqual(shown(devices, [ overdue('pump', 90000), sample.expected({ name: 'lift' }), overdue('boiler', 99999), sample.expected({ name: 'new' }) ]), [
		[ undefined, 'boiler' ], [ '10.0.0.2', 'pump' ], [ '10.0.0.1', undefined ], [ '10.0.0.3', 'lift' ], [ '10.0.0.4', undefined ], [ undefined, 'new' ]
	]);

	const at = (seconds) => text.time(seconds);
	const row = (changes, client) => ({ device: client ?? null, expected: changes && sample.expected(changes) });

	assert.deepEqual([ silence.last(row({})), silence.last(row({ last_heard: null })), silence.last(row(null, devices[0])), silence.last(row({ last_heard: null }, devices[0])) ], [ at(sample.NOW - 600), '\u2013', at(sample.NOW - 60), at(sample.NOW - 60) ]);
	assert.deepEqual([ silence.words(row({})), silence.words(row(null, devices[0])), silence.words(row({ overdue: true, silent: 90000 })) ], [ 'Expected every 1 day.', '', 'Silent for 1 day, expected every 1 day.' ]);
	assert.deepEqual([ silence.badge(row({})), silence.badge(row({ overdue: true })).level ], [ null, 'bad' ]);
	assert.deepEqual([ text.outcome('silent'), text.outcome('heard') ], [ 'silent', 'heard again' ]);

	const notes = health.notes(sample.status({ expected: [ sample.expected({}), sample.expected({ overdue: true }), sample.expected({ device: '<b>', overdue: true }) ] }));

	assert.deepEqual(notes, [ { level: 'warning', text: 'Silent for too long: Pump house, <b>. See the devices below.', remedy: '' } ]);
});

test('text of devices', () => {
	assert.equal(text.plain('a\u0007b\u202ec\u200b'), 'a\u00b7b\u00b7c\u00b7');
	assert.equal(text.plain('x'.repeat(300)).length, 200);
	assert.equal(text.plain(null), '');
	assert.equal(text.lines('a\r\nb\tc\u001b[0m'), 'a\nb c\u00b7[0m');
	assert.deepEqual([ 0, 999, 1536, 90112, 33554432, 5 * 1024 ** 3 ].map((n) => text.size(n)), [ '0 B', '999 B', '1.5 KB', '88 KB', '32 MB', '5.0 GB' ]);
	assert.deepEqual([ 1, 59, 60, 5400, 90000, 1e6 ].map((n) => text.duration(n)), [ '1 second', '59 seconds', '1 minute', '2 hours', '1 day', '12 days' ]);
	assert.deepEqual([ 86400, 93600, 5400, 61 ].map((n) => text.duration(n, true)), [ '1 day', '26 hours', '90 minutes', '61 seconds' ]);
});

test('checks agree with the daemon', () => {
	const table = {
		address: [ 'a@b plc@example.com plc+pump@sub.example.com root@pump_house a@[192.168.1.5] .a.@b "a_b"@c me@süd.example', 'a a@ @b a@b@c a@b..c a@b,c <a@b> a@b; a@-b.* *@example.com' ],
		network: [ '192.168.1.20 192.168.1.0/24 fd00::/8 ::1 2001:db8::1/128 0.0.0.0/0', '192.168.1 192.168.1.256 1.2.3.4/33 fd00::/129 fd00 ::1::2 lan 1.2.3.4/ 1.2.3.4/x' ],
		ip: [ '192.168.1.1 :: fd00::1 ::ffff:1.2.3.4 1:2:3:4:5:6:7:8', '192.168.1.0/24 1:2:3 1:2:3:4:5:6:7:8:9 ::g' ],
		mac: [ '00:11:22:aa:bb:cc 00-11-22-AA-BB-CC 001122aabbcc', '00:11:22:aa:bb 00:11-22:aa:bb:cc 0011:22aa:bbcc 00:11:22:aa:bb:cg' ],
		pattern: [ 'ops@example.com *@example.com * root alarm-*@*.example.com', 'a@ @b *@example,com' ],
		rate: [ '20/h 5/m 100/d 2/s 100000/d', '20 /h 0/h -1/h +1/h 20/w 20/2h 1.5/h 100001/d' ],
		fingerprint: [ `${'ab'.repeat(32)} ${'AB:'.repeat(31)}CD`, `${'ab'.repeat(31)} ${'zz'.repeat(32)}` ],
		recipient: [ 'ops@example.com root', 'a@ a@b@c *@example.com * ops-*' ],
		sender: [ 'cam@example.com example.com *@example.com', 'a@b@c , cam*@example.com *@*.example.com *@a@b *' ],
		aliasName: [ 'root * *@example.com a@b', '*@ a* *@*.com' ],
		url: [ 'https://login.example.com/path', 'http://x/ https://x/#y javascript:1' ],
		path: [ '/etc/x', 'etc/x' ],
		hook: [ 'none /sbin/x', 'x' ],
		heloName: [ 'router.lan [192.168.1.1] a_b', 'a;b' ],
		host: [ 'plc-1 a.b_c', 'a:b' ],
		server: [ 'smtp.example.com ::1 localhost 192.168.1.5 fd00::25', 'a{b} a/b smtp.example.com:587 localhost:25 1:2 https://mx.example' ]
	};

	for (const [ name, [ good, wrong ] ] of Object.entries(table)) {
		good.split(' ').forEach((value) => assert.equal(check[name](value), true, `${name} ${value}`));
		wrong.split(' ').forEach((value) => assert.equal(typeof(check[name](value)), 'string', `${name} ${value}`));
		assert.equal(check[name](` ${good.split(' ')[0]} `), true, `${name}: blanks around it`);
		assert.equal(check[name](''), true, `${name}: empty is not set`);
	}

	assert.equal(check.rewrite('*@plant.local ops@example.com'), true);
	assert.equal(typeof(check.rewrite('*@plant.local')), 'string');
	assert.equal(typeof(check.rewrite('*@plant.local *@example.com')), 'string');
	assert.equal(typeof(check.rewrite('a@b c@d e@f')), 'string');

	const size = check.sizeFrom(65536);
	const duration = check.durationFrom(5, 600);

	[ '65536', '64K', '1m', '16M', '1 G' ].forEach((value) => assert.equal(size(value), true, value));
	[ '65535', '63K', '1.5M', '10X', 'M', '-1' ].forEach((value) => assert.equal(typeof(size(value)), 'string', value));
	[ '5', '5s', '10m', '600' ].forEach((value) => assert.equal(duration(value), true, value));
	[ '4s', '11m', '1y', '4 d d', 'd' ].forEach((value) => assert.equal(typeof(duration(value)), 'string', value));
	assert.equal(check.numberFrom(1, 16)('16'), true);
	assert.equal(typeof(check.numberFrom(1, 16)('17')), 'string');
});

// The daemon is tested with the same file (src/config/tests.rs). With a value that only the page accepts, the gateway would
// not start.
test('values that the daemon refuses are refused, for each option with a check', () => {
	const values = JSON.parse(fs.readFileSync(path.join(TREE, 'tests/data/values.json'), 'utf8'));
	const tested = new Set();
	const checks = new Map(world().require('smtprelay.options').sections().flatMap((section) =>
		section.options.filter((option) => option.check).map((option) => [ `${section.type}.${option.name}`, option.check ])));

	for (const [ names, verdicts ] of Object.entries(values))
		for (const name of names.split(' ')) {
			tested.add(name);

			// Unusual values are those that only the page refuses.
			for (const [ verdict, list ] of Object.entries(verdicts))
				list.forEach((value) => assert.equal(checks.get(name)(value) === true, verdict == 'accepted', `${name} ${JSON.stringify(value)}`));
		}

	assert.deepEqual([ ...checks.keys() ].filter((name) => !tested.has(name)), []);
});

test('presets by address', () => {
	const of = (address) => presets.ofAddress(sample.PROVIDERS, address)?.id;

	assert.equal(of('me@gmail.com'), 'gmail');
	assert.equal(of('ME@GoogleMail.com'), 'gmail');
	assert.equal(of('a@gmx.de'), 'gmx');
	assert.equal(of('a@gmx.fr'), 'gmx-com');
	assert.equal(of('a@hotmail.co.uk'), 'outlook');
	assert.equal(of('a@outlook.co.invalid.org'), undefined);
	assert.equal(of('a@example.com'), undefined);
	assert.equal(of('gmail.com'), undefined);

	// Each domain leads to a preset that has it.
	for (const provider of sample.PROVIDERS)
		for (const domain of (provider.domains ?? '').split(' ').filter((name) => name && !name.endsWith('*')))
			assert.equal(of(`a@${domain}`), provider.id, domain);
});

test('each preset can be set up', () => {
	for (const provider of [ null, ...sample.PROVIDERS ]) {
		const signIn = provider?.secret == 'oauth2';
		const answers = { address: 'me@example.com', username: '', password: '', host: '', port: '', tls: 'implicit', region: '', signIn, clientId: '', clientSecret: '', to: '' };
		const needs = presets.needs(provider, signIn);

		Object.assign(answers, {
			username: (needs.username && provider) ? 'login' : '', password: needs.password ? 'p' : '', host: needs.host ? 'smtp.example.com' : '', region: needs.region ? 'eu' : '',
			clientId: needs.client ? 'c' : '', clientSecret: needs.secret ? 's' : ''
		});
		assert.equal(presets.problem(provider, answers), '', provider?.id);

		const options = presets.options(provider, answers);

		assert.ok(options.username || options.from, provider?.id);
		assert.ok(check.isAddress(options.from ?? options.username), `${provider?.id} has a sender`);
		assert.equal(options.password, undefined);
		assert.notEqual(presets.problem(provider, { ...answers, address: 'x' }), '');

		for (const port of [ 'abc', '0', '65536', '+25', '1.5' ])
			assert.equal(presets.problem(provider, { ...answers, port }) != '', needs.host, `${provider?.id} ${port}`);
	}

	const own = { address: 'me@example.com', host: 'smtp.example.com:587', password: 'p' };

	assert.match(presets.problem(null, own), /the port has a field of its own$/);
	assert.match(presets.problem(null, { ...own, host: '' }), /^Enter the hostname/);
	assert.equal(presets.problem(null, { ...own, host: '::1' }), '');

	assert.equal(presets.sectionName({ id: 'gmx-com' }, [ 'gmx_com', 'gmx_com_2' ]), 'gmx_com_3');
	assert.deepEqual(presets.sorted(sample.PROVIDERS).slice(0, 2).map(({ id }) => id), [ 'gmail', 'outlook' ]);
});

test('an empty list of networks is written out before a device is added', () => {
	const lan = { '.name': 'lan', interface: [ 'lan' ] };

	assert.deepEqual(allow.plan(lan, '10.1.2.3', sample.INTERFACES), {
		list: [ '192.168.1.0/24', 'fd12:3456:789a::/60', 'fe80::/64', '127.0.0.0/8', '::1/128', '10.1.2.3' ],
		written: [ '192.168.1.0/24', 'fd12:3456:789a::/60', 'fe80::/64', '127.0.0.0/8', '::1/128' ],
		unknown: []
	});
	assert.deepEqual(allow.plan({ ...lan, allow: '10.0.0.0/8' }, '10.1.2.3', sample.INTERFACES), { list: [ '10.0.0.0/8', '10.1.2.3' ], written: [], unknown: [] });
	assert.deepEqual(allow.plan({ ...lan, allow: [ '10.1.2.3' ] }, '10.1.2.3', sample.INTERFACES).list, [ '10.1.2.3' ]);
	assert.deepEqual(allow.plan({ '.name': 'x', interface: [ 'guest' ] }, '10.1.2.3', sample.INTERFACES).unknown, [ 'guest' ]);
	assert.ok(allow.plan({ '.name': 'x', interface: [ 'six' ] }, '10.1.2.3', [ { interface: 'six', 'ipv6-address': [ { address: 'fd00::5', mask: 64 } ] } ]).list.includes('fd00::5/64'));
	// The kernel's name does as well; all addresses mean those of the LAN, and never the public subnet.
	assert.ok(allow.plan({ '.name': 'x', interface: [ 'br-lan' ] }, '10.1.2.3', sample.INTERFACES).list.includes('192.168.1.0/24'));
	assert.deepEqual(allow.implied({ '.name': 'x', address: [ '0.0.0.0' ] }, sample.INTERFACES).nets.filter((net) => net.startsWith('203')), []);
	assert.ok(allow.implied({ '.name': 'x', address: [ '0.0.0.0' ] }, sample.INTERFACES).nets.includes('192.168.1.0/24'));
	assert.equal(check.networkOf('10.20.30.40', 13), '10.16.0.0/13');
	assert.equal(check.networkOf('10.20.30.40', 32), '10.20.30.40/32');
	assert.equal(check.networkOf('10.20.30.40', 0), '0.0.0.0/0');
	assert.equal(allow.isRefused(sample.device({ allowed: false })), true);
	assert.equal(allow.isRefused(sample.device({ allowed: false, client: 'local' })), false);
});

test('the chart', () => {
	const days = sample.status().counters.days;
	const chart = widgets.chart(days, sample.NOW, 7);

	assert.match(chart.textContent, /delivered: 14.*failed: 1.*refused: 1.*queued now: 7/);
	assert.equal(chart.querySelectorAll('rect').length, 4);
	assert.equal(widgets.chart([], sample.NOW, 0).querySelectorAll('rect').length, 0);
});

test('which entries of the log fit', () => {
	const entries = [ sample.verdict(), sample.verdict({ outcome: 'refused', client: '10.0.0.9', device: 'boiler', text: 'In none of the Networks' }) ];
	const fits = (filter) => logfilter.entries(entries, { text: '', outcome: '', client: '', ...filter }).length;

	assert.equal(fits({}), 2);
	assert.equal(fits({ text: ' networks ' }), 1);
	assert.equal(fits({ outcome: 'refused' }), 1);
	assert.equal(fits({ client: '10.0.0.9', outcome: 'delivered' }), 0);
	assert.deepEqual(logfilter.clients(entries), new Map([ [ '10.0.0.9', 'boiler' ], [ '192.168.1.20', 'Pump house' ] ]));
	assert.deepEqual(logfilter.lines([ { text: 'event=sent', time: 1 }, { text: 'other', time: 2 }, { text: 'event=x', time: 3 } ], 'EVENT').map(({ time }) => time), [ 3, 1 ]);
});
