// SPDX-License-Identifier: Apache-2.0
// A user who may only look: no buttons that change anything, no secrets, no call that the ACL does not grant.
import assert from 'node:assert/strict';
import test from 'node:test';
import { ACL, granted, world } from './fake.mjs';
import * as sample from './samples.mjs';
import { VIEWS } from './sources.mjs';

/** What only looks. */
const HARMLESS = [ 'Show', 'Close', 'Show more' ];

test('the ACL gives no settings to those who may only look', () => {
	assert.equal(ACL.read.uci, undefined);
	assert.equal(ACL.read.file, undefined);
	assert.deepEqual(Object.keys(ACL.read.ubus), [ 'smtprelay' ]);

	for (const method of [ 'set_password', 'test', 'retry', 'hold', 'release', 'delete', 'reload', 'login_start', 'login_poll' ])
		assert.equal(granted(false, 'smtprelay', method), false, method);
});

for (const view of VIEWS) {
	test(`${view}: nothing can be changed`, async () => {
		const there = world({
			writable: false, config: sample.SET_UP, ubus: sample.answers({
				'smtprelay devices': () => ({ devices: [ sample.device({ allowed: false }) ] }),
				'smtprelay status': () => sample.status({ accounts: [ sample.account({ auth: 'xoauth2', secret: 'missing' }) ] })
			})
		});

		await there.open(view);
		await there.poll();
		assert.deepEqual(there.buttons().filter((label) => !HARMLESS.includes(label)), []);
		assert.equal(there.document.querySelectorAll('input[type=password]').length, 0);
		assert.equal(there.state.loads, 0, 'the settings are not even asked for');
		assert.equal(there.forms.length, 0);
		assert.deepEqual(there.calls.filter((call) => call.object != 'log' && !granted(false, call.object, call.method)), []);
	});

	test(`${view}: an administrator sees something to press, so the test above can fail`, { skip: view == 'log' }, async () => {
		const there = world({ config: sample.SET_UP, ubus: sample.answers({ 'smtprelay devices': () => ({ devices: [ sample.device({ allowed: false }) ] }) }) });

		await there.open(view);
		assert.ok(there.buttons().some((label) => !HARMLESS.includes(label)) || there.forms.length > 0);
	});
}

test('the settings page says whom it is for', async () => {
	const there = world({ writable: false });
	const page = await there.open('settings');

	assert.match(there.text(), /only available to administrators/);
	assert.equal(page.handleSaveApply, null);
	assert.equal(page.handleReset, null);
});
