// SPDX-License-Identifier: Apache-2.0
// What the pages show and do, with a daemon that works and with none.
import assert from 'node:assert/strict';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { VIEWS } from './sources.mjs';

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

test('log: filters, more entries, and the system log where it can be read', async () => {
	const entries = Array.from({ length: 120 }, (_, i) => sample.verdict({ id: `ID${i}`, client: `10.0.0.${i % 3}`, outcome: (i % 4) ? 'delivered' : 'failed' }));
	const there = world({ ubus: sample.answers({ 'smtprelay history': () => ({ total: 120, entries }) }) });
	const rows = () => there.document.querySelectorAll('#smtprelay-log tr').length - 1;

	await there.open('log');
	assert.equal(rows(), 50);
	assert.equal(there.get('#smtprelay-syslog').textContent, '', 'the ACL grants no log');
	await there.press('Show more');
	assert.equal(rows(), 100);
	there.type('#smtprelay-outcome', 'failed');
	assert.equal(rows(), 30);
	there.type('#smtprelay-client', '10.0.0.1');
	assert.equal(rows(), 10);
	there.type('#smtprelay-filter', 'nothing such');
	assert.match(there.text(), /No matching entries/);
});
