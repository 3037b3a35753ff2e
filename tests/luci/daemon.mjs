// SPDX-License-Identifier: Apache-2.0
// The sentences that the daemon may show on a page: the texts in its sources, with %s for what is filled in.
//
//	node daemon.mjs		lists them
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { TREE } from './sources.mjs';

/** Sources of what people read on the pages: reasons, remedies, warnings, errors and the steps of a test. */
export const SOURCES = [
	'config/account.rs', 'config/advice.rs', 'config/channel.rs', 'control/api.rs', 'control/password.rs', 'control/reload.rs', 'control/test_mail.rs', 'control/views.rs',
	'net/connect.rs', 'net/http.rs', 'net/http/response.rs', 'net/tls.rs', 'outbound/auth.rs', 'outbound/channel.rs', 'outbound/connection.rs', 'outbound/reply_table.rs', 'outbound/test_mail.rs', 'outbound/transaction.rs',
	'outbound/verdict.rs', 'outbound/wire.rs', 'queue/item.rs', 'config/settings.rs', 'dispatch/account.rs', 'dispatch/escalation.rs', 'dispatch/silence.rs', 'inbound/accept.rs', 'inbound/listener.rs', 'oauth/keeper.rs', 'oauth/login.rs', 'oauth/token.rs'
];

/** A source without comments, attributes and tests. */
function code(source) {
	return source.split(/^#\[cfg\(test\)\]\nmod tests/m)[0].replace(/^\s*\/\/.*$/gm, '').replace(/#\[[^\]]*\]/g, '')
		// Words that are searched for in replies.
		.replace(/&\["[^\]]*\]/g, '');
}

/** Texts of Rust code: literals, with their continuation lines joined. */
function* literals(source) {
	for (const [ , text ] of code(source).matchAll(/"((?:[^"\\]|\\[\s\S])*)"/g))
		yield text.replace(/\\\n\s*/g, '').replace(/\\"/g, '"').replace(/\\\\/g, '\\');
}

/** A sentence has words; names of options, headers and log fields are none. */
export const isSentence = (text) => /[a-z]{2,} [a-z(]/.test(text) && !/^[A-Z0-9 -]+ |event=|\\[nrt]|^smtprelay[: ]/.test(text);

/** All sentences, each once. */
export function sentences() {
	const found = new Set();

	for (const name of SOURCES)
		for (const text of literals(fs.readFileSync(path.join(TREE, 'src', name), 'utf8')))
			if (isSentence(text))
				found.add(text.replace(/\{\{/g, '{').replace(/\{[A-Za-z0-9_.]*(?::[^}]*)?\}/g, '%s'));

	for (const { help } of JSON.parse(fs.readFileSync(path.join(TREE, 'src/config/providers.json'), 'utf8')).providers)
		if (help)
			found.add(help);

	for (const { help, to } of JSON.parse(fs.readFileSync(path.join(TREE, 'src/config/services.json'), 'utf8')).services)
		[ help, to ].filter((text) => text).forEach((text) => found.add(text));

	return [ ...found ];
}

if (process.argv[1] == fileURLToPath(import.meta.url))
	console.log(sentences().join('\n'));
