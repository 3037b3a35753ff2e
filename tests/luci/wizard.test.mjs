// SPDX-License-Identifier: Apache-2.0
// From nothing to a delivered test mail.
import assert from 'node:assert/strict';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';

/**
 * A router on which nothing is set up: no daemon until the settings are written. `jobs` are the states of the test mail,
 * one after the other.
 */
function fresh({ config = sample.SHIPPED, jobs = [ [ 'running', 3 ], [ 'done', 7 ] ], changes = {} } = {}) {
	const stored = {};
	let asked = 0;
	const there = world({
		config,
		exec: async (command, args) => {
			const lists = { providers: sample.PROVIDERS, services: sample.SERVICES };

			assert.deepEqual([ command, args[1] ], [ '/usr/sbin/smtprelay', '--json' ]);
			assert.ok(lists[args[0]], args[0]);

			return { code: 0, stdout: JSON.stringify(lists[args[0]]) };
		}
	});
	const runs = () => there.state.committed.some((section) => section['.type'] == 'relay' && section.enabled != '0');
	const used = () => there.state.committed.filter((section) => section['.type'] == 'account' && (section.username || section.from));

	Object.assign(there.ubus, {
		'smtprelay status': () => {
			if (!runs())
				throw new Error('Object not found');

			return sample.status({ accounts: used().map((section) => sample.account({ name: section['.name'], secret: stored[section['.name']] ? 'set' : 'missing' })) });
		},
		'smtprelay devices': () => ({ devices: [] }),
		'smtprelay reload': () => ({ warnings: [] }),
		'smtprelay set_password': ({ account, password }) => {
			assert.ok(used().some((section) => section['.name'] == account));
			stored[account] = password;

			return {};
		},
		'smtprelay test': () => ({ job: 'job-1' }),
		'smtprelay job': ({ id }) => {
			assert.equal(id, 'job-1');

			const [ state, done ] = jobs[Math.min(asked++, jobs.length - 1)];

			return { state, text: (state == 'failed') ? 'the login was refused' : '', steps: sample.steps(done, state == 'failed'), transcript: [] };
		},
		...changes
	});

	return Object.assign(there, { stored });
}

/** A person: counts what is clicked and typed. */
function person(there) {
	const done = { clicks: [], fields: [] };

	return Object.assign(done, {
		click: async (what, selector) => {
			done.clicks.push(what);

			if (selector)
				await there.press(selector);
		},
		choose: (what, selector, value) => {
			done.clicks.push(`open ${what}`, `choose ${value}`);
			there.type(selector, value);
		},
		type: (what, selector, value) => {
			done.clicks.push(`into ${what}`);
			done.fields.push(what);
			there.type(selector, value);
		}
	});
}

test('with a preset: at most 8 clicks and 3 fields', async () => {
	const there = fresh();
	const owner = person(there);

	await owner.click('Services');
	await owner.click('SMTP relay');
	await there.open('overview');
	assert.match(there.get('#smtprelay-health').textContent, /^Not set up yet/);
	owner.choose('Provider', '#smtprelay-provider', 'gmail');
	owner.type('Email address', '#smtprelay-address', 'me@gmail.com');
	owner.type('App password', '#smtprelay-password', 'abcd efgh ijkl mnop');
	await owner.click('Save and send test message', '#smtprelay-save');

	assert.match(there.text(), /The provider has accepted the test message to me@gmail\.com/);
	assert.ok(owner.clicks.length <= 8, owner.clicks.join(', '));
	assert.ok(owner.fields.length <= 3, owner.fields.join(', '));
	assert.deepEqual(there.state.committed, [
		{ '.type': 'relay', '.name': 'main', enabled: '1' },
		{ '.type': 'listener', '.name': 'lan', interface: [ 'lan' ], port: '25' },
		{ '.type': 'account', '.name': 'gmail', provider: 'gmail', username: 'me@gmail.com' }
	]);
	assert.deepEqual(there.stored, { gmail: 'abcd efgh ijkl mnop' });
	assert.ok(!JSON.stringify(there.state).includes('abcd'), 'the password is in no file of settings');
	assert.deepEqual(there.calls.findLast(({ method }) => method == 'test').args, { to: 'me@gmail.com', account: 'gmail' });
	assert.deepEqual(Array.from(there.document.querySelectorAll('[data-step]'), (node) => node.dataset.state), Array(7).fill('ok'));
	assert.equal(there.get('#smtprelay-password').value, '', 'the password does not stay in the page');
});

