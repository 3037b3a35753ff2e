// SPDX-License-Identifier: Apache-2.0
// What the pages show and do, with a daemon that works and with none.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { RESOURCES, VIEWS, files } from './sources.mjs';

for (const view of VIEWS) {
	test(`${view}: opens without a daemon`, async () => {
		const there = world({ config: sample.SET_UP });

		await there.open(view);
		await there.poll();

		if (view != 'settings')
			assert.match(there.text(), /not run/i);
	});
}

test('overview: is brought up to date and leaves alone what has not changed', async () => {
	let mails = 3;
	const there = world({ config: sample.SET_UP, ubus: sample.answers({ 'smtprelay status': () => sample.status({ today: { delivered: mails } }) }) });

	await there.open('overview');

	const devices = there.get('#smtprelay-devices table');

	assert.match(there.get('#smtprelay-health').textContent, /Relaying\. 3 messages today/);
	mails = 4;
	await there.poll();
	assert.match(there.get('#smtprelay-health').textContent, /Relaying\. 4 messages today/);
	assert.equal(there.get('#smtprelay-devices table'), devices);
	there.objects = [ 'session' ];
	there.ubus['smtprelay status'] = () => { throw new Error('Object not found'); };
	await there.poll();
	assert.match(there.get('#smtprelay-health').textContent, /not running/);
});

test('overview: a service that is switched off can be switched on', async () => {
	const config = structuredClone(sample.SET_UP);

	config[0].enabled = '0';

	const there = world({ config });

	await there.open('overview');
	await there.press('#smtprelay-switch-on');
	assert.equal(there.state.committed[0].enabled, '1');
});

test('overview: what is stored for a deleted account can be removed', async () => {
	const settings = { ...sample.status().settings, secrets_left: [ 'old' ] };
	const there = world({ config: sample.SET_UP, ubus: sample.answers({
		'smtprelay status': () => sample.status({ settings }),
		'smtprelay set_password': () => {
			settings.secrets_left = [];

			return {};
		}
	}) });

	await there.open('overview');
	await there.press('[data-left="old"]');

	const call = there.calls.find(({ method }) => method == 'set_password');

	assert.deepEqual(call.args, { account: 'old', password: '' });
	assert.equal(there.document.querySelectorAll('[data-left]').length, 0);
});

test('overview: a refused device is allowed after the owner has seen what that means', async () => {
	const there = world({ config: sample.SET_UP, ubus: sample.answers({
		'smtprelay devices': () => ({ devices: [ sample.device({ client: '10.1.2.3', allowed: false, last_mail: null, last_verdict: { outcome: 'refused', text: 'in none of the networks', time: sample.NOW } }), sample.device() ] }),
		'smtprelay reload': () => ({ warnings: [] })
	}) });

	await there.open('overview');
	assert.equal(there.document.querySelectorAll('[data-allow]').length, 1);
	await there.press('[data-allow="10.1.2.3"]');
	assert.match(there.get('#modal').textContent, /192\.168\.1\.0\/24/);
	assert.match(there.get('#modal').textContent, /The list was empty/);
	assert.ok(!there.calls.some(({ method }) => method == 'commit'), 'nothing is saved yet');
	await there.press('#smtprelay-allow');
	assert.deepEqual(there.state.committed[1].allow, [ '192.168.1.0/24', 'fd12:3456:789a::/60', 'fe80::/64', '127.0.0.0/8', '::1/128', '10.1.2.3' ]);
	assert.ok(there.calls.some(({ method }) => method == 'reload'));
	assert.equal(there.get('#modal').textContent, '');
});

