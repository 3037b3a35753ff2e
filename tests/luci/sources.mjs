// SPDX-License-Identifier: Apache-2.0
// The sources of the pages, and their directives 'require x' and 'require x as y'.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const HERE = path.dirname(fileURLToPath(import.meta.url));
export const TREE = path.resolve(HERE, '../..');
export const APP = path.join(TREE, 'openwrt/luci-app-smtprelay');
export const RESOURCES = path.join(APP, 'htdocs/luci-static/resources');
export const VIEWS = [ 'overview', 'settings', 'queue', 'test', 'log' ];

/** Files below a folder. */
export function files(folder, ending) {
	return fs.readdirSync(folder, { recursive: true }).map(String).filter((name) => name.endsWith(ending)).sort();
}

/** Source of a module such as `smtprelay.text` or `view.smtprelay.queue`. */
export function read(name) {
	return fs.readFileSync(path.join(RESOURCES, `${name.replaceAll('.', '/')}.js`), 'utf8');
}

/** What a module asks for: names of modules, and under which names. */
export function requires(source) {
	const found = [];

	for (const line of source.split('\n')) {
		// LuCI's own loader passes over comments as well.
		if (line.startsWith('//'))
			continue;

		const directive = /^'(?:require ([\w.]+)(?: as (\w+))?|use strict)';$/.exec(line.trim());

		if (!directive)
			break;

		if (directive[1])
			found.push({ module: directive[1], name: directive[2] ?? directive[1].split('.').at(-1) });
	}

	return found;
}
