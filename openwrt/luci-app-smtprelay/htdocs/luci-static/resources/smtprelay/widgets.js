// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.sentences as sentences';
'require smtprelay.text as text';

/*
 * Building blocks of the pages. LuCI's E() parses a string as HTML unless it is in an array, so all text is put in
 * arrays.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** CSS classes of LuCI's message boxes. */
const BOXES = /** @type {Record<string, string>} */ ({
	good: 'alert-message success',
	warning: 'alert-message warning',
	bad: 'alert-message error',
	neutral: 'alert-message'
});

/** Symbols for the steps of a test. */
const SIGNS = /** @type {Record<string, string>} */ ({
	ok: '\u2713',
	failed: '\u2717',
	running: '\u2026',
	pending: '\u00b7',
	skipped: '\u2013'
});

/** Width of the chart's axis. */
const AXIS = 34;
/** Number of days shown in the chart. */
const DAYS = 14;
const DAY = 86400;

/**
 * An SVG element.
 *
 * @param {string} name its name
 * @param {Record<string, string | number>} attributes its attributes
 * @param {Node[]} [children] its children
 * @returns {SVGElement} the element
 */
function svg(name, attributes, children) {
	const node = /** @type {SVGElement} */ (document.createElementNS(SVG, name));

	for (const key of Object.keys(attributes))
		node.setAttribute(key, String(attributes[key]));

	(children || []).forEach((child) => node.appendChild(child));

	return node;
}

/**
 * An SVG element with text.
 *
 * @param {string} name name of the element
 * @param {Record<string, string | number>} attributes its attributes
 * @param {string} content the text
 * @returns {SVGElement} the element
 */
function svgText(name, attributes, content) {
	return svg(name, attributes, [ document.createTextNode(content) ]);
}

/**
 * The end of an axis: the smallest of 2, 4, 10, 20, 40, 100 and so on that is not below a number, so that its half is a whole
 * number too wherever there is room for it.
 *
 * @param {number} most the number
 * @returns {number} the end
 */
function roundUp(most) {
	for (let power = 1; ; power *= 10)
		for (const step of [ 2, 4, 10 ])
			if (step * power >= most)
				return step * power;
}

// All pages use these blocks, so the style sheet is loaded with them.
document.head.appendChild(E('link', { 'rel': 'stylesheet', 'href': L.resource('smtprelay/style.css') }));