test('queue: every change asks the daemon', async () => {
	const done = [];
	const ubus = sample.answers({ 'smtprelay queue': () => ({ total: 2, offset: 0, messages: [ sample.message(), sample.message({ id: 'HELD', held: true, standing: 'held' }) ] }) });

	for (const method of [ 'retry', 'hold', 'release', 'delete' ])
		ubus[`smtprelay ${method}`] = ({ id }) => {
			done.push(`${method} ${id}`);

			return { count: 1, in_hand: 0, failed: 0 };
		};

	const there = world({ ubus });

	await there.open('queue');
	assert.match(there.text(), /smtp\.gmail\.com answered 451 4\.3\.0 try again later/);
	assert.match(there.text(), /Next attempt in 2 minutes/);
	assert.match(there.text(), /held until it is released/);
	await there.press('Retry');
	await there.press('Hold');
	await there.press('Release');
	await there.press('Retry all');
	await there.press('Delete');
	assert.deepEqual(done, [ 'retry 01HZX5', 'hold 01HZX5', 'release HELD', 'retry all' ], 'deleting is asked for first');
	await there.press('#smtprelay-delete');
	assert.equal(done.at(-1), 'delete 01HZX5');
});

test('queue: a message that is uncertain for some recipients can be released', async () => {
	const done = [];
	const there = world({ ubus: sample.answers({
		'smtprelay queue': () => ({ total: 1, offset: 0, messages: [ sample.message({ doubts: 3, standing: 'later' }) ] }),
		'smtprelay release': ({ id }) => {
			done.push(id);

			return { count: 1, in_hand: 0, failed: 0 };
		}
	}) });

	await there.open('queue');
	await there.press('Release');
	assert.deepEqual(done, [ '01HZX5' ]);
});

test('queue: a refusal is shown', async () => {
	const there = world({ ubus: sample.answers({ 'smtprelay retry': () => ({ error: 'message 01HZX5 is being sent right now; try again', kind: 'busy' }) }) });

	await there.open('queue');
	await there.press('Retry');
	assert.match(there.notifications[0].text, /being sent right now/);
});

test('queue: pages', async () => {
	const there = world({ ubus: sample.answers({
		'smtprelay queue': ({ offset, limit }) => ({ total: 60, offset, messages: Array.from({ length: Math.max(0, Math.min(limit, 60 - offset)) }, (_, i) => sample.message({ id: `ID${offset + i}` })) })
	}) });

	await there.open('queue');
	assert.match(there.text(), /1 to 25 of 60/);
	await there.press('Newer \u203a');
	await there.press('Newer \u203a');
	assert.match(there.text(), /51 to 60 of 60/);
	assert.match(there.text(), /ID59/);
	assert.ok(!there.buttons().includes('Newer \u203a'));
	// Meanwhile everything but five has left.
	there.ubus['smtprelay queue'] = ({ offset }) => ({ total: 5, offset, messages: (offset == 0) ? [ sample.message({ id: 'LAST' }) ] : [] });
	await there.poll();
	assert.match(there.text(), /LAST/);
});

test('test: the steps are shown as they come', async () => {
	const seen = [];
	let asked = 0;
	const there = world({ ubus: sample.answers({
		'smtprelay test': (args) => {
			assert.deepEqual(args, { to: 'ops@example.com' });

			return { job: 'j' };
		},
		'smtprelay job': () => {
			seen.push(there.document.querySelectorAll('[data-state=ok]').length);
			asked++;

			return (asked < 3)
				? { state: 'running', text: '', steps: sample.steps(asked * 2), transcript: [] }
				: { state: 'failed', text: 'the provider refused the login', steps: sample.steps(5, true), transcript: [ '> AUTH PLAIN ********', '< 535 5.7.8 no' ] };
		}
	}) });

	await there.open('test');
	assert.equal(there.get('#smtprelay-to').value, 'me@gmail.com');
	there.type('#smtprelay-to', 'ops@example.com');
	await there.press('#smtprelay-send');
	assert.deepEqual(seen, [ 0, 2, 4 ]);
	assert.match(there.get('[data-state=failed]').textContent, /\u2717.*Login.*do something about it/);
	assert.match(there.get('#smtprelay-transcript').textContent, /AUTH PLAIN \*+\n< 535/);
	assert.match(there.get('#smtprelay-result').textContent, /the provider refused the login/);
});

