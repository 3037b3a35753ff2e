// SPDX-License-Identifier: Apache-2.0
// Style of LuCI: tabs, single quotes, blanks within brackets of lists, no braces that are not needed.
import js from '@eslint/js';
import globals from 'globals';
import path from 'node:path';
import { RESOURCES, TREE, requires } from './sources.mjs';

/** The names that LuCI gives to every module. */
const LUCI = { E: 'readonly', L: 'readonly', _: 'readonly', N_: 'readonly' };

/** A name is only there for whoever requires it, and who requires it uses it. */
const directives = {
	create(context) {
		const known = requires(context.sourceCode.text);

		return {
			'Program:exit'(node) {
				const free = new Set(context.sourceCode.scopeManager.globalScope.through.map((reference) => reference.identifier.name));

				for (const { module, name } of known)
					if (!free.has(name))
						context.report({ node, message: `'require ${module}' is not used` });

				for (const name of free)
					if (!known.some((one) => one.name == name) && !(name in LUCI) && !(name in globals.browser) && !(name in globals.es2022))
						context.report({ node, message: `'${name}' is required by no directive` });
			}
		};
	}
};

/** LuCI's functions that make HTML of a string: the argument that must not be one. */
const SINKS = { E: [ 1, 2 ], content: [ 1 ], append: [ 1 ], showModal: [ 1 ], addNotification: [ 1 ] };

/** Text stands in an array: anything else would be parsed as HTML. Nothing is written as HTML at all. */
const noHtml = {
	create(context) {
		return {
			CallExpression(node) {
				const name = node.callee.type == 'Identifier' ? node.callee.name : node.callee.property?.name;

				const title = node.arguments[0];

				if ([ 'showModal', 'addNotification', 'addTimeLimitedNotification' ].includes(name) && title?.type != 'Literal'
					&& !(title?.type == 'CallExpression' && title.callee.name == '_'))
					context.report({ node: title, message: 'the title of a window is parsed as HTML: nothing but _() here' });

				for (const place of Object.hasOwn(SINKS, name) ? SINKS[name] : []) {
					const argument = node.arguments[place];

					if (argument && (argument.type == 'Literal' || argument.type == 'TemplateLiteral' || argument.type == 'BinaryExpression'
						|| (argument.type == 'CallExpression' && [ '_', 'N_', 'format' ].includes(argument.callee.name ?? argument.callee.property?.name))))
						context.report({ node: argument, message: 'this text would be parsed as HTML: put it into an array' });
				}
			},
			AssignmentExpression(node) {
				if ([ 'innerHTML', 'outerHTML' ].includes(node.left.property?.name))
					context.report({ node, message: 'no HTML from strings' });
			},
			'CallExpression[callee.property.name=/^(insertAdjacentHTML|write|parse)$/]'(node) {
				if (node.callee.object.name != 'JSON')
					context.report({ node, message: 'no HTML from strings' });
			}
		};
	}
};

const style = {
	...js.configs.recommended.rules,
	'indent': [ 'error', 'tab', { SwitchCase: 0, ignoredNodes: [ 'ConditionalExpression', 'TemplateLiteral > *' ] } ],
	'no-mixed-spaces-and-tabs': 'error',
	'no-trailing-spaces': 'error',
	'quotes': [ 'error', 'single', { avoidEscape: false, allowTemplateLiterals: true } ],
	'semi': [ 'error', 'always' ],
	'comma-dangle': [ 'error', 'never' ],
	'array-bracket-spacing': [ 'error', 'always' ],
	'object-curly-spacing': [ 'error', 'always' ],
	'keyword-spacing': [ 'error', { overrides: { typeof: { after: false } } } ],
	'space-before-blocks': 'error',
	'space-infix-ops': 'error',
	'eol-last': 'error',
	'prefer-const': 'error',
	'no-var': 'error',
	'no-eval': 'error',
	'no-implied-eval': 'error',
	'no-new-func': 'error'
};

export default [
	{ ignores: [ 'tests/luci/node_modules/**', 'tests/luci/build/**' ] },
	{ linterOptions: { reportUnusedDisableDirectives: 'error' } },
	{
		files: [ `${path.relative(TREE, RESOURCES)}/**/*.js` ],
		plugins: { luci: { rules: { directives, 'no-html': noHtml } } },
		languageOptions: {
			ecmaVersion: 2022, sourceType: 'commonjs', parserOptions: { ecmaFeatures: { globalReturn: true } }
		},
		rules: { ...style, 'no-undef': 'off', 'no-control-regex': 'off', 'no-misleading-character-class': 'off', 'luci/directives': 'error', 'luci/no-html': 'error' }
	},
	{
		files: [ 'tests/luci/**/*.mjs', 'tests/openwrt/*.mjs' ],
		languageOptions: { ecmaVersion: 2022, sourceType: 'module', globals: { ...globals.node, document: 'readonly', window: 'readonly' } },
		rules: { ...style, 'no-new-func': 'off', 'keyword-spacing': 'off' }
	}
];
