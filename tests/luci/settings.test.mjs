// SPDX-License-Identifier: Apache-2.0
// The settings page: what it does with passwords, and what it says about the daemon's answer.
import assert from 'node:assert/strict';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';

const CONFIG = [ ...sample.SET_UP.slice(0, 2), { ...sample.SET_UP[2], password: 'plain-secret', client_secret: 'hush' }, { '.type': 'user', '.name': 'cam', password: 'cam-secret' } ];

async function opened(changes, config = CONFIG) {
	const there = world({ config, ubus: sample.answers({ 'smtprelay reload': () => ({ warnings: [] }), 'smtprelay set_password': () => ({}), ...changes }) });
	const page = await there.open('settings');
	const option = (type, name) => there.forms[0].sections.find((section) => section.type == type).options.find((one) => one.name == name);

	return { there, page, option };
}

test('secrets are never read back', async () => {
	const { option } = await opened();

	for (const [ type, name ] of [ [ 'account', 'password' ], [ 'account', 'client_secret' ], [ 'user', 'password' ] ]) {
		const secret = option(type, name);

		assert.equal(secret.password, true);
		assert.equal(secret.cfgvalue('gmail'), null);
		assert.doesNotMatch(secret.placeholder, /secret|hush/);
		assert.equal(secret.modalonly, true, 'it is no column of the table');
	}
});

test('an empty password leaves the stored one', async () => {
	const { there, option } = await opened();

	option('account', 'password').remove('gmail');
	option('user', 'password').remove('cam');
	assert.deepEqual(there.state.config, CONFIG);
});

test('a new password goes to the service, not into the file', async () => {
	const { there, page, option } = await opened();

	option('account', 'password').write('gmail', 'new-secret');
	await page.handleSaveApply();

	const order = there.calls.map(({ method }) => method);

	assert.deepEqual(there.calls.find(({ method }) => method == 'set_password').args, { account: 'gmail', password: 'new-secret' });
	assert.ok(order.indexOf('commit') < order.indexOf('set_password'));
	assert.ok(!JSON.stringify(there.state).includes('new-secret'));
	assert.ok(!JSON.stringify(there.state.committed).includes('plain-secret'), 'one in the settings would go before it');
	assert.equal(there.forms[0].saved, 1);
	assert.match(there.notifications.at(-1).text, /saved and applied/);

	await page.handleSaveApply();
	assert.equal(there.calls.filter(({ method }) => method == 'set_password').length, 1, 'it is stored once');
});

test('while the service does not run it goes into the file', async () => {
	const { there, page, option } = await opened({ 'smtprelay status': () => { throw new Error('Object not found'); } });

	option('account', 'password').write('gmail', 'new-secret');
	await page.handleSaveApply();
	assert.equal(there.state.committed.find((section) => section['.name'] == 'gmail').password, 'new-secret');
	assert.ok(!there.calls.some(({ method }) => method == 'set_password'));
});

test('settings with which the service does not start are not called applied', async () => {
	const gone = () => { throw new Error('Object not found'); };
	const failed = await opened({ 'smtprelay status': gone });

	failed.there.objects = [ 'session' ];
	await failed.page.handleSaveApply();
	assert.ok(failed.there.calls.some(({ method }) => method == 'commit'));
	assert.ok(!failed.there.notifications.some(({ text }) => /saved and applied/.test(text)));
	assert.match(failed.there.notifications.at(-1).text, /The service is not running: it was stopped, or failed to start\. If it does not start, the system log shows the reason\./);

	let asked = 0;
	const started = await opened({ 'smtprelay status': () => (++asked > 3) ? sample.status() : gone() });

	await started.page.handleSaveApply();
	assert.match(started.there.notifications.at(-1).text, /saved and applied/);
	started.option('account', 'password').write('gmail', 'new-secret');
	assert.ok(!JSON.stringify(started.there.state).includes('new-secret'), 'from now on passwords go to the service');

	// Nobody expects it to run.
	const off = await opened({ 'smtprelay status': gone }, [ { '.type': 'relay', '.name': 'main', enabled: '0' }, ...CONFIG.slice(1) ]);

	await off.page.handleSaveApply();
	assert.match(off.there.notifications.at(-1).text, /saved and applied/);
});

test('a password of an account that is not used is reported', async () => {
	const { there, page, option } = await opened();

	option('account', 'password').write('spare', 'x');
	await page.handleSaveApply();
	assert.match(there.notifications.at(-1).text, /The password of account spare was not stored/);
});

test('what the daemon says is shown', async () => {
	const refused = await opened({ 'smtprelay reload': () => ({ error: '/etc/config/smtprelay:7: <b>port</b>', kind: 'wrong' }) });

	await refused.page.handleSaveApply();
	assert.match(refused.there.notifications.at(-1).text, /continues to use the previous settings: .*:7: <b>port/);

	const settings = { file: '/etc/config/smtprelay', loaded: sample.NOW, error: null, warnings: [ 'verify \'0\': anybody can read' ] };
	const warned = await opened({ 'smtprelay reload': () => ({ warnings: [ 'account \'gmail\' has no password' ] }), 'smtprelay status': () => sample.status({ settings }) });

	await warned.page.handleSaveApply();
	assert.ok(!warned.there.notifications.some(({ text }) => /has no password/.test(text)), 'what was true before the passwords were stored is told');
	assert.ok(warned.there.notifications.some(({ text, classes }) => /anybody can read/.test(text) && classes.includes('warning')));
});

test('LuCI of OpenWrt 23.05 has no notifications that vanish', async () => {
	const { there, page } = await opened();

	delete there.ui.addTimeLimitedNotification;
	await page.handleSaveApply();
	assert.match(there.notifications.at(-1).text, /saved and applied/);
	assert.ok(there.notifications.at(-1).classes.includes('success'));
});

test('a value that the form refuses is named, and nothing is saved', async () => {
	const { there, page } = await opened();

	there.forms[0].save = () => Promise.reject(new TypeError('Option "Retry period" contains an invalid input value.'));
	await page.handleSaveApply();
	assert.match(there.notifications.at(-1).text, /The settings were not saved: Option "Retry period"/);
	assert.ok(!there.calls.some(({ method }) => method == 'commit'));
});

test('a file without a section relay gets one', async () => {
	const { there } = await opened({}, sample.SET_UP.slice(1));

	assert.deepEqual(there.state.config.find((section) => section['.type'] == 'relay'), { '.type': 'relay', '.name': 'main' });
});

test('a service that can\'t be asked to reload hears of it from procd', async () => {
	const { there, page } = await opened({ 'smtprelay reload': () => { throw new Error('ubus code 3: Method not found'); } });

	await page.handleSaveApply();
	assert.match(there.notifications.at(-1).text, /saved and applied/);
});

test('the table names providers as people know them', async () => {
	const config = structuredClone(sample.SET_UP).concat([ { '.type': 'account', '.name': 'own', provider: 'custom' }, { '.type': 'account', '.name': 'auto' } ]);
	const there = world({ config, ubus: sample.answers() });

	await there.open('settings');

	const accounts = there.forms[0].sections.find((section) => section.type == 'account');
	const option = (name) => accounts.options.find((one) => one.name == name);

	assert.deepEqual([ 'gmail', 'own', 'auto' ].map((name) => option('provider').textvalue(name)), [ 'Gmail', 'other mail server', 'detected from the address' ]);
	assert.deepEqual(option('region').dependencies, [ { provider: 'ses' } ], 'only Amazon has regions');
	assert.notEqual(option('ca_file').validate('own', 'ca.pem'), true, 'a path is complete or refused');
});
