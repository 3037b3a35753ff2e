// SPDX-License-Identifier: Apache-2.0
// Type check of the pages. LuCI loads a file as the body of a function that gets what its directives name; here each one
// becomes a module that imports it. Everything is put in front of the first line, so that line numbers stay.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { HERE, RESOURCES, files, requires } from './sources.mjs';

const build = path.join(HERE, 'build/types');

fs.rmSync(build, { recursive: true, force: true });

for (const name of files(RESOURCES, '.js')) {
	const source = fs.readFileSync(path.join(RESOURCES, name), 'utf8');
	const imports = requires(source).map(({ module, name: as }) => module.includes('.')
		? `import _${as} from ${JSON.stringify(relative(name, module))}; const ${as} = new _${as}();`
		: `const ${as} = __luci.${module};`);

	fs.mkdirSync(path.dirname(path.join(build, name)), { recursive: true });
	fs.writeFileSync(path.join(build, name), `${imports.join(' ')} export default (function () { ${source}\n})();\n`);
}

fs.writeFileSync(path.join(build, 'tsconfig.json'), JSON.stringify({
	compilerOptions: {
		allowJs: true, checkJs: true, noEmit: true, strict: true, noUnusedLocals: true, noImplicitThis: true,
		target: 'ES2022', module: 'ES2022', moduleResolution: 'bundler', lib: [ 'ES2022', 'DOM', 'DOM.Iterable' ], types: []
	},
	files: files(RESOURCES, '.js').map((name) => `./${name}`).concat([ '../../types/luci.d.ts', '../../types/smtprelay.d.ts' ])
}));

const result = spawnSync(process.execPath, [ path.join(HERE, 'node_modules/typescript/bin/tsc'), '-p', build ], { encoding: 'utf8' });

process.stdout.write(result.stdout.replaceAll('build/types/', ''));
process.exit(result.status ?? 1);

function relative(from, module) {
	const to = path.relative(path.dirname(from), `${module.replaceAll('.', '/')}.js`);

	return to.startsWith('.') ? to : `./${to}`;
}
