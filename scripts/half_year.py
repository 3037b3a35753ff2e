#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what the gateway holds over half a year.

    scripts/half_year.py SAMPLES.csv docs/images/half-year.svg

The samples are those of `make half-year` (tests/half_year/samples.rs), or of `make half-year-router`
(tests/router/half_year/held.rs), which have the flash as well. Without other modules than Python's own.
"""
import csv
import sys

WIDTH, LEFT, RIGHT = 860, 112, 30
ROW, PANEL, GAP = 14, 96, 30
INK, PALE = '#24292f', '#d0d7de'
# Events by the names in the samples: how the picture names them, and the colour of their marks.
EVENTS = [
    ('provider down', {'down'}, '#9a6700'),
    ('refuses: 451, 421', {'451', '421'}, '#bc4c00'),
    ('no DNS', {'no-dns'}, '#8250df'),
    ('flash or RAM full', {'flash-full', 'spool-full'}, '#cf222e'),
    ('killed', {'kill'}, '#a40e26'),
    ('reboot, power cut', {'reboot', 'power-cut'}, '#0969da'),
    ('new certificate', {'certificate'}, '#1a7f37'),
    ('new settings', {'settings'}, '#6e7781'),
]


def nice(top):
    """A round number that is not below `top`."""
    step = 1
    while True:
        for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8):
            if factor * step >= top:
                return factor * step
        step *= 10


def points(xs, ys):
    """The points of a line with steps, without those that change nothing."""
    kept = []
    for n, (x, y) in enumerate(zip(xs, ys)):
        flat = 0 < n < len(ys) - 1 and ys[n - 1] == y == ys[n + 1]
        if not flat:
            kept.append(f'{x:.0f},{y:.0f}' if x == int(x) else f'{x:.1f},{y:.1f}')
    return ' '.join(kept)


class Picture:
    def __init__(self, days):
        self.days, self.out, self.y = days, [], 26

    def x(self, day):
        return LEFT + (WIDTH - LEFT - RIGHT) * day / self.days

    def text(self, x, y, what, anchor='start', size=11, colour=INK):
        self.out.append(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{what}</text>')

    def line(self, x1, y1, x2, y2, colour=PALE):
        self.out.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>')

    def events(self, samples):
        for title, names, colour in EVENTS:
            self.text(LEFT - 6, self.y + 4, title, 'end', 10)
            self.line(LEFT, self.y, WIDTH - RIGHT, self.y)
            for sample in samples:
                if names & set(sample['events'].split()):
                    x = self.x(float(sample['day']))
                    self.out.append(f'<circle cx="{x:.1f}" cy="{self.y}" r="3.2" fill="{colour}"/>')
            self.y += ROW
        self.y += GAP - ROW + 4

    def panel(self, title, samples, curves, unit):
        """`curves`: what it is, colour, and a function from a sample to its value."""
        values = [[value(sample) for sample in samples] for _, _, value in curves]
        top = nice(max(map(max, values)))
        bottom = self.y + PANEL
        self.text(LEFT, self.y - 7, title, size=12)
        at = WIDTH - RIGHT
        for name, colour, _ in reversed(curves if len(curves) > 1 else []):
            self.text(at, self.y - 7, name, 'end', 11, colour)
            at -= 7 * len(name) + 14
        for part in (0, 0.5, 1):
            y = bottom - PANEL * part
            self.line(LEFT, y, WIDTH - RIGHT, y)
            self.text(LEFT - 6, y + 4, f'{top * part:g} {unit}'.strip(), 'end', 10)
        xs = [self.x(float(sample['day'])) for sample in samples]
        for (_, colour, _), row in zip(curves, values):
            ys = [round(bottom - PANEL * value / top, 1) for value in row]
            self.out.append(f'<polyline points="{points(xs, ys)}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        self.y = bottom + GAP

    def finish(self):
        self.y -= GAP - 16
        for day in range(0, self.days + 1, 30 if self.days > 90 else 10 if self.days > 24 else 2):
            self.text(self.x(day), self.y, f'day {day}' if day else '0', 'middle', 10)
        height = self.y + 10
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
                f'font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>')
        return '\n'.join([head, *self.out, '</svg>', ''])


def flash(picture, samples):
    """What was programmed to fill the flash, and to empty it again, is the test's, and would hide everything else."""
    full, kilobytes, erased = -2.0, 0, 0
    for sample in samples:
        full = float(sample['day']) if 'flash-full' in sample['events'].split() else full
        programmed = float(sample['programmed_bytes']) if float(sample['day']) - full > 1.2 else 0
        kilobytes, erased = kilobytes + programmed / 1024, erased + float(sample['erased_blocks'])
        sample.update(kb=programmed / 1024, kb_sum=kilobytes, erased=erased)
    picture.panel('Free on the flash', samples, [('', '#0969da', lambda sample: float(sample['free_kb']) / 1024)], 'MB')
    picture.panel('Programmed on the flash per half day, but for the days on which it was full', samples,
                  [('', '#bc4c00', lambda sample: sample['kb'])], 'KB')
    picture.panel('The same in all', samples, [('', '#bc4c00', lambda sample: sample['kb_sum'])], 'KB')
    picture.panel('Blocks of 64 KB erased, in all', samples, [('', '#a40e26', lambda sample: sample['erased'])], '')


def main():
    source, target = sys.argv[1:]
    with open(source, encoding='utf-8') as file:
        samples = list(csv.DictReader(file))
    number = lambda *names: lambda sample: sum(float(sample[name]) for name in names)
    picture = Picture(round(float(samples[-1]['day'])))
    picture.events(samples)
    picture.panel('Memory of the process', samples, [
        ('resident', '#0969da', lambda sample: float(sample['rss_kb']) / 1024),
        ('private', '#1a7f37', lambda sample: float(sample['private_kb']) / 1024),
        ('heap and stacks', '#cf222e', lambda sample: float(sample['anonymous_kb']) / 1024)], 'MB')
    picture.panel('Open descriptors', samples, [('', '#0969da', number('descriptors'))], '')
    picture.panel('Files: queue and state', samples, [
        ('RAM disk', '#0969da', number('spool_files')), ('flash', '#bc4c00', number('safe_files'))], '')
    picture.panel('Bytes: queue and state', samples, [
        ('RAM disk', '#0969da', lambda sample: float(sample['spool_bytes']) / 1e6),
        ('flash', '#bc4c00', lambda sample: float(sample['safe_bytes']) / 1e6)], 'MB')
    hours = 'half a day' if 'free_kb' in samples[0] else 'six hours'
    picture.panel(f'Lines in the log, per {hours}', samples, [('', '#6e7781', number('log_lines'))], '')
    if 'free_kb' in samples[0]:
        flash(picture, samples)
    text = picture.finish()
    with open(target, 'w', encoding='utf-8') as file:
        file.write(text)
    print(f'{target}: {len(text)} bytes')


main()