test('a server of one\'s own: its certificate is trusted after its fingerprint was shown', async () => {
	const FINGERPRINT = Array(32).fill('AB').join(':');
	const there = fresh({ changes: {
		'smtprelay job': () => {
			const { fingerprint, ca_file } = there.state.committed.find((section) => section.host) ?? {};
			const trusted = fingerprint == FINGERPRINT || ca_file;

			return {
				state: trusted ? 'done' : 'failed', text: trusted ? '' : 'the certificate of mail.plant.local is signed by an unknown authority', account: 'provider',
				steps: sample.steps(trusted ? 7 : 4, !trusted), transcript: [],
				certificate: trusted ? null : { fingerprint: FINGERPRINT, issuer: 'Plant CA', expires: sample.NOW }
			};
		},
		'file write': (args) => {
			there.file = args;

			return {};
		}
	} });
	const owner = person(there);

	await owner.click('Services');
	await owner.click('SMTP relay');
	await there.open('overview');
	owner.choose('Provider', '#smtprelay-provider', 'custom');
	owner.type('Mail server', '#smtprelay-host', 'mail.plant.local');
	owner.type('Email address', '#smtprelay-address', 'me@plant.local');
	owner.type('Password', '#smtprelay-password', 'secret');
	await owner.click('Save and send test message', '#smtprelay-save');
	assert.match(there.get('#smtprelay-certificate').textContent, /Plant CA/);
	assert.equal(there.get('#smtprelay-fingerprint').textContent, FINGERPRINT);
	assert.equal(there.state.committed.find((section) => section.host).fingerprint, undefined, 'nothing is trusted unasked');

	// What is pasted must be a certificate.
	there.type('#smtprelay-pem', '/etc/ssl/ca.pem');
	await there.press('#smtprelay-authority');
	assert.match(there.text(), /Expecting a certificate in PEM format/);
	assert.equal(there.file, undefined);

	await owner.click('Trust this certificate', '#smtprelay-trust');
	assert.match(there.text(), /The provider has accepted the test message to me@plant\.local/);
	assert.equal(there.state.committed.find((section) => section.host).fingerprint, FINGERPRINT);
	assert.ok(owner.clicks.length <= 9 && owner.fields.length <= 3, owner.clicks.join(', '));
});

test('a server of one\'s own: the certificate of its authority is pasted', async () => {
	const PEM = `-----BEGIN CERTIFICATE-----\n${'MIIB'.repeat(40)}\n-----END CERTIFICATE-----`;
	const there = fresh({ changes: {
		'smtprelay job': () => {
			const done = !!there.state.committed.find((section) => section.host)?.ca_file;

			return { state: done ? 'done' : 'failed', text: 'no', account: 'provider', steps: sample.steps(done ? 7 : 4, !done), transcript: [], certificate: done ? null : { fingerprint: 'AB', issuer: 'Plant CA', expires: null } };
		},
		'file write': (args) => {
			there.file = args;

			return {};
		}
	} });

	await there.open('overview');
	there.type('#smtprelay-provider', 'custom');
	there.type('#smtprelay-host', 'mail.plant.local');
	there.type('#smtprelay-address', 'me@plant.local');
	there.type('#smtprelay-password', 'secret');
	await there.press('#smtprelay-save');
	there.type('#smtprelay-pem', ` ${PEM}\n\n`);
	await there.press('#smtprelay-authority');
	assert.deepEqual(there.file, { path: '/etc/ssl/smtprelay-provider.pem', data: `${PEM}\n`, mode: 0o644 });
	assert.equal(there.state.committed.find((section) => section.host).ca_file, '/etc/ssl/smtprelay-provider.pem');
	assert.match(there.text(), /The provider has accepted the test message/);

	// Another server must be trusted anew.
	there.type('#smtprelay-host', 'other.plant.local');
	there.type('#smtprelay-password', 'secret');
	await there.press('#smtprelay-save');
	assert.equal(there.state.committed.find((section) => section.host).ca_file, undefined);
});

