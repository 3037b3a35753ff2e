// SPDX-License-Identifier: Apache-2.0
// From nothing, or from an account that works, to a test message on a phone; and channels on the other pages.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { TREE } from './sources.mjs';

/** What the wizard writes, without the names that LuCI invents. tests/channels.rs runs the daemon with it. */
const WRITTEN = JSON.parse(fs.readFileSync(path.join(TREE, 'tests/data/luci/channel.json'), 'utf8'));

const CHANNEL = { name: 'ntfy', provider: 'ntfy', service: 'ntfy', host: 'ntfy.sh', port: 443, from: '', username: '', auth: 'token', secret: 'set', last: null };

/** A router whose daemon uses what is written, and whose services answer as `job` says. */
function router({ config = sample.SET_UP, job = () => ({ state: 'done' }), changes = {} } = {}) {
	const stored = {};
	const there = world({ config, ubus: sample.answers({
		'smtprelay status': () => {
			const used = there.state.committed.filter((section) => [ 'account', 'channel' ].includes(section['.type']) && (section.username || section.service));
			const account = (section) => sample.account({ name: section['.name'], ...(section.service ? { ...CHANNEL, name: section['.name'], service: section.service, secret: stored[section['.name']] ? 'set' : 'missing' } : {}) });

			return sample.status({ accounts: used.map(account) });
		},
		'smtprelay reload': () => ({ warnings: [] }),
		'smtprelay set_password': ({ account, password }) => {
			stored[account] = password;

			return {};
		},
		'smtprelay test': () => ({ job: 'j' }),
		'smtprelay job': () => {
			const { state, ...more } = job(there, stored);

			return { state, text: '', steps: sample.steps((state == 'done') ? 7 : 5, state == 'failed'), transcript: [], ...more };
		},
		...changes
	}) });

	return Object.assign(there, { stored });
}

const ours = (there) => there.state.committed.filter((section) => [ 'channel', 'route', 'alias' ].includes(section['.type']));
const nameless = (sections) => sections.map((section) => (section['.type'] == 'channel') ? section : Object.fromEntries(Object.entries(section).filter(([ name ]) => name != '.name')));
const hidden = (there, selector) => there.get(selector).closest('.cbi-value').classList.contains('hidden');

/** Opens the wizard next to an account that works. */
async function adding(options) {
	const there = router(options);

	await there.open('overview');
	await there.press('#smtprelay-add-channel');

	return there;
}

test('a channel next to an account: at most 6 clicks and 2 fields', async () => {
	const there = router();
	// The way to the page.
	const clicks = [ 'Services', 'SMTP relay' ];
	const fields = [];
	const type = (selector, value) => {
		clicks.push(selector);
		fields.push(selector);
		there.type(selector, value);
	};
	const press = (selector) => {
		clicks.push(selector);

		return there.press(selector);
	};

	await there.open('overview');
	await press('#smtprelay-add-channel');
	// ntfy is the first of the list, and the address of the account's last message is there already.
	assert.equal(there.get('#smtprelay-service').value, 'ntfy');
	assert.equal(there.get('#smtprelay-alias').value, 'ops@example.com');
	type('#smtprelay-channel-to', ' plant-alarms-5Gq2 ');
	type('#smtprelay-token', 'tk_s3cret');
	there.type('#smtprelay-alias', 'alarms@example.com');
	await press('#smtprelay-save');

	assert.match(there.text(), /ntfy has accepted the test message\. Everything works\./);
	assert.ok(clicks.length <= 6 && fields.length <= 2, clicks.join(', '));
	assert.deepEqual(nameless(ours(there)), WRITTEN);
	assert.deepEqual(there.stored, { ntfy: 'tk_s3cret' });
	assert.ok(!JSON.stringify(there.state).includes('tk_s3cret'), 'the token is in no file of settings');
	assert.equal(there.get('#smtprelay-token').value, '', 'the token does not stay in the page');
	assert.deepEqual(there.calls.findLast(({ method }) => method == 'test').args, { to: 'ntfy@channel.invalid', account: 'ntfy' });
	assert.deepEqual(Array.from(there.document.querySelectorAll('[data-step]'), (node) => node.dataset.state), Array(7).fill('ok'));

	const order = there.calls.map(({ method }) => method).filter((method) => [ 'commit', 'set_password', 'test' ].includes(method));

	assert.deepEqual(order, [ 'commit', 'set_password', 'test' ]);
});

