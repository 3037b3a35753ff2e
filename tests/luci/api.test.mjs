// SPDX-License-Identifier: Apache-2.0
// Every call of the pages is one that the daemon knows and the ACL grants, and the other way round.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { ACL, granted, world } from './fake.mjs';
import * as sample from './samples.mjs';
import { APP, RESOURCES, TREE, VIEWS, files } from './sources.mjs';

/** What LuCI's own modules call for the pages. */
const THROUGH_LUCI = [ 'file exec' ];

const declared = world();

for (const view of VIEWS)
	declared.require(`view.smtprelay.${view}`);

test('only one module calls ubus', () => {
	const callers = files(RESOURCES, '.js').filter((name) => fs.readFileSync(path.join(RESOURCES, name), 'utf8').includes('rpc.declare'));

	assert.deepEqual(callers, [ 'smtprelay/api.js' ]);
});

test('the ACL grants each call and nothing else', () => {
	const used = declared.declared.map(({ object, method }) => `${object} ${method}`).concat(THROUGH_LUCI);
	const allowed = [ ACL.read, ACL.write ].flatMap((part) => Object.entries(part.ubus).flatMap(([ object, methods ]) => methods.map((method) => `${object} ${method}`)));

	assert.deepEqual(used.sort(), allowed.sort());
	assert.equal(granted(true, 'smtprelay', 'wake'), false);
});

test('the daemon answers each method', () => {
	const sources = files(path.join(TREE, 'src/control'), '.rs').map((name) => fs.readFileSync(path.join(TREE, 'src/control', name), 'utf8')).join('\n');
	const missing = declared.declared.filter(({ object, method }) => object == 'smtprelay' && !sources.includes(`"${method}"`)).map(({ method }) => method);

	assert.deepEqual(missing, []);
});

test('the commands and files are those that the ACL names', async () => {
	const ran = [];
	const there = world({ exec: async (command, args) => {
		ran.push([ command, ...args ].join(' '));

		return { code: 0, stdout: '[]' };
	}, ubus: { 'file write': ({ path: file }) => {
		ran.push(file);

		return {};
	} } });
	const api = there.require('smtprelay.api');

	await api.providers();
	await api.services();
	await api.absence(true);
	await api.start(true);
	await api.storeAuthority('office', 'PEM');
	assert.ok(ran.includes('/etc/ssl/smtprelay-office.pem'));

	const named = new Set(ran.map((what) => what.replace('smtprelay-office.pem', 'smtprelay-*.pem')));

	assert.deepEqual([ ...named ].sort(), Object.keys(ACL.write.file));
});

test('only what is new in the log is fetched', async () => {
	const asked = [];
	const answers = [
		{ cursor: 'A-2-1', reset: true, more: true, entries: [ { number: 1, times: 1 }, { number: 2, times: 1 } ], lines: [ { number: 1 } ] },
		{ cursor: 'A-2-2', reset: false, more: false, entries: [ { number: 2, times: 1 } ], lines: [ { number: 2 } ] },
		// The last result was repeated, and another one came.
		{ cursor: 'A-3-2', reset: false, more: false, entries: [ { number: 2, times: 5 }, { number: 3, times: 1 } ], lines: [] },
		// The daemon was restarted.
		{ cursor: 'B-1-1', reset: true, more: false, entries: [ { number: 1, times: 9 } ], lines: [ { number: 1 } ] }
	];
	const there = world({ ubus: { 'smtprelay log_read': ({ after }) => {
		asked.push(after);

		return answers.shift();
	} } });
	const api = there.require('smtprelay.api');
	const log = { cursor: '', entries: [], lines: [] };

	await api.readLog(log);
	assert.deepEqual([ log.entries.length, log.lines.length ], [ 2, 2 ]);
	await api.readLog(log);
	assert.deepEqual(log.entries.map(({ number, times }) => [ number, times ]), [ [ 1, 1 ], [ 2, 5 ], [ 3, 1 ] ]);
	await api.readLog(log);
	assert.deepEqual([ log.entries, log.lines ], [ [ { number: 1, times: 9 } ], [ { number: 1 } ] ]);
	assert.deepEqual(asked, [ undefined, 'A-2-1', 'A-2-2', 'A-3-2' ]);
});

test('why there is no status is told apart', async () => {
	const there = world({ config: sample.SET_UP, exec: async () => ({ code: 0 }) });
	const api = there.require('smtprelay.api');
	const reason = async (objects, error, writable = true) => {
		there.objects = objects;
		api.lastError = error ?? '';

		return api.absence(writable);
	};

	assert.equal(await reason([ 'session' ]), 'stopped');
	assert.equal(await reason([ 'session' ], '', false), 'stopped', 'who may only look asks no script');
	assert.equal(await reason([]), 'rpcd');
	assert.equal(await reason([ 'session', 'smtprelay' ], 'failed with error -32002: Access denied'), 'session');
	assert.equal(await reason([ 'session', 'smtprelay' ], 'timed out'), 'silent');
	there.require('rpc').list = async () => { throw new Error('HTTP error 0'); };
	assert.equal(await reason([]), 'router');

	const off = world({ exec: async () => ({ code: 1 }) });

	assert.equal(await off.require('smtprelay.api').absence(true), 'disabled');
});

test('a refusal becomes an error with its kind', async () => {
	const there = world({ ubus: { 'smtprelay message': () => ({ error: 'there is no message X', kind: 'not_found' }) } });

	await assert.rejects(there.require('smtprelay.api').message('X'), { message: 'there is no message X', kind: 'not_found' });
});

test('without the service there is no status; a refused one is an error', async () => {
	assert.equal(await world().require('smtprelay.api').status(), null);

	const there = world({ ubus: { 'smtprelay status': () => ({ error: 'the gateway is shutting down', kind: 'failed' }) } });

	await assert.rejects(there.require('smtprelay.api').status());
});

test('each tab of the menu is a page that there is', () => {
	const menu = JSON.parse(fs.readFileSync(path.join(APP, 'root/usr/share/luci/menu.d/luci-app-smtprelay.json'), 'utf8'));
	const views = Object.values(menu).filter(({ action }) => action.type == 'view').map(({ action }) => action.path);

	assert.deepEqual(views, VIEWS.map((view) => `smtprelay/${view}`));
	assert.ok(views.every((view) => fs.existsSync(path.join(RESOURCES, 'view', `${view}.js`))));
	assert.deepEqual(menu['admin/services/smtprelay'].depends.acl, [ 'luci-app-smtprelay' ]);
});

test('lists that come in parts are put together', async () => {
	const asked = [];
	const there = world({ ubus: {
		'smtprelay queue': ({ offset, limit }) => {
			asked.push([ offset, limit ]);

			return { total: 7, messages: Array.from({ length: Math.min(3, limit, 7 - offset) }, (_, i) => offset + i) };
		},
		'smtprelay devices': () => ({ total: 2, devices: [] })
	} });
	const api = there.require('smtprelay.api');

	assert.deepEqual((await api.queue(0, 200)).messages, [ 0, 1, 2, 3, 4, 5, 6 ]);
	assert.deepEqual((await api.queue(2, 4)).messages, [ 2, 3, 4, 5 ]);
	assert.deepEqual(asked, [ [ 0, 200 ], [ 3, 197 ], [ 6, 194 ], [ 2, 4 ], [ 5, 1 ] ]);
	assert.deepEqual(await api.devices(), [], 'an empty part ends the list');
});