test('test: a wrong address is not sent', async () => {
	const there = world({ ubus: sample.answers() });

	await there.open('test');
	there.type('#smtprelay-to', 'nobody');
	await there.press('#smtprelay-send');
	assert.match(there.text(), /Enter the recipient/);
	assert.ok(!there.calls.some(({ method }) => method == 'test'));
});

/** A daemon with this in its log: all of it at once, then nothing new. */
const withLog = (entries) => sample.answers({
	'smtprelay log_read': ({ after }) => ({ cursor: 'RUN-9-9', reset: !after, more: false, entries: after ? [] : entries, lines: after ? [] : [ { number: 1, time: sample.NOW, level: 'info', text: 'event=started' } ] })
});

test('log: filters, more entries, and the lines of the daemon', async () => {
	const entries = Array.from({ length: 120 }, (_, i) => sample.verdict({ number: i + 1, id: `ID${i}`, client: `10.0.0.${i % 3}`, device: (i % 3 == 1) ? 'Pump house' : '', outcome: (i % 4) ? 'delivered' : 'failed' }));
	const there = world({ ubus: withLog(entries) });
	const rows = () => there.document.querySelectorAll('#smtprelay-log tr').length - 1;

	await there.open('log');
	assert.equal(rows(), 50);
	assert.match(there.get('#smtprelay-log').textContent, /10\.0\.0\.2.*Pump house10\.0\.0\.1/s, 'newest first, devices by name');
	assert.match(there.get('#smtprelay-syslog').textContent, /event=started/);
	await there.press('Show more');
	assert.equal(rows(), 100);
	await there.poll();
	assert.equal(rows(), 100, 'nothing new comes, nothing is lost');
	there.type('#smtprelay-outcome', 'failed');
	assert.equal(rows(), 30);
	there.type('#smtprelay-client', '10.0.0.1');
	assert.equal(rows(), 10);
	there.type('#smtprelay-filter', 'nothing such');
	assert.match(there.text(), /No matching entries/);
});

test('log and queue: the subject is the headline of a message, is searched, and may be missing', async () => {
	const shouted = 'x'.repeat(300);
	const entries = [ sample.verdict({ subject: '<b>Störung</b>' }), sample.verdict({ number: 2, subject: '' }), sample.verdict({ number: 3, subject: shouted }) ];
	const there = world({ ubus: withLog(entries) });
	const subjects = () => Array.from(there.document.querySelectorAll('.smtprelay-subject'), (node) => node.textContent);

	await there.open('log');
	assert.deepEqual(subjects(), [ `${'x'.repeat(109)}…`, '<b>Störung</b>' ]);
	there.type('#smtprelay-filter', 'störung');
	assert.deepEqual(subjects(), [ '<b>Störung</b>' ]);

	const queue = world({ ubus: sample.answers({ 'smtprelay queue': () => ({ total: 3, offset: 0, messages: [ sample.message(), sample.message({ subject: '' }), { id: 'X', size: 1, error: 'torn' } ] }) }) });

	await queue.open('queue');
	assert.deepEqual(Array.from(queue.document.querySelectorAll('.smtprelay-subject'), (node) => node.textContent), [ 'Pump 3: Störung' ]);
});

test('overview: before anything is set up, only the first step is shown', async () => {
	const there = world({ config: sample.SHIPPED, ubus: sample.answers({ 'smtprelay status': () => sample.status({ state: 'no_account', accounts: [] }) }) });

	await there.open('overview');
	assert.ok(there.get('#smtprelay-rest').classList.contains('hidden'));
	assert.ok(there.get('#smtprelay-wizard'));
	assert.equal(there.document.querySelectorAll('#smtprelay-cancel').length, 0);
});

