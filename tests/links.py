#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the links between the project's pages: the file is there, and the heading, if one is named. Every page of docs/
is linked from docs/README.md."""

import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def headings(page):
    """The anchors of a page, as the usual renderers make them: letters, digits, hyphens and underscores."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {title.replace(" ", "-") for title in kept}


def broken(page):
    """The links of this page that lead nowhere."""
    for target in LINK.findall(page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        aim = (page.parent / name).resolve() if name else page
        if not aim.exists():
            yield f"{page.relative_to(TOP)}: {target}: there is no such file"
        elif anchor and anchor not in headings(aim):
            yield f"{page.relative_to(TOP)}: {target}: there is no such heading"


def main():
    names = subprocess.run(["git", "ls-files", "*.md"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    pages = [TOP / name for name in names.splitlines()]
    wrong = [problem for page in pages for problem in broken(page)]
    index = TOP / "docs/README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    for page in pages:
        if TOP / "docs" in page.parents and page != index and page not in linked:
            wrong.append(f"{page.relative_to(TOP)} is not linked from docs/README.md")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    if wrong:
        sys.exit(f"links.py: {len(wrong)} links lead nowhere, or pages are missing in the index")
    print(f"links.py: the links of {len(pages)} pages lead somewhere.")


main()
