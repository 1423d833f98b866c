"""Counts what a test run did, from its JUnit reports, and fails where it left something out.

In CI a skipped test is a failed one: a suite that skips what it cannot do would be green for ever. A test that uses a
cluster, starts an engine or gets a completion out of one says so in a property of the report.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

COUNTED = ("cluster tests", "engines started", "completions served")
"""Properties that tests record, with whole numbers."""


def main(reports: list[str]) -> int:
    """Print the counts and give the exit code."""
    roots = [ET.parse(Path(report)).getroot() for report in reports]  # noqa: S314  our own reports
    suites = [suite for root in roots for suite in root.iter("testsuite")]
    total, failed, skipped = (
        sum(int(suite.get(word, 0)) for suite in suites for word in words)
        for words in (("tests",), ("failures", "errors"), ("skipped",))
    )
    recorded = [(found.get("name"), found.get("value", "0")) for root in roots for found in root.iter("property")]
    print(", ".join(f"{word}: {sum(int(value) for name, value in recorded if name == word)}" for word in COUNTED))
    print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not total or (skipped and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