for (const [ view, state ] of [ [ 'overview', sample.SHIPPED ], [ 'overview', sample.SET_UP ], [ 'queue', sample.SET_UP ], [ 'test', sample.SET_UP ], [ 'log', sample.SET_UP ] ]) {
	test(`${view}: at most one button is the main one`, async () => {
		const there = world({ config: state, ubus: sample.answers({ 'smtprelay devices': () => ({ devices: [ sample.device({ allowed: false }), sample.device({ client: '10.0.0.9', allowed: false }) ] }) }) });

		await there.open(view);

		const main = Array.from(there.document.querySelectorAll('.cbi-button-positive, .cbi-button-apply, .cbi-button-save, .important'), (button) => button.textContent);

		assert.ok(main.length <= 1, main.join(', '));
	});
}

test('pages have no colours of their own', () => {
	for (const name of files(RESOURCES, '.js'))
		assert.doesNotMatch(fs.readFileSync(path.join(RESOURCES, name), 'utf8'), /(?:color|background|fill|border)\s*:\s*[^,\s'"]|#[0-9a-f]{6}\b/i, name);
});

test('each page says why the daemon does not answer, and starts it', async () => {
	for (const view of [ 'overview', 'queue', 'log' ]) {
		const ran = [];
		let runs = false;
		const there = world({ config: sample.SET_UP, exec: async (command, args) => {
			ran.push(args[0]);
			runs ||= args[0] == 'start';

			return { code: (args[0] == 'enabled') ? 1 : 0 };
		} });

		await there.open(view);
		assert.match(there.text(), /not running: it is disabled under System/, view);
		Object.assign(there.ubus, sample.answers());
		await there.press('#smtprelay-start');
		assert.deepEqual(ran.filter((action) => /^(enable|start)$/.test(action)), [ 'enable', 'start' ], view);
		assert.ok(runs);
		await there.poll();
		assert.doesNotMatch(there.text(), /not running/, view);
		there.ubus['smtprelay status'] = there.ubus['smtprelay queue'] = there.ubus['smtprelay log_read'] = () => { throw new Error('failed with error -32002: Access denied'); };
		await there.poll();
		assert.match(there.text(), /session has expired/, view);
	}
});

test('overview: HELO is never the name of a device; what went wrong has a badge', async () => {
	const devices = [
		sample.device({ client: '10.0.0.8', device: '', name: '', helo: 'localhost.localdomain', last_verdict: { outcome: 'deferred', text: 'later', time: sample.NOW } }),
		sample.device({ client: '10.0.0.9', device: 'Boiler', name: 'esp-123', section: 'boiler', mac: '', last_verdict: { outcome: 'failed', text: 'no', time: sample.NOW } })
	];
	const there = world({ config: sample.SET_UP, ubus: sample.answers({ 'smtprelay devices': () => ({ devices }) }) });

	await there.open('overview');
	assert.deepEqual(Array.from(there.document.querySelectorAll('#smtprelay-devices strong'), (node) => node.textContent), [ '10.0.0.8', 'Boiler' ]);
	assert.deepEqual(Array.from(there.document.querySelectorAll('#smtprelay-devices .smtprelay-badge'), (node) => [ node.dataset.level, node.textContent ]), [ [ 'warning', 'deferred' ], [ 'bad', 'failed' ] ]);
});

test('overview: when a device was last heard, and who is silent for too long on top', async () => {
	const devices = [ sample.device({ client: '10.0.0.8', device: 'Lift' }), sample.device({ client: '10.0.0.9', device: 'Pump house', section: 'pump' }) ];
	const expected = [ sample.expected({ overdue: true, silent: 90000, last_heard: sample.NOW - 90000 }), sample.expected({ name: 'boiler', device: 'Boiler <b>', overdue: true, silent: 99000, last_heard: null }) ];
	const there = world({ config: sample.SET_UP, ubus: sample.answers({ 'smtprelay devices': () => ({ devices }), 'smtprelay status': () => sample.status({ expected }) }) });

	await there.open('overview');

	const cells = (row) => Array.from(row.querySelectorAll('td'), (cell) => cell.textContent);
	const [ head, ...rows ] = there.document.querySelectorAll('#smtprelay-devices tr');

	assert.deepEqual(Array.from(head.children, (cell) => cell.textContent), [ 'Device', 'Last heard', 'Last message', 'Totals', 'State' ]);
	assert.deepEqual(rows.map((row) => row.querySelector('strong').textContent), [ 'Boiler <b>', 'Pump house', 'Lift' ]);
	assert.deepEqual(cells(rows[0]).slice(1), [ '\u2013Silent for 1 day, expected every 1 day.', '\u2013', '\u2013', 'silent' ]);
	assert.match(cells(rows[1])[1], /\d\d.*Silent for 1 day, expected every 1 day\./);
	assert.match(cells(rows[1])[4], /^silent/);
	assert.doesNotMatch(cells(rows[2])[1], /xpected/);
	assert.match(there.get('#smtprelay-health').textContent, /Silent for too long: Pump house, Boiler <b>\./);
});

test('overview: a paused account takes a new password where its reason stands', async () => {
	const stored = [];
	const there = world({ config: sample.SET_UP, ubus: sample.answers({
		'smtprelay status': () => sample.status({ state: 'paused', accounts: [ sample.account({ paused: { reason: 'the login was refused', remedy: null, since: 60, next: 60 } }), sample.account({ name: 'other' }) ] }),
		'smtprelay set_password': (args) => {
			stored.push(args);

			return {};
		}
	}) });

	await there.open('overview');
	assert.equal(there.document.querySelectorAll('[data-password]').length, 1);
	await there.press('[data-password="gmail"]');
	await there.press('#smtprelay-store');
	assert.match(there.get('#modal').textContent, /Enter the password/);
	there.type('#smtprelay-new-password', 'new secret');
	await there.press('#smtprelay-store');
	assert.deepEqual(stored, [ { account: 'gmail', password: 'new secret' } ]);
	assert.equal(there.get('#modal').textContent, '');
});

test('overview: adding an account can be cancelled', async () => {
	const there = world({ config: sample.SET_UP, ubus: sample.answers() });

	await there.open('overview');
	await there.press('#smtprelay-add');
	assert.ok(there.get('#smtprelay-wizard'));
	await there.press('#smtprelay-cancel');
	assert.equal(there.document.querySelectorAll('#smtprelay-wizard').length, 0);
	assert.ok(!there.calls.some(({ method }) => method == 'commit'));
});

test('overview: the axis of the chart has round numbers', async () => {
	const axis = async (delivered) => {
		const counters = { ...sample.status().counters, days: [ { day: Math.floor(sample.NOW / 86400) * 86400, accepted: 0, delivered, failed: 0, refused: 0 } ] };
		const there = world({ config: sample.SET_UP, ubus: sample.answers({ 'smtprelay status': () => sample.status({ counters }) }) });

		await there.open('overview');

		return Array.from(there.document.querySelectorAll('[data-axis]'), (node) => Number(node.textContent));
	};

	assert.deepEqual(await axis(0), [ 0, 1, 2 ]);
	assert.deepEqual(await axis(17), [ 0, 10, 20 ]);
	assert.deepEqual(await axis(37), [ 0, 20, 40 ]);
	assert.deepEqual(await axis(101), [ 0, 100, 200 ]);
});

test('queue: all messages are deleted after a question', async () => {
	const done = [];
	const there = world({ ubus: sample.answers({ 'smtprelay delete': ({ id }) => {
		done.push(id);

		return { count: 1, in_hand: 0, failed: 0 };
	} }) });

	await there.open('queue');
	assert.match(there.text(), /device Pump house \(192\.168\.1\.20\)/);
	await there.press('#smtprelay-delete-all');
	assert.match(there.get('#modal').textContent, /1 message will be deleted permanently/);
	assert.deepEqual(done, []);
	await there.press('#smtprelay-delete');
	assert.deepEqual(done, [ 'all' ]);
});