test('on a new router a channel takes all mail', async () => {
	const there = router({ config: sample.SHIPPED });

	await there.open('overview');
	assert.match(there.get('#smtprelay-health').textContent, /^Not set up yet/);
	await there.press('#smtprelay-other');
	assert.equal(there.get('#smtprelay-mail').value, 'all');
	there.type('#smtprelay-service', 'telegram');
	there.type('#smtprelay-channel-to', '4711');
	there.type('#smtprelay-token', '1:abc');
	await there.press('#smtprelay-save');
	assert.deepEqual(there.state.committed, [
		{ '.type': 'relay', '.name': 'main', enabled: '1' },
		{ '.type': 'listener', '.name': 'lan', interface: [ 'lan' ], port: '25' },
		{ '.type': 'channel', '.name': 'telegram', service: 'telegram', to: '4711', default: '1' }
	]);

	// From then on it is a router that is set up.
	const again = router({ config: there.state.committed });

	await again.open('overview');
	assert.equal(again.document.querySelector('#smtprelay-other'), null);
	await again.press('#smtprelay-add-channel');
	assert.ok(again.get('#smtprelay-channel-wizard'));

	const back = router({ config: sample.SHIPPED });

	await back.open('overview');
	await back.press('#smtprelay-other');
	await back.press('#smtprelay-other');
	assert.ok(back.get('#smtprelay-wizard'), 'and back to an account');
});

test('each service has its own fields and words, and complains about what is missing', async () => {
	for (const service of sample.SERVICES.filter(({ id }) => id != 'custom')) {
		const there = await adding();
		const said = () => there.get('#smtprelay-progress').textContent;

		there.type('#smtprelay-service', service.id);
		assert.equal(hidden(there, '#smtprelay-url'), !service.own, service.id);
		assert.equal(hidden(there, '#smtprelay-channel-to'), !service.to, service.id);
		assert.ok(there.get('#smtprelay-service-help').textContent.toLowerCase().includes(service.help.toLowerCase()), service.id);
		assert.equal(there.get('#smtprelay-service-help a').href, service.docs);
		assert.equal(there.get('#smtprelay-token').closest('.cbi-value').firstElementChild.textContent, { address: 'Webhook address', optional: 'Token (optional)', required: 'Token' }[service.token], service.id);

		if (service.own && !service.base) {
			await there.press('#smtprelay-save');
			assert.match(said(), /address of your server/, service.id);
			there.type('#smtprelay-url', 'http://push.plant.local');
			await there.press('#smtprelay-save');
			assert.match(said(), /address of your server/, `${service.id}: never without encryption`);
			there.type('#smtprelay-url', 'https://push.plant.local/');
		}

		if (service.to) {
			await there.press('#smtprelay-save');
			assert.ok(said().includes(service.to), service.id);
			there.type('#smtprelay-channel-to', 'ops');
		}

		if (service.token != 'optional') {
			await there.press('#smtprelay-save');
			assert.match(said(), /Enter the (?:token|webhook address)\./, service.id);
			there.type('#smtprelay-token', (service.token == 'address') ? 'hooks.example.com/x' : 's3cret');
		}

		if (service.token == 'address') {
			await there.press('#smtprelay-save');
			assert.match(said(), /must begin with https/, service.id);
			there.type('#smtprelay-token', 'https://hooks.example.com/x');
		}

		there.type('#smtprelay-mail', 'none');
		assert.ok(!there.calls.some(({ method }) => method == 'commit'), service.id);
		await there.press('#smtprelay-save');
		assert.match(there.text(), /has accepted the test message/, service.id);
		assert.deepEqual(ours(there), [ {
			'.type': 'channel', '.name': service.id, service: service.id,
			...((service.own && !service.base) ? { url: 'https://push.plant.local' } : {}), ...(service.to ? { to: 'ops' } : {})
		} ], service.id);
	}
});

