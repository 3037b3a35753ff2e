// SPDX-License-Identifier: Apache-2.0
// Every call of the pages is one that the daemon knows and the ACL grants, and the other way round.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { ACL, granted, world } from './fake.mjs';
import { APP, RESOURCES, TREE, VIEWS, files } from './sources.mjs';

/** Calls that need a right of somebody else: who has none does without. */
const FOREIGN = [ 'log read' ];
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

	assert.deepEqual(used.filter((call) => !FOREIGN.includes(call)).sort(), allowed.sort());
	assert.equal(granted(true, 'smtprelay', 'wake'), false);
});

test('the daemon answers each method', () => {
	const sources = files(path.join(TREE, 'src/control'), '.rs').map((name) => fs.readFileSync(path.join(TREE, 'src/control', name), 'utf8')).join('\n');
	const missing = declared.declared.filter(({ object, method }) => object == 'smtprelay' && !sources.includes(`"${method}"`)).map(({ method }) => method);

	assert.deepEqual(missing, []);
});

test('the program that lists presets is the one that the ACL names', () => {
	const api = fs.readFileSync(path.join(RESOURCES, 'smtprelay/api.js'), 'utf8');
	const [ , program, args ] = /fs\.exec\('([^']*)', \[ ([^\]]*) \]\)/.exec(api);

	assert.deepEqual(Object.keys(ACL.write.file), [ `${program} ${args.replace(/[',]/g, '').trim()}` ]);
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
		'smtprelay history': ({ offset, limit }) => {
			asked.push([ offset, limit ]);

			return { total: 7, entries: Array.from({ length: Math.min(3, limit, 7 - offset) }, (_, i) => offset + i) };
		},
		'smtprelay devices': () => ({ total: 2, devices: [] })
	} });
	const api = there.require('smtprelay.api');

	assert.deepEqual((await api.history(0, 200)).entries, [ 0, 1, 2, 3, 4, 5, 6 ]);
	assert.deepEqual((await api.history(2, 4)).entries, [ 2, 3, 4, 5 ]);
	assert.deepEqual(asked, [ [ 0, 200 ], [ 3, 197 ], [ 6, 194 ], [ 2, 4 ], [ 5, 1 ] ]);
	assert.deepEqual(await api.devices(), [], 'an empty part ends the list');
});