return baseclass.extend({
	/**
	 * A badge: a short label in a coloured frame.
	 *
	 * @param {Smtprelay.Badge} badge its content
	 * @returns {HTMLElement} the badge
	 */
	badge(badge) {
		return E('span', {
			'class': 'smtprelay-badge',
			'data-level': badge.level,
			'title': badge.title || null
		}, [ badge.label ]);
	},

	/**
	 * A message box with an optional remedy.
	 *
	 * @param {Smtprelay.Health} health its content
	 * @returns {HTMLElement} the box
	 */
	box(health) {
		return E('div', { 'class': BOXES[health.level], 'data-level': health.level }, [
			E('div', [ health.text ]),
			health.remedy ? E('div', [ health.remedy ]) : ''
		]);
	},

	/**
	 * A table that is shown as a list of cards on small screens.
	 *
	 * @param {string[]} titles titles of the columns
	 * @param {(Node | string)[][][]} rows the rows; each cell is a list of text and elements
	 * @param {string} empty text shown if there are no rows
	 * @param {number[]} [widths] minimum width of each column, in em
	 * @returns {HTMLElement} the table
	 */
	table(titles, rows, empty, widths) {
		const head = E('tr', { 'class': 'tr table-titles' }, titles.map((title) => E('th', { 'class': 'th' }, [ title ])));
		const cells = (/** @type {(Node | string)[][]} */ row) => row.map((cell, i) =>
			E('td', { 'class': 'td', 'data-title': titles[i] || null, 'style': `min-width:min(${widths ? widths[i] : 8}em, 40vw)` }, cell));
		const body = rows.map((row) => E('tr', { 'class': 'tr' }, cells(row)));

		// The themes lay the text of an empty table over the lines around it as soon as it needs more than one.
		return rows.length ? E('table', { 'class': 'table smtprelay-table' }, [ head ].concat(body)) : E('p', [ E('em', [ empty ]) ]);
	},

	/**
	 * The subject of a message, as its headline in a cell.
	 *
	 * @param {string | undefined} subject the subject as the service returns it
	 * @returns {Node | string} the line; nothing without a subject
	 */
	subject(subject) {
		return subject ? E('strong', { 'class': 'smtprelay-subject' }, [ text.plain(subject, 110) ]) : '';
	},

	/**
	 * A section of a page.
	 *
	 * @param {string} title its title
	 * @param {(Node | string)[]} children its content
	 * @returns {HTMLElement} the section
	 */
	section(title, children) {
		return E('div', { 'class': 'cbi-section' }, [ E('h3', [ title ]), ...children ]);
	},

	/**
	 * A form row.
	 *
	 * @param {string} title its label
	 * @param {HTMLElement} field its input element
	 * @param {(Node | string)[]} [help] its description
	 * @returns {HTMLElement} the row
	 */
	field(title, field, help) {
		return E('div', { 'class': 'cbi-value' }, [
			E('label', { 'class': 'cbi-value-title', 'for': field.id || null }, [ title ]),
			E('div', { 'class': 'cbi-value-field' }, [
				field,
				(help && help.length) ? E('div', { 'class': 'cbi-value-description' }, help) : ''
			])
		]);
	},

	/**
	 * A link to an external page; only https is allowed.
	 *
	 * @param {string} url its target
	 * @param {string} label its text
	 * @returns {HTMLElement | string} the link, or the text alone
	 */
	link(url, label) {
		return /^https:\/\/[\u0021-\u007e]+$/.test(url)
			? E('a', { 'href': url, 'target': '_blank', 'rel': 'noopener noreferrer' }, [ label ])
			: label;
	},

	/**
	 * The steps of a test message.
	 *
	 * @param {Smtprelay.Step[]} steps the steps
	 * @returns {HTMLElement} the list
	 */
	chain(steps) {
		const titles = /** @type {Record<string, string>} */ ({
			clock: _('Clock'),
			uplink: _('Uplink'),
			dns: _('DNS'),
			tcp: _('TCP'),
			tls: _('TLS'),
			login: _('Login'),
			accepted: _('Accepted')
		});

		return E('div', { 'class': 'smtprelay-chain' }, steps.map((step) => {
			return E('div', { 'data-step': step.step, 'data-state': step.state, 'class': 'smtprelay-step' }, [
				E('strong', [ SIGNS[step.state] || SIGNS.pending ]),
				E('span', [ titles[step.step] || text.plain(step.step) ]),
				E('span', [
					sentences.say(step.text),
					step.remedy ? E('div', { 'class': 'smtprelay-remedy' }, [ sentences.say(step.remedy) ]) : ''
				])
			]);
		}));
	},

	/**
	 * The SMTP dialogue between the gateway and the provider.
	 *
	 * @param {string[]} lines the lines
	 * @returns {HTMLElement} the text
	 */
	transcript(lines) {
		return E('pre', { 'class': 'smtprelay-pre' }, [
			text.lines(lines.join('\n'))
		]);
	},

	/**
	 * A chart of the messages per day.
	 *
	 * @param {Smtprelay.Day[]} days the counters, newest first
	 * @param {number} now seconds since 1970
	 * @param {number} waiting number of queued messages
	 * @returns {HTMLElement} the chart with its legend
	 */
	chart(days, now, waiting) {
		const kinds = [
			[ 'delivered', _('delivered') ],
			[ 'failed', _('failed') ],
			[ 'refused', _('refused') ]
		];
		const today = Math.floor(now / DAY) * DAY;
		/** @type {Smtprelay.Day[]} */
		const shown = [];

		for (let ago = DAYS - 1; ago >= 0; ago--) {
			const day = today - ago * DAY;

			shown.push(days.find((counted) => counted.day == day) || { day: day, accepted: 0, delivered: 0, failed: 0, refused: 0 });
		}

		const total = (/** @type {Smtprelay.Day} */ day) => day.delivered + day.failed + day.refused;
		const most = roundUp(Math.max(...shown.map(total)));
		const width = 40;
		/** @type {Node[]} */
		const bars = [];

		shown.forEach((day, i) => {
			let top = 110;

			for (const [ key, label ] of kinds) {
				const count = day[/** @type {'delivered' | 'failed' | 'refused'} */ (key)];
				const height = count * 100 / most;

				top -= height;

				if (count > 0) {
					bars.push(svg('rect', { x: i * width + 4, y: top, width: width - 8, height: height, 'data-kind': key }, [
						svgText('title', {}, `${this.utcDate(day.day)}: ${count} ${label}`)
					]));
				}
			}

			if (i % 3 == 1)
				bars.push(svgText('text', { x: i * width + width / 2, y: 126, 'text-anchor': 'middle' }, this.utcDate(day.day)));
		});

		const drawing = svg('svg', {
			viewBox: `-${AXIS} -2 ${DAYS * width + AXIS} 132`, role: 'img', 'class': 'smtprelay-chart',
			'aria-label': _('Messages per day')
		}, [ 0, most / 2, most ].flatMap((count) => {
			const y = 110 - count * 100 / most;

			return [
				svg('line', { x1: 0, y1: y, x2: DAYS * width, y2: y }),
				svgText('text', { x: -4, y: y + 4, 'text-anchor': 'end', 'data-axis': count }, String(count))
			];
		}).concat(/** @type {SVGElement[]} */ (bars)));

		return E('div', [
			drawing,
			E('div', { 'class': 'smtprelay-legend' }, kinds.map(([ key, label ]) => E('span', [
				E('i', { 'data-kind': key }),
				`${label}: ${shown.reduce((sum, day) => sum + day[/** @type {'delivered' | 'failed' | 'refused'} */ (key)], 0)}`
			])).concat([ E('span', [ _('queued now: %d').format(waiting) ]) ]))
		]);
	},

	/**
	 * A day of the counters; they count by UTC days.
	 *
	 * @param {number} seconds since 1970
	 * @returns {string} day and month
	 */
	utcDate(seconds) {
		return new Date(seconds * 1000).toLocaleDateString(undefined, { day: '2-digit', month: '2-digit', timeZone: 'UTC' });
	},

	/**
	 * Replaces the content of an element, unless nothing has changed, so that selection and scroll position are kept.
	 *
	 * @param {HTMLElement} place the element
	 * @param {(Node | string)[]} children its new content
	 */
	replace(place, children) {
		const fresh = E('div', children);

		if (fresh.innerHTML === place.innerHTML)
			return;

		while (place.firstChild)
			place.removeChild(place.firstChild);

		while (fresh.firstChild)
			place.appendChild(fresh.firstChild);
	}
});
