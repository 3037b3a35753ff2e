// SPDX-License-Identifier: Apache-2.0
// Makes a PNG small: 256 colours are enough for a picture of a page, and take a third of the space.
import zlib from 'node:zlib';

/** A chunk of a PNG: length, type, data, checksum. */
function chunk(type, data) {
	const body = Buffer.concat([ Buffer.from(type, 'latin1'), data ]);
	const [ length, sum ] = [ Buffer.alloc(4), Buffer.alloc(4) ];

	length.writeUInt32BE(data.length);
	sum.writeUInt32BE(zlib.crc32(body));

	return Buffer.concat([ length, body, sum ]);
}

/** The same picture with its 256 most frequent colours; the others become the nearest of these. `page` decodes it. */
export async function withPalette(page, png) {
	const { width, height, rgba } = await page.evaluate(async (base64) => {
		const image = await window.createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
		const context = new window.OffscreenCanvas(image.width, image.height).getContext('2d');

		context.drawImage(image, 0, 0);

		const { data } = context.getImageData(0, 0, image.width, image.height);
		let text = '';

		for (let at = 0; at < data.length; at += 32768)
			text += String.fromCharCode(...data.subarray(at, at + 32768));

		return { width: image.width, height: image.height, rgba: btoa(text) };
	}, Buffer.from(png).toString('base64'));
	const pixels = Buffer.from(rgba, 'base64');
	const counts = new Map();

	for (let at = 0; at < pixels.length; at += 4) {
		const colour = pixels.readUIntBE(at, 3);

		counts.set(colour, (counts.get(colour) ?? 0) + 1);
	}

	const parts = (colour) => [ colour >> 16, (colour >> 8) & 255, colour & 255 ];
	const palette = [ ...counts.keys() ].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, 256);
	const distance = (a, b) => parts(a).reduce((sum, part, i) => sum + (part - parts(b)[i]) ** 2, 0);
	const places = new Map([ ...counts.keys() ].map((colour) => [ colour, palette.reduce((best, other, i) => (distance(colour, other) < distance(colour, palette[best])) ? i : best, 0) ]));
	const rows = Buffer.alloc((width + 1) * height);

	// Each row begins with its filter; 0 is none.
	for (let y = 0; y < height; y++)
		for (let x = 0; x < width; x++)
			rows[y * (width + 1) + 1 + x] = places.get(pixels.readUIntBE((y * width + x) * 4, 3));

	const head = Buffer.alloc(13);

	head.writeUInt32BE(width, 0);
	head.writeUInt32BE(height, 4);
	// 8 bits a pixel, with a palette.
	head.set([ 8, 3, 0, 0, 0 ], 8);

	return Buffer.concat([
		Buffer.from([ 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a ]), chunk('IHDR', head), chunk('PLTE', Buffer.from(palette.flatMap(parts))),
		chunk('IDAT', zlib.deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))
	]);
}
