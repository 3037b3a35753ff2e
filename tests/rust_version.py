#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whether rust-version in Cargo.toml is at least what the dependencies ask for."""

import json
import subprocess
import sys


def number(text):
    """A version as numbers; trailing zeros mean nothing."""
    numbers = [int(part) for part in (text or '0').split('.')]
    return numbers + [0] * (3 - len(numbers))


def main():
    """Ends with 1 and a sentence if it is not."""
    command = ['cargo', 'metadata', '--locked', '--format-version', '1']
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)['packages']
    own = next(package for package in found if package['name'] == 'smtprelay')
    others = [package for package in found if package is not own]
    highest = max(others, key=lambda package: number(package['rust_version']))
    if number(own['rust_version']) < number(highest['rust_version']):
        sys.exit(f'Cargo.toml: rust-version is {own["rust_version"]}, but {highest["name"]} {highest["version"]} '
                 f'needs {highest["rust_version"]}')


if __name__ == '__main__':
    main()
