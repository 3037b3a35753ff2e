// SPDX-License-Identifier: Apache-2.0
// Text of devices, providers and mail is hostile: it must show up as text, and nothing of it may become a part of the page.
import assert from 'node:assert/strict';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { VIEWS } from './sources.mjs';

const EVIL = '<img src=x onerror=alert(1)>&amp;"\'<script>alert(2)</script>';
const TURNED = 'invoice\u202egpj.exe\u0000\u001b[31m';

/** Every text of an answer, made hostile; words that the pages compare with stay. */
function poison(value, key = '') {
	if (Array.isArray(value))
		return value.map((one) => poison(one, key));
	if (value && typeof(value) == 'object')
		return Object.fromEntries(Object.entries(value).map(([ name, one ]) => [ name, poison(one, name) ]));
	if (typeof(value) == 'string' && ![ 'state', 'standing', 'tls_mode', 'auth', 'secret', 'outcome', 'interface', 'l3_device', 'mask' ].includes(key))
		return `${value}${EVIL}${TURNED}`;

	return value;
}

const hostile = sample.answers({
	'smtprelay status': () => poison(sample.status({
		state: 'paused', accounts: [ sample.account({ paused: { reason: 'login refused', remedy: 'look', since: 60, next: 30 } }), sample.account({ secret: 'missing', auth: 'xoauth2' }), sample.account() ],
		settings: { file: '', loaded: 0, error: 'line 3', warnings: [ 'odd' ] }, listeners: [ { name: 'lan', address: '', port: 25, tls: 'none', note: 'note' } ]
	})),
	'smtprelay devices': () => ({ devices: [
		poison(sample.device({ rate: { limit: '20/h', digested: 1, deferred: 2, rejected: 3 } })),
		// Its address is right, so that there is a button.
		{ ...poison(sample.device({ allowed: false })), client: '10.9.8.7' }
	] }),
	'smtprelay queue': () => poison({ total: 100, offset: 0, messages: [ sample.message(), { id: 'X', size: 1, error: 'torn' }, sample.message({ held: true, from: '' }) ] }),
	'smtprelay message': () => poison({ ...sample.message(), header: 'Subject: x\r\n', history: [ { what: 'tried', at: 1, results: [ { recipient: 0, state: 'waiting', reply: 'r' }, { recipient: 9, state: 'waiting', reply: 'r' } ] }, { what: 'other' } ] }),
	'smtprelay log_read': () => poison({ cursor: 'R-2-1', reset: true, more: false, entries: [ sample.verdict(), sample.verdict({ number: 2, outcome: 'refused', times: 7 }) ], lines: [ { number: 1, time: 1, level: 'info', text: 'event=x' } ] }),
	'smtprelay test': () => ({ job: 'j' }),
	'smtprelay job': () => poison({ state: 'failed', text: 'no', steps: sample.steps(4, true), transcript: [ '> EHLO x', '< 250 y' ] }),
	'smtprelay login_start': () => poison({ job: 'j', url: 'javascript:alert(1)', code: 'ABCD', expires: 900 }),
	'smtprelay login_poll': () => poison({ state: 'failed', text: 'no' })
});

function check(there) {
	const page = there.document.body;

	assert.equal(page.querySelectorAll('img, script, iframe, object, embed').length, 0, page.innerHTML);
	assert.ok(page.textContent.includes('<img src=x'), 'the text itself is shown');

	for (const node of page.querySelectorAll('*')) {
		for (const { name, value } of node.attributes) {
			assert.ok(!name.startsWith('on'), `${node.tagName} ${name}`);
			assert.ok(name != 'href' || /^(https:|\/)/.test(value), value);
		}
	}

	// eslint-disable-next-line no-control-regex
	assert.ok(!/[\u0000-\u0008\u000b-\u001f\u202a-\u202e\u2066-\u2069]/.test(page.textContent), 'nothing turns or hides text');
}

for (const view of VIEWS.filter((name) => name != 'settings')) {
	test(`${view}: hostile text stays text`, async () => {
		const there = world({ config: sample.SET_UP, ubus: hostile });

		await there.open(view);

		if (view == 'test') {
			there.type('#smtprelay-to', 'me@example.com');
			await there.press('#smtprelay-send');
		}

		check(there);
		await there.poll();
		check(there);
	});
}

test('a message that is shown', async () => {
	const there = world({ ubus: hostile });

	await there.open('queue');
	await there.press('Show');
	assert.match(there.get('#modal').textContent, /History/);
	check(there);
});

test('a device that is to be allowed', async () => {
	const there = world({ config: sample.SET_UP, ubus: hostile });

	await there.open('overview');
	await there.press('[data-allow="10.9.8.7"]');
	assert.match(there.get('#modal').textContent, /10\.9\.8\.7/);
	check(there);
});

test('a sign-in', async () => {
	const there = world({ config: sample.SET_UP, ubus: hostile });

	await there.open('overview');
	await there.press('Sign in');
	check(there);
});

test('a channel that is added', async () => {
	const there = world({ config: sample.SET_UP, ubus: { ...hostile, 'smtprelay providers': () => ({ providers: [], services: poison(sample.SERVICES) }) } });

	await there.open('overview');
	await there.press('#smtprelay-add-channel');
	assert.match(there.get('#smtprelay-channel-wizard').textContent, /<img src=x/);
	check(there);
	there.type('#smtprelay-url', 'https://push.example.com');
	await there.press('#smtprelay-save');
	check(there);
});

test('a string that is no array would be parsed, so these tests can fail', () => {
	const there = world();

	assert.equal(there.E('p', EVIL).querySelectorAll('img').length, 1);
	assert.equal(there.E('p', [ EVIL ]).querySelectorAll('img').length, 0);
});
