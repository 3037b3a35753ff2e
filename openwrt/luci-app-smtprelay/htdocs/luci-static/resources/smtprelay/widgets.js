// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';
'require smtprelay.text as text';

/*
 * Building blocks of the pages. LuCI's E() parses a string as HTML unless it is in an array, so all text is put in
 * arrays.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** Colours of the theme, with fallbacks for themes that do not define them. */
const COLOURS = /** @type {Record<string, string>} */ ({
	good: 'var(--success-color-high, #46a546)',
	warning: 'var(--warn-color-high, #c09853)',
	bad: 'var(--error-color-high, #c43c35)',
	neutral: 'var(--text-color-medium, #777777)'
});

/** CSS classes of LuCI's message boxes. */
const BOXES = /** @type {Record<string, string>} */ ({
	good: 'alert-message success',
	warning: 'alert-message warning',
	bad: 'alert-message error',
	neutral: 'alert-message'
});

/** Symbols for the steps of a test. */
const SIGNS = /** @type {Record<string, string[]>} */ ({
	ok: [ '\u2713', 'good' ],
	failed: [ '\u2717', 'bad' ],
	running: [ '\u2026', 'warning' ],
	pending: [ '\u00b7', 'neutral' ],
	skipped: [ '\u2013', 'neutral' ]
});

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

return baseclass.extend({
	/** Colours by level. */
	colours: COLOURS,

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
			'title': badge.title || null,
			// Yellow text is not readable on white.
			'style': `display:inline-block;border:1px solid ${COLOURS[badge.level]};color:${(badge.level == 'warning') ? 'inherit' : COLOURS[badge.level]};border-radius:3px;padding:0 .4em;margin:0 .3em .2em 0`
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
			health.remedy ? E('div', { 'style': 'margin-top:.3em' }, [ health.remedy ]) : ''
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
			E('td', { 'class': 'td', 'data-title': titles[i] || null, 'style': `overflow-wrap:anywhere;min-width:min(${widths ? widths[i] : 8}em, 40vw)` }, cell));
		const body = rows.map((row) => E('tr', { 'class': 'tr' }, cells(row)));

		if (!rows.length)
			body.push(E('tr', { 'class': 'tr placeholder' }, [ E('td', { 'class': 'td' }, [ E('em', [ empty ]) ]) ]));

		return E('table', { 'class': 'table' }, [ head ].concat(body));
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
			const [ sign, level ] = SIGNS[step.state] || SIGNS.pending;

			return E('div', { 'data-step': step.step, 'data-state': step.state, 'style': 'display:flex;gap:.6em;margin:.2em 0' }, [
				E('strong', { 'style': `color:${COLOURS[level]};min-width:1.2em;text-align:center` }, [ sign ]),
				E('span', { 'style': 'min-width:6em;font-weight:bold' }, [ titles[step.step] || text.plain(step.step) ]),
				E('span', { 'style': 'flex:1;overflow-wrap:anywhere' }, [
					text.plain(step.text, 400),
					step.remedy ? E('div', { 'style': `color:${COLOURS.bad}` }, [ text.plain(step.remedy, 400) ]) : ''
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
		return E('pre', { 'style': 'max-height:20em;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere' }, [
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
			[ 'delivered', _('delivered'), COLOURS.good ],
			[ 'failed', _('failed'), COLOURS.bad ],
			[ 'refused', _('refused'), COLOURS.warning ]
		];
		const today = Math.floor(now / DAY) * DAY;
		/** @type {Smtprelay.Day[]} */
		const shown = [];

		for (let ago = DAYS - 1; ago >= 0; ago--) {
			const day = today - ago * DAY;

			shown.push(days.find((counted) => counted.day == day) || { day: day, accepted: 0, delivered: 0, failed: 0, refused: 0 });
		}

		const total = (/** @type {Smtprelay.Day} */ day) => day.delivered + day.failed + day.refused;
		const most = Math.max(1, ...shown.map(total));
		const width = 40;
		/** @type {Node[]} */
		const bars = [];

		shown.forEach((day, i) => {
			let top = 110;

			for (const [ key, label, colour ] of kinds) {
				const count = day[/** @type {'delivered' | 'failed' | 'refused'} */ (key)];
				const height = count * 100 / most;

				top -= height;

				if (count > 0) {
					bars.push(svg('rect', { x: i * width + 4, y: top, width: width - 8, height: height, style: `fill:${colour}`, 'data-kind': key }, [
						svgText('title', {}, `${this.utcDate(day.day)}: ${count} ${label}`)
					]));
				}
			}

			if (i % 3 == 1)
				bars.push(svgText('text', { x: i * width + width / 2, y: 126, 'text-anchor': 'middle', 'font-size': 11, fill: 'currentColor' }, this.utcDate(day.day)));
		});

		const drawing = svg('svg', {
			viewBox: `0 -2 ${DAYS * width} 132`, role: 'img', style: 'width:100%;max-width:700px;height:auto',
			'aria-label': _('Messages per day')
		}, [
			svg('line', { x1: 0, y1: 110.5, x2: DAYS * width, y2: 110.5, stroke: 'currentColor', 'stroke-opacity': 0.4 }),
			svgText('text', { x: 2, y: 9, 'font-size': 11, fill: 'currentColor', 'fill-opacity': 0.7 }, String(most))
		].concat(/** @type {SVGElement[]} */ (bars)));

		return E('div', [
			drawing,
			E('div', kinds.map(([ key, label, colour ]) => E('span', { 'style': 'margin-right:1.2em;white-space:nowrap' }, [
				E('span', { 'style': `display:inline-block;width:.8em;height:.8em;margin-right:.3em;background:${colour}` }),
				`${label}: ${shown.reduce((sum, day) => sum + day[/** @type {'delivered' | 'failed' | 'refused'} */ (key)], 0)}`
			])).concat([ E('span', { 'style': 'white-space:nowrap' }, [ _('queued now: %d').format(waiting) ]) ]))
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
