// SPDX-License-Identifier: Apache-2.0
// Every sentence that the daemon may show on a page is in the page's list, and what it was filled in with stays.
import assert from 'node:assert/strict';
import test from 'node:test';
import { sentences } from './daemon.mjs';
import { world } from './fake.mjs';

/** What looks like a sentence of the daemon and is never shown on a page. */
const ELSEWHERE = [
	// In the test mail, which is in English like every mail of the daemon.
	// In the message itself, and in the transcript.
	/^\(no (?:text|subject)\)$|^%s to %s, %s bytes of body%s$|^ and a picture of %s bytes$/,
	/^This is a test mail|^It was sent through|^No reply is needed/,
	// What the settings expect, in the errors of the file; addresses and scopes of OAuth.
	/^a SHA-256 fingerprint|^https:/,
	// Parts of a list of names, and a sentence that stands in the list with each of its two endings.
	/^ and others$|has no subjectAltName%s, and/,
	// Names of steps in the history of a message: words of their own in queue.js.
	/^(?:time of arrival corrected|delay to be reported in a summary|sender notified of the delay|failure reported|sent, outcome unknown|reported that it is held|sent by itself|step sent, outcome unknown|step taken|step failed)$/
];

test('every sentence of the daemon is in the list', () => {
	const { all } = world().require('smtprelay.sentences');
	const patterns = all.map((sentence) => new RegExp(`^${sentence.split('%s').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`));
	const isKnown = (text) => patterns.some((pattern) => pattern.test(text)) || all.some((sentence) => sentence.includes(text.replace(/^(?:%s|[\s,;:])+|(?:%s|[\s,;:])+$/g, '')));
	const found = sentences();

	assert.ok(found.length > 200, 'the sources are read');

	const missing = found.filter((sentence) => !ELSEWHERE.some((pattern) => pattern.test(sentence)) && !isKnown(sentence) && !sentence.split('; ').every(isKnown));

	assert.deepEqual(missing, []);
});

test('sentences are translated with their parameters, clause by clause', () => {
	const there = world();
	const { say } = there.require('smtprelay.sentences');
	const words = {
		'%s refused the login of \'%s\': %s': '%s lehnt „%s“ ab: %s', 'mail waits': 'Mail wartet',
		'the certificate of %s is signed by an unknown authority%s': 'falsch %s %s',
		'check username and password; many providers require an app password here': 'Passwort pr\u00fcfen', 'the recipient\'s mailbox is full': 'Postfach voll'
	};

	there.translate = (text) => words[text] ?? text;
	assert.equal(say('mx refused the login of \'me@example.com\': 535 5.7.8 no; check username and password; many providers require an app password here; mail waits'),
		'mx lehnt „me@example.com“ ab: 535 5.7.8 no; Passwort pr\u00fcfen; Mail wartet');
	assert.equal(say('the certificate of mx is signed by an unknown authority (it is self-signed); mail waits'), 'the certificate of mx is signed by an unknown authority (it is self-signed); Mail wartet');
	assert.equal(say('mx refused it: 552 5.2.2 full; the recipient\'s mailbox is full'), 'mx refused it: 552 5.2.2 full; Postfach voll');
	assert.equal(say('no safe_spool is set: a power cut or a reboot loses all mail queued in /tmp/x if that is RAM; set safe_spool to a directory on flash or USB'),
		'no persistent queue directory is set: a power cut or a reboot loses all mail queued in /tmp/x if that is RAM; set one on flash or USB', 'options are named as the page shows them');
	assert.equal(say('something that no version of the daemon says'), 'something that no version of the daemon says');
	assert.equal(say(null), '');
	assert.equal(say('account \'%s\': $& \u202e'), 'account \'%s\': $& \u00b7');
});
