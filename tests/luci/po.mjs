// SPDX-License-Identifier: Apache-2.0
// The texts of the pages: extracts them into po/templates, and reads catalogues.
//
//	node po.mjs		writes the template, and brings the catalogues in line with it: new texts come empty, others go
//	node po.mjs --check	only looks whether that would change something, and whether the catalogues are complete
import { parse } from 'espree';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { APP, files } from './sources.mjs';

const HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n';

/** Text as it stands in a catalogue: LuCI takes any blanks for one. */
const collapse = (text) => text.replace(/[ \t\n]+/g, ' ').trim();
const quote = (text) => JSON.stringify(text);

/** Every node of a syntax tree. */
function* nodes(tree) {
	if (Array.isArray(tree)) {
		for (const one of tree)
			yield* nodes(one);
	}
	else if (tree && typeof tree == 'object') {
		if (tree.type)
			yield tree;

		for (const key of Object.keys(tree))
			if (key != 'loc')
				yield* nodes(tree[key]);
	}
}

/** Texts of a source: [line, text] or [line, one, many]. */
export function textsOf(source, name) {
	const found = [];

	if (name.endsWith('.json')) {
		source.split('\n').forEach((line, i) => {
			for (const [ , text ] of line.matchAll(/"(?:title|description)"\s*:\s*("(?:[^"\\]|\\.)*")/g))
				found.push([ i + 1, JSON.parse(text) ]);
		});

		return found;
	}

	const tree = parse(source, { ecmaVersion: 2022, sourceType: 'commonjs', ecmaFeatures: { globalReturn: true }, loc: true });

	for (const node of nodes(tree)) {
		const callee = node.type == 'CallExpression' ? node.callee.name : '';

		if (callee != '_' && callee != 'N_')
			continue;

		const texts = (callee == '_') ? node.arguments.slice(0, 1) : node.arguments.slice(1, 3);

		if (texts.some((text) => text?.type != 'Literal' || typeof text.value != 'string'))
			throw new Error(`${name}:${node.loc.start.line}: ${callee}() needs its text in one piece`);

		found.push([ node.loc.start.line, ...texts.map((text) => text.value) ]);
	}

	return found;
}

/** All texts of the app: by text, with the plural and where it is used. */
export function extract() {
	const texts = new Map();

	for (const name of files(APP, '')) {
		if (!/^htdocs\/.*\.js$|^root\/usr\/share\/(luci\/menu|rpcd\/acl)\.d\/.*\.json$/.test(name))
			continue;

		for (const [ line, text, many ] of textsOf(fs.readFileSync(path.join(APP, name), 'utf8'), name)) {
			const known = texts.get(collapse(text)) ?? { text: collapse(text), many: null, places: [] };

			known.many ??= many ? collapse(many) : null;
			known.places.push(`applications/luci-app-smtprelay/${name}:${line}`);
			texts.set(known.text, known);
		}
	}

	return [ ...texts.values() ].sort((a, b) => (a.text < b.text) ? -1 : 1);
}

/** A catalogue: translations by text, each a list with one entry or one for each form of the plural. */
export function readCatalogue(content) {
	const entries = new Map();

	for (const block of content.split(/\n\n+/).slice(1)) {
		const value = (keyword) => {
			const at = block.split('\n').find((line) => line.startsWith(`${keyword} `));

			return at ? JSON.parse(at.slice(keyword.length + 1)) : null;
		};
		const text = value('msgid');

		if (text != null)
			entries.set(text, value('msgid_plural') != null ? [ value('msgstr[0]') ?? '', value('msgstr[1]') ?? '' ] : [ value('msgstr') ?? '' ]);
	}

	return entries;
}

/** A catalogue as a file. Without `translations` it is the template. */
export function write(texts, header, translations) {
	return header + texts.map(({ text, many, places }) => {
		const known = translations?.get(text) ?? [];
		const lines = places.map((place) => `#: ${place}`).concat(`msgid ${quote(text)}`);

		if (many != null)
			lines.push(`msgid_plural ${quote(many)}`, `msgstr[0] ${quote(known[0] ?? '')}`, `msgstr[1] ${quote(known[1] ?? '')}`);
		else
			lines.push(`msgstr ${quote(known[0] ?? '')}`);

		return `\n${lines.join('\n')}\n`;
	}).join('');
}

/** What stands in front of the first text of a catalogue. */
const headerOf = (content) => `${content.split(/\n\n/)[0]}\n`;

/** Files of catalogues with what they should hold. */
export function wanted() {
	const texts = extract();
	const template = path.join(APP, 'po/templates/smtprelay.pot');
	const result = [ [ template, write(texts, HEADER, null) ] ];

	for (const language of fs.readdirSync(path.join(APP, 'po')).filter((name) => name != 'templates')) {
		const file = path.join(APP, 'po', language, 'smtprelay.po');
		const content = fs.readFileSync(file, 'utf8');

		result.push([ file, write(texts, headerOf(content), readCatalogue(content)) ]);
	}

	return result;
}

if (process.argv[1] == fileURLToPath(import.meta.url)) {
	for (const [ file, content ] of wanted()) {
		if (!fs.existsSync(file) || fs.readFileSync(file, 'utf8') != content) {
			console.log(`${path.relative(process.cwd(), file)} ${process.argv.includes('--check') ? 'is not current' : 'was written'}`);

			if (process.argv.includes('--check'))
				process.exitCode = 1;
			else
				fs.writeFileSync(file, content);
		}
	}
}