test('what did not work is done once more: another service, another token, other mail, and nothing is left of it', async () => {
	let accepts = false;
	const config = [ ...sample.SET_UP, { '.type': 'alias', '.name': 'a1', name: [ 'root', 'ALARMS@example.com' ], to: 'ops@example.com' }, { '.type': 'route', '.name': 'r1', client: [ '10.0.0.0/8' ], account: [ 'gmail' ] } ];
	const there = await adding({ config, job: () => ({ state: accepts ? 'done' : 'failed', text: accepts ? '' : 'api.telegram.org refused the token: HTTP 401' }) });

	there.type('#smtprelay-service', 'telegram');
	there.type('#smtprelay-channel-to', '4711');
	there.type('#smtprelay-token', '1:abc');
	there.type('#smtprelay-alias', 'alarms@example.com');
	await there.press('#smtprelay-save');
	assert.match(there.get('#smtprelay-progress').textContent, /refused the token/);
	assert.deepEqual(ours(there).map((section) => section['.type']), [ 'alias', 'route', 'route', 'channel' ]);
	assert.deepEqual(ours(there)[0].to, [ 'ops@example.com', 'telegram@channel.invalid' ], 'an alias that is there is extended');
	assert.deepEqual(ours(there)[1].recipient, [ 'telegram@channel.invalid' ], 'the new route comes first: the other would match as well');
	assert.deepEqual(there.stored, { telegram: '1:abc' });

	// The same again writes nothing twice, and needs no token again.
	await there.press('#smtprelay-save');
	assert.equal(ours(there).length, 4);
	assert.equal(ours(there)[0].to.length, 2);
	assert.equal(there.calls.filter(({ method }) => method == 'set_password').length, 1);

	accepts = true;
	there.type('#smtprelay-service', 'ntfy');
	there.type('#smtprelay-channel-to', 'topic');
	there.type('#smtprelay-mail', 'all');
	await there.press('#smtprelay-save');
	assert.match(there.text(), /ntfy has accepted/);
	assert.deepEqual(there.stored, { telegram: '' }, 'the token of one service is not sent to another');
	assert.deepEqual(ours(there), [
		{ ...config[3], to: [ 'ops@example.com' ] }, config[4],
		{ '.type': 'channel', '.name': 'telegram', service: 'ntfy', to: 'topic', default: '1' }
	]);
});

test('which mail takes it: routes and aliases of others stay', () => {
	const { plan } = world().require('smtprelay.channels');
	const channels = world().require('smtprelay.channels');
	const of = (mail, sections, alias = 'ops@example.com') => plan.call(channels, 'phone', { mail, alias }, sections);
	const address = 'phone@channel.invalid';
	const route = { '.type': 'route', '.name': 'r', recipient: address, account: 'phone' };
	const own = { '.type': 'alias', '.name': 'a', name: 'ops@example.com', to: [ 'ops@example.com', address ] };

	assert.deepEqual(of('none', []), { remove: [], set: [], add: [] });
	assert.deepEqual(of('also', [ route, own ]), { remove: [], set: [], add: [] }, 'it is there already');
	assert.deepEqual(of('only', [ route, own ]), { remove: [ 'a' ], set: [], add: [] });
	assert.deepEqual(of('none', [ route, own, { ...route, '.name': 'other', account: [ 'phone', 'gmail' ] } ]), { remove: [ 'r', 'a' ], set: [], add: [] });
	assert.deepEqual(of('also', [ route, own ], 'root@example.com'), {
		remove: [ 'a' ], set: [], add: [ { type: 'alias', options: { name: [ 'root@example.com' ], to: [ 'root@example.com', address ] } } ]
	});
});

test('a server of one\'s own whose certificate is unknown can be trusted', async () => {
	const FINGERPRINT = Array(32).fill('AB').join(':');
	const there = await adding({ job: (router) => {
		const trusted = router.state.committed.some((section) => section.fingerprint == FINGERPRINT);

		return trusted ? { state: 'done' } : { state: 'failed', text: 'the certificate of push.plant.local is signed by an unknown authority', certificate: { fingerprint: FINGERPRINT, issuer: 'Plant CA', expires: sample.NOW } };
	} });

	there.type('#smtprelay-service', 'gotify');
	there.type('#smtprelay-url', 'https://push.plant.local');
	there.type('#smtprelay-token', 'app');
	await there.press('#smtprelay-save');
	assert.equal(there.get('#smtprelay-fingerprint').textContent, FINGERPRINT);
	await there.press('#smtprelay-trust');
	assert.match(there.text(), /Gotify has accepted the test message/);
	assert.equal(ours(there).find((section) => section.service).fingerprint, FINGERPRINT);
});

