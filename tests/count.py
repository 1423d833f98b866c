"""Counts what a test run did, from its JUnit reports, and fails where it left something out.

In CI a skipped test is a failed one: a suite that skips what it cannot do would be green for ever. Tests that start an
engine or get a completion out of one say so with `record_property`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

CLUSTER_TESTS = "tests.e2e."
"""Where tests live that run on a real cluster, as JUnit reports write it."""

COUNTED = ("engines started", "completions served")
"""Properties that tests record, with whole numbers."""


def main(reports: list[str]) -> int:
    """Print the counts and give the exit code."""
    roots = [ET.parse(Path(report)).getroot() for report in reports]  # noqa: S314  our own reports
    suites = [suite for root in roots for suite in root.iter("testsuite")]
    total, failed, skipped = (
        sum(int(suite.get(word, 0)) for suite in suites for word in words)
        for words in (("tests",), ("failures", "errors"), ("skipped",))
    )
    cases = [case for root in roots for case in root.iter("testcase")]
    on_cluster = sum(case.get("classname", "").startswith(CLUSTER_TESTS) for case in cases)
    properties = [(found.get("name"), found.get("value", "0")) for case in cases for found in case.iter("property")]
    sums = [f"{word}: {sum(int(value) for name, value in properties if name == word)}" for word in COUNTED]
    print(", ".join([f"cluster tests: {on_cluster}", *sums]))
    print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not total or (skipped and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
