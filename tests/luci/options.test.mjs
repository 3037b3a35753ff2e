// SPDX-License-Identifier: Apache-2.0
// The form, the documentation and the daemon know the same options with the same defaults and words.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { world } from './fake.mjs';
import * as sample from './samples.mjs';
import { TREE } from './sources.mjs';

const forms = Object.fromEntries(world().require('smtprelay.options').sections().map((section) => [ section.type, section ]));
const documented = readDocumentation(fs.readFileSync(path.join(TREE, 'docs/reference/settings.md'), 'utf8'));
const read = readTable();

/** Options that the daemon reads and that have no effect yet. */
const WITHOUT_EFFECT = [ 'account.daily_limit' ];

/** Options of each section of docs/reference/settings.md: their defaults by name. */
function readDocumentation(markdown) {
	const sections = {};

	for (const part of markdown.split(/^## `config /m).slice(1)) {
		const type = /^(\w+)/.exec(part)[1];
		const options = {};
		let columns = [];

		for (const line of part.split('\n')) {
			const cells = line.startsWith('|') ? line.replaceAll('\\|', ' ').split('|').slice(1, -1).map((cell) => cell.trim()) : [];

			if (!cells.length || /^-+$/.test(cells[0])) {
				columns = cells.length ? columns : [];
				continue;
			}

			if (!columns.length) {
				columns = cells;
				continue;
			}

			if (columns[0] == 'option')
				for (const [ , name ] of cells[0].matchAll(/`(?:list )?(\w+)`/g))
					options[name] = (columns[1] == 'default') ? cells[1] : '';
		}

		sections[type] = options;
	}

	return sections;
}

/** Options of each section in the daemon's table. */
function readTable() {
	const table = fs.readFileSync(path.join(TREE, 'src/config/options.rs'), 'utf8').split('#[cfg(test)]')[0];
	const names = (name) => {
		const body = new RegExp(`\\npub fn ${name}\\b.*?\\n}\\n`, 's').exec(table);

		assert.ok(body, `there is a function ${name} in src/config/options.rs`);

		return Array.from(body[0].matchAll(/\(\s*"(\w+)",/g), (found) => found[1]);
	};
	const sections = Object.fromEntries([ 'relay', 'listener', 'user', 'route', 'device', 'alias', 'escalation', 'account', 'channel' ].map((type) => [ type, names(type) ]));

	sections.account.push(...names('oauth'));

	return sections;
}

/** Sections that the pages do not set: they are written in /etc/config/smtprelay. */
const WITHOUT_FORM = [];

test('the sections are those of the documentation', () => {
	const asked = (sections) => Object.keys(sections).filter((name) => !WITHOUT_FORM.includes(name)).sort();

	assert.deepEqual(Object.keys(forms).sort(), asked(documented));
	assert.deepEqual(Object.keys(forms).sort(), asked(read));
});

for (const type of Object.keys(forms)) {
	test(`${type}: form, documentation and daemon have the same options`, () => {
		const known = read[type].filter((name) => !WITHOUT_EFFECT.includes(`${type}.${name}`)).sort();
		const asked = forms[type].options.map((option) => option.name).sort();

		assert.deepEqual(asked, Object.keys(documented[type]).sort());
		assert.deepEqual(asked, known);
		assert.equal(new Set(asked).size, asked.length);
	});

	test(`${type}: each option has a title, help, and the default of the documentation`, () => {
		for (const option of forms[type].options) {
			const plain = /^`([^`]*)`$/.exec(documented[type][option.name]);

			assert.ok(option.title && option.help, option.name);

			if (plain)
				assert.equal(option.preset, plain[1], `${type}.${option.name}`);
			if (option.kind == 'flag')
				assert.match(option.preset, /^[01]$/, option.name);
			if (option.choices && /^\w+$/.test(option.preset ?? ''))
				assert.ok(option.choices.some(([ value ]) => value == option.preset), option.name);
			if (forms[type].tabs.length)
				assert.ok(forms[type].tabs.some(([ tab ]) => tab == option.tab), option.name);
		}
	});
}

test('words to choose from are those of the daemon', () => {
	const sources = [ 'settings.rs', 'device.rs', 'channel.rs', 'escalation.rs' ].map((name) => fs.readFileSync(path.join(TREE, 'src/config', name), 'utf8')).join('\n');
	const words = (name) => Array.from(new RegExp(`impl Keyword for ${name} \\{.*?&\\[(.*?)\\];`, 's').exec(sources)[1].matchAll(/\("(\w+)"/g), (found) => found[1]);
	const offered = (type, name) => forms[type].options.find((option) => option.name == name).choices.map(([ value ]) => value);

	for (const [ type, name, constant ] of [
		[ 'relay', 'durability', 'Durability' ], [ 'relay', 'log_level', 'LevelFilter' ], [ 'listener', 'auth', 'AuthMode' ], [ 'listener', 'dialect', 'Dialect' ],
		[ 'listener', 'tls', 'TlsMode' ], [ 'account', 'tls', 'TlsMode' ], [ 'account', 'from_policy', 'FromPolicy' ], [ 'account', 'oauth', 'Issuer' ], [ 'account', 'auth', 'LoginMethod' ], [ 'device', 'over_rate', 'OverRate' ],
		[ 'channel', 'priority', 'Priority' ], [ 'channel', 'method', 'Method' ], [ 'channel', 'content', 'Content' ], [ 'escalation', 'priority', 'Wanted' ]
	])
		assert.deepEqual(offered(type, name).sort(), words(constant).sort(), `${type}.${name}`);
});

test('the page has all of it', async () => {
	const there = world({ config: sample.SET_UP, ubus: sample.answers() });

	await there.open('settings');

	const [ map ] = there.forms;

	for (const section of map.sections) {
		const form = forms[section.type];

		assert.deepEqual(section.options.map((option) => option.name), form.options.map((option) => option.name));

		for (const option of section.options) {
			const wanted = form.options.find((one) => one.name == option.name);

			if (wanted.preset && option.kind == 'Value' && !option.password)
				assert.equal(option.placeholder, wanted.preset, option.name);
			// The page says that what is shown in grey is the default.
			if (!wanted.preset && option.placeholder && !option.password)
				assert.match(option.placeholder, /^for example /, option.name);
			if (wanted.preset && option.kind == 'Flag')
				assert.equal(option.default, wanted.preset, option.name);
			if (option.kind == 'ListValue')
				assert.equal(option.choices[0][0], '', `${option.name} can be left to its default`);
		}
	}

	assert.equal(map.sections.length, Object.keys(forms).length);
});

test('a picture can be switched off where a service takes one', () => {
	const { services } = JSON.parse(fs.readFileSync(path.join(TREE, 'src/config/services.json'), 'utf8'));
	const { when } = forms.channel.options.find(({ name }) => name == 'picture');

	for (const { id, picture } of services)
		assert.equal(when.service.test(id), picture != null, id);
});
