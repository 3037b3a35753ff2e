// SPDX-License-Identifier: Apache-2.0
// The Chromium that the pages are opened with.
import { execFileSync } from 'node:child_process';

/** Path of the browser: CHROMIUM, or the first known name in the path. */
export function browserProgram() {
	for (const name of [ process.env.CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome' ].filter((one) => one)) {
		try {
			return execFileSync('/bin/sh', [ '-c', 'command -v "$1"', 'sh', name ], { encoding: 'utf8' }).trim();
		}
		catch {
			continue;
		}
	}

	console.error('Chromium not found: install Debian\'s package chromium, or set CHROMIUM to its path');
	process.exit(2);
}
