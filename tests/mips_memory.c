/* SPDX-License-Identifier: Apache-2.0
 *
 * scripts/mips_memory.S against a byte at a time: each length up to two rounds of its longest loop, at each alignment of
 * both ends, with nothing written before or behind. tests/mips_memory.sh runs it.
 */
#include <stdio.h>
#include <string.h>

#define MOST 80
#define EDGE 8

static unsigned char from[MOST + 2 * EDGE], to[MOST + 2 * EDGE];

/* Not by a name that the compiler knows. */
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile fill)(void *, int, size_t) = memset;

static int check(const char *what, int at, int source, int length, int filled)
{
	for (int i = 0; i < (int)sizeof to; i++) {
		int inside = i >= EDGE + at && i < EDGE + at + length;
		unsigned char wanted = !inside ? 0xee : filled >= 0 ? filled & 255 : from[EDGE + source + i - EDGE - at];
		if (to[i] != wanted) {
			printf("%s of %d bytes, alignment %d and %d: byte %d is %d, not %d\n", what, length, at, source, i - EDGE - at,
			       to[i], wanted);
			return 1;
		}
	}
	return 0;
}

static void clear(void)
{
	for (volatile unsigned char *byte = to; byte < to + sizeof to; byte++)
		*byte = 0xee;
}

int main(void)
{
	for (int i = 0; i < (int)sizeof from; i++)
		from[i] = (unsigned char)(i * 7 + 1);
	for (int length = 0; length <= MOST - 4; length++) {
		for (int at = 0; at < 4; at++) {
			for (int source = 0; source < 4; source++) {
				clear();
				if (copy(to + EDGE + at, from + EDGE + source, (size_t)length) != to + EDGE + at ||
				    check("memcpy", at, source, length, -1))
					return 1;
			}
			clear();
			if (fill(to + EDGE + at, 0x15a, (size_t)length) != to + EDGE + at || check("memset", at, 0, length, 0x15a))
				return 1;
		}
	}
	return 0;
}