test('the overview shows channels like accounts; a token is entered where its absence is shown', async () => {
	const done = [];
	const accounts = [
		sample.account(),
		sample.account({ ...CHANNEL, secret: 'missing' }),
		sample.account({ ...CHANNEL, name: 'gate', service: 'slack', host: '', auth: 'none', secret: 'none', paused: { reason: 'hooks.slack.com refused the token', remedy: null, since: 60, next: 30 } }),
		sample.account({ ...CHANNEL, name: 'phone', service: 'pushover', last: { time: sample.NOW, to: 'phone@channel.invalid', tls: 'TLSv1.3', cipher: 'X', verified: 'yes', expires: null } })
	];
	const there = world({ config: sample.SET_UP, ubus: sample.answers({
		'smtprelay status': () => sample.status({ accounts }),
		'smtprelay set_password': (args) => {
			done.push(args);

			return {};
		}
	}) });

	await there.open('overview');

	const rows = there.get('#smtprelay-accounts').textContent;

	assert.match(rows, /ntfyChannel: ntfyntfy\.shport 443.*No token is stored\.Enter token/);
	assert.match(rows, /gateChannel: Slack.*refused the tokenEnter token/);
	assert.match(rows, /phoneChannel: Pushover.*Last message: [^@]*$/, 'its recipient is not an address');
	await there.press('[data-password="ntfy"]');
	assert.match(there.get('#modal').textContent, /Enter tokenToken of channel ntfy\./);
	await there.press('#smtprelay-store');
	assert.match(there.get('#modal').textContent, /Enter the token\./);
	there.get('#smtprelay-new-password').value = 'tk';
	await there.press('#smtprelay-store');
	assert.deepEqual(done, [ { account: 'ntfy', password: 'tk' } ]);
});

test('settings: lists of accounts offer channels, and the token goes to the service', async () => {
	const config = [ ...sample.SET_UP, { '.type': 'channel', '.name': 'phone', service: 'ntfy', to: 't', token: 'old' }, { '.type': 'channel', '.name': 'odd', service: 'new-one' } ];
	const there = world({ config, ubus: sample.answers({
		'smtprelay status': () => sample.status({ accounts: [ sample.account(), sample.account({ ...CHANNEL, name: 'phone' }) ] }),
		'smtprelay reload': () => ({ warnings: [] }), 'smtprelay set_password': () => ({})
	}) });
	const page = await there.open('settings');
	const option = (type, name) => there.forms[0].sections.find((section) => section.type == type).options.find((one) => one.name == name);

	for (const type of [ 'device', 'route', 'user' ])
		assert.deepEqual(option(type, 'account').choices, [ [ 'gmail', 'gmail' ], [ 'phone', 'phone (channel)' ], [ 'odd', 'odd (channel)' ] ], type);

	const offered = option('channel', 'service').choices.map(([ id ]) => id);

	assert.deepEqual(offered, [ '', ...sample.SERVICES.map(({ id }) => id), 'new-one' ], 'one that this page does not know stays');
	assert.equal(option('channel', 'service').textvalue('phone'), 'ntfy');
	assert.equal(option('channel', 'token').cfgvalue('phone'), null);
	option('channel', 'token').write('phone', 'tk_new');
	await page.handleSaveApply();
	assert.deepEqual(there.calls.find(({ method }) => method == 'set_password').args, { account: 'phone', password: 'tk_new' });
	assert.ok(!/tk_new|"old"/.test(JSON.stringify(there.state.committed)));
	option('channel', 'token').write('odd', 'x');
	await page.handleSaveApply();
	assert.match(there.notifications.at(-1).text, /The token of channel odd was not stored/);
});

test('test: a channel needs no recipient', async () => {
	const there = world({ ubus: sample.answers({
		'smtprelay status': () => sample.status({ accounts: [ sample.account(), sample.account({ ...CHANNEL }) ] }),
		'smtprelay test': () => ({ job: 'j' }), 'smtprelay job': () => ({ state: 'done', text: '', steps: sample.steps(7), transcript: [] })
	}) });

	await there.open('test');
	there.type('#smtprelay-to', '');
	there.type('#smtprelay-account', 'ntfy');
	assert.ok(hidden(there, '#smtprelay-to'));
	await there.press('#smtprelay-send');
	assert.deepEqual(there.calls.findLast(({ method }) => method == 'test').args, { to: '', account: 'ntfy' });
	assert.match(there.text(), /The provider has accepted the message/);
	there.type('#smtprelay-account', 'gmail');
	assert.ok(!hidden(there, '#smtprelay-to'));
});
