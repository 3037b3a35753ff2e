// SPDX-License-Identifier: Apache-2.0
// The template is current, the German catalogue complete, and nothing is shown that can't be translated.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';
import { world } from './fake.mjs';
import { extract, readCatalogue, textsOf, wanted } from './po.mjs';
import * as sample from './samples.mjs';
import { VIEWS } from './sources.mjs';

for (const [ file, content ] of wanted()) {
	const name = file.split('/po/')[1];

	test(`${name} is current (node tests/luci/po.mjs writes it)`, () => {
		assert.equal(fs.readFileSync(file, 'utf8'), content);
	});

	test(`${name} is complete`, { skip: name.endsWith('.pot') }, () => {
		const entries = readCatalogue(content);
		const places = (text) => (text.match(/%[sd]/g) ?? []).join();

		assert.equal(entries.size, extract().length);

		for (const [ text, translations ] of entries) {
			for (const translation of translations) {
				assert.ok(translation, `'${text}' is not translated`);
				assert.equal(places(translation), places(text), `'${translation}' has the same places as '${text}'`);
			}
		}
	});
}

test('texts are found', () => {
	assert.deepEqual(textsOf('f(_(\'a\'), N_(n, \'b\', \'c\'));\n_("d")', 'x.js'), [ [ 1, 'a' ], [ 1, 'b', 'c' ], [ 2, 'd' ] ]);
	assert.deepEqual(textsOf('{ "title": "A \\"b\\"" }', 'x.json'), [ [ 1, 'A "b"' ] ]);
	assert.throws(() => textsOf('_(\'a\' + b)', 'x.js'), /in one piece/);
});

/** Words of pages that are names and not language. */
const NAMES = [ 'STARTTLS', 'Google', 'Microsoft', 'HELO' ];

for (const view of VIEWS.filter((name) => name != 'settings')) {
	test(`${view}: every word is translated or came from the daemon`, async () => {
		const there = world({ config: (view == 'overview') ? sample.SHIPPED : sample.SET_UP, ubus: sample.answers() });

		// A language without letters.
		there.translate = (text) => text.replace(/(%[sd])|[A-Za-z]/g, (all, place) => place ?? '#');
		await there.open(view);

		const data = JSON.stringify([ await Promise.all(Object.values(sample.answers()).map((answer) => answer())), sample.SET_UP, NAMES ]).replaceAll('TLSv', 'TLS ');
		const walker = there.document.createTreeWalker(there.get('#view'), there.window.NodeFilter.SHOW_TEXT);
		const words = [];

		while (walker.nextNode())
			words.push(...walker.currentNode.data.match(/[A-Za-z]{3,}/g) ?? []);

		assert.deepEqual(words.filter((word) => !data.includes(word)), []);
		assert.match(there.text(), /###/);
	});
}

test('settings: every title and help is translated', () => {
	const there = world();

	there.translate = (text) => `\u00ab${text}\u00bb`;

	for (const section of there.require('smtprelay.options').sections()) {
		for (const text of [ section.title, section.help, ...section.tabs.map(([ , title ]) => title), ...section.options.flatMap((option) => [ option.title, option.help ]) ])
			assert.match(text, /^\u00ab.*\u00bb$/);
	}
});
