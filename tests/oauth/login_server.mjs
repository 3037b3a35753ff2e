// SPDX-License-Identifier: Apache-2.0
// A login server of somebody else for interop.rs: the npm package oidc-provider, which rotates refresh tokens and takes a whole
// login back when an old one is used again. The person who signs in is here as well: a browser of a few lines.
//
//	node login_server.mjs FOLDER PORT-OF-THE-REDIRECT		FOLDER holds node_modules
//
// Environment: CERT, KEY (PEM files of the server), CLIENT, SECRET, NODE_EXTRA_CA_CERTS (so that the browser trusts it).
// Says "issuer URL" when it listens, and "token TOKEN" for each access token. Reads lines "sign-in URL", and answers each with
// "signed-in URL", the address at which the browser has ended.
import fs from 'node:fs';
import https from 'node:https';
import readline from 'node:readline';

const { default: Provider } = await import(`${process.argv[2]}/node_modules/oidc-provider/lib/index.js`);
const redirect = `http://127.0.0.1:${process.argv[3]}/`;
const say = (text) => process.stdout.write(`${text}\n`);

const server = https.createServer({ cert: fs.readFileSync(process.env.CERT), key: fs.readFileSync(process.env.KEY) });
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `https://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
	clients: [{
		client_id: process.env.CLIENT,
		client_secret: process.env.SECRET,
		token_endpoint_auth_method: 'client_secret_post',
		application_type: 'native',
		grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
		redirect_uris: [redirect],
	}],
	cookies: { keys: ['of a test'] },
	features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
	pkce: { required: () => true },
	rotateRefreshToken: true,
	scopes: ['openid', 'offline_access', 'mail'],
	ttl: { AccessToken: 3600, RefreshToken: 86400, Grant: 86400, Interaction: 600, Session: 600, DeviceCode: 600 },
});
provider.on('access_token.saved', (token) => say(`token ${token.jti}`));
provider.on('server_error', (context, error) => console.error(error));
server.on('request', provider.callback());
say(`issuer ${issuer}`);

// Follows redirects, sends off each form as it is, with a name and a password where it asks for them.
async function signIn(start) {
	const cookies = new Map();
	let [url, body] = [start, undefined];
	for (let steps = 0; steps < 30; steps += 1) {
		if (url.startsWith(redirect)) return url;
		const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
		const answer = await fetch(url, { method: body ? 'POST' : 'GET', body, headers, redirect: 'manual' });
		for (const cookie of answer.headers.getSetCookie()) {
			const [name, value] = cookie.split(';')[0].split(/=(.*)/s);
			if (value) cookies.set(name, value); else cookies.delete(name);
		}
		if (answer.status >= 300 && answer.status < 400) {
			[url, body] = [new URL(answer.headers.get('location'), url).href, undefined];
			continue;
		}
		const page = await answer.text();
		const form = page.match(/<form[^>]*action="([^"]+)"[^>]*>(.*?)<\/form>/s);
		if (!form) return url;
		body = new URLSearchParams();
		for (const [input] of form[2].matchAll(/<input[^>]*>/g)) {
			const name = input.match(/name="([^"]*)"/)?.[1];
			if (name) body.set(name, input.match(/value="([^"]*)"/)?.[1] ?? 'me@example.com');
		}
		// The button of the page where a code is confirmed.
		if (/name="confirm"/.test(form[2])) body.set('confirm', 'yes');
		url = new URL(form[1].replaceAll('&amp;', '&'), url).href;
	}
	return 'nowhere';
}

for await (const line of readline.createInterface({ input: process.stdin })) {
	say(`signed-in ${await signIn(line.replace('sign-in ', ''))}`);
}
process.exit(0);