test('every preset has a name that people know', () => {
	for (const provider of sample.PROVIDERS)
		assert.ok(provider.name, provider.id);
});

test('the address alone tells the provider, and the page says where to get an app password', async () => {
	const there = fresh();

	await there.open('overview');
	there.type('#smtprelay-address', 'me@gmail.com');
	assert.match(there.get('#smtprelay-hint').textContent, /Gmail: an app password is required/);
	assert.equal(there.get('#smtprelay-hint a').getAttribute('href'), 'https://myaccount.google.com/apppasswords');
	assert.equal(there.get('#smtprelay-hint a').getAttribute('rel'), 'noopener noreferrer');
	assert.ok(visible(there, '#smtprelay-password'));
	assert.deepEqual([ 'host', 'port', 'region', 'username', 'client-id' ].filter((id) => visible(there, `#smtprelay-${id}`)), []);
});

/** Whether a field of the wizard is asked for. */
function visible(there, selector) {
	return !there.get(selector).closest('.cbi-value').classList.contains('hidden');
}

test('what each provider needs is asked for', async () => {
	const there = fresh();

	await there.open('overview');

	const asked = (provider) => {
		there.type('#smtprelay-provider', provider);

		return [ 'host', 'region', 'username', 'password', 'client-id', 'client-secret', 'sign-in' ].filter((id) => visible(there, `#smtprelay-${id}`));
	};

	assert.deepEqual(asked('gmail'), [ 'password', 'sign-in' ]);
	assert.deepEqual(asked('outlook'), [ 'client-id' ]);
	assert.deepEqual(asked('ses'), [ 'region', 'username', 'password' ]);
	assert.deepEqual(asked('sendgrid'), [ 'password' ]);
	assert.deepEqual(asked('m365-directsend'), []);
	assert.deepEqual(asked('custom'), [ 'host', 'username', 'password' ]);

	there.get('#smtprelay-sign-in').checked = true;
	assert.deepEqual(asked('gmail'), [ 'client-id', 'client-secret', 'sign-in' ]);
});

test('something is missing: nothing is written', async () => {
	const there = fresh();

	await there.open('overview');

	for (const [ address, password, problem ] of [ [ '', '', /mail server/ ], [ 'me@', 'x', /mail server/ ], [ 'me@gmail.com', '', /Enter the password/ ] ]) {
		there.type('#smtprelay-address', address);
		there.type('#smtprelay-password', password);
		await there.press('#smtprelay-save');
		assert.match(there.get('#smtprelay-progress').textContent, problem);
	}

	assert.deepEqual(there.state.committed, sample.SHIPPED);
	assert.deepEqual(there.calls.filter(({ method }) => [ 'commit', 'set_password', 'test' ].includes(method)), []);
});

test('a refused login shows the step with its remedy; the second try changes the same account', async () => {
	const there = fresh({ jobs: [ [ 'failed', 5 ] ] });

	await there.open('overview');
	there.type('#smtprelay-address', 'me@gmail.com');
	there.type('#smtprelay-password', 'wrong');
	await there.press('#smtprelay-save');
	assert.match(there.text(), /the login was refused/);
	assert.match(there.get('[data-step=login][data-state=failed]').textContent, /do something about it/);
	assert.equal(there.get('#smtprelay-password').value, 'wrong', 'it can be mended');
	assert.equal(there.get('#smtprelay-save').disabled, false);

	there.ubus['smtprelay job'] = () => ({ state: 'done', text: '', steps: sample.steps(7), transcript: [] });
	there.type('#smtprelay-address', 'me@web.de');
	there.type('#smtprelay-password', 'right');
	await there.press('#smtprelay-save');
	assert.deepEqual(there.state.committed.filter((section) => section['.type'] == 'account'), [ { '.type': 'account', '.name': 'gmail', provider: 'webde', username: 'me@web.de' } ]);
	assert.deepEqual(there.stored, { gmail: 'right' });
});

test('settings that the daemon refuses', async () => {
	const there = fresh({ config: [ ...sample.SET_UP, { '.type': 'account', '.name': 'old', username: 'x@example.com' } ], changes: { 'smtprelay reload': () => ({ error: 'line 7: option port', kind: 'wrong' }) } });

	await there.open('overview');
	await there.press('Add account');
	there.type('#smtprelay-address', 'me@gmx.de');
	there.type('#smtprelay-password', 'secret');
	await there.press('#smtprelay-save');
	assert.match(there.get('#smtprelay-progress').textContent, /line 7: option port/);
	assert.deepEqual(there.stored, {});
});

test('a service that does not start says so', async () => {
	const there = fresh({ changes: { 'smtprelay status': () => { throw new Error('Object not found'); } } });

	await there.open('overview');
	there.type('#smtprelay-address', 'me@gmail.com');
	there.type('#smtprelay-password', 'secret');
	await there.press('#smtprelay-save');
	assert.match(there.get('#smtprelay-progress').textContent, /The service did not start/);
});

test('sign-in with a code', async () => {
	const polls = [ { state: 'pending', text: 'waiting' }, { state: 'done', text: 'logged in' } ];
	const there = fresh({ changes: {
		'smtprelay login_start': ({ account }) => {
			assert.equal(account, 'outlook');

			return { job: 'l', url: 'https://microsoft.com/devicelogin', code: 'ABCD-EFGH', expires: 900 };
		},
		'smtprelay login_poll': () => polls.shift()
	} });

	await there.open('overview');
	there.type('#smtprelay-address', 'me@outlook.com');
	there.type('#smtprelay-client-id', '1111-2222');
	await there.press('#smtprelay-save');
	assert.deepEqual(there.state.committed.at(-1), {
		'.type': 'account', '.name': 'outlook', provider: 'outlook', username: 'me@outlook.com', auth: 'xoauth2', oauth: 'microsoft', client_id: '1111-2222'
	});
	assert.equal(polls.length, 0);
	assert.match(there.text(), /has accepted the test message/);
	assert.ok(!there.calls.some(({ method }) => method == 'set_password'));
});

test('sign-in where an address is copied back', async () => {
	let asked = 0;
	const there = fresh({ config: sample.SET_UP, changes: {
		'smtprelay status': () => sample.status({ accounts: [ sample.account({ auth: 'xoauth2', secret: 'missing' }) ] }),
		'smtprelay login_start': () => ({ job: 'l', url: 'https://accounts.google.com/auth', code: null, expires: 900 }),
		'smtprelay login_poll': ({ address }) => {
			const field = there.get('#modal input');

			if (!address) {
				// After pasting nobody has to leave the field.
				field.value = ' http://127.0.0.1:47110/?code=x ';
				field.dispatchEvent(new there.window.Event('input'));

				return (++asked < 5) ? { state: 'pending', text: 'waiting' } : { state: 'failed', text: 'nothing was copied' };
			}

			assert.equal(address, 'http://127.0.0.1:47110/?code=x');

			return { state: 'done', text: 'logged in' };
		}
	} });

	await there.open('overview');
	await there.press('Sign in');
	assert.match(there.get('#modal').textContent, /Signed in/);
});

test('with an account the overview shows no wizard until it is asked for', async () => {
	const there = fresh({ config: sample.SET_UP });

	await there.open('overview');
	assert.equal(there.document.querySelector('#smtprelay-wizard'), null);
	await there.press('Add account');
	there.get('#smtprelay-wizard');
});
