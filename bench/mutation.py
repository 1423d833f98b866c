"""Plants faults in core/ and counts how many of them the unit tests notice.

Works on a copy in a temporary folder, so that the checkout is never touched; mutmut wants its sources under `src/`,
which is what the copy gives it. Prints a row a module; the last line is the score.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]

LEAST_SCORE = 60
"""Percent of planted faults that must be noticed."""

CONFIGURATION = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = ["tests/unit/core"]
pytest_add_cli_args = ["-p", "no:randomly", "-p", "no:cacheprovider"]
also_copy = ["tests"]
max_stack_depth = -1

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
pythonpath = ["src", "."]
filterwarnings = ["ignore"]
"""


def main() -> int:
    """Run, print, and give 1 when too few faults were noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="names in core/, such as windows; left out: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    modules = [f"src/arbiter/core/{name}.py" for name in arguments.modules] or ["src/arbiter/core/*"]
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder)
        shutil.copytree(ROOT / "operator" / "arbiter", tree / "src" / "arbiter")
        shutil.copytree(ROOT / "tests" / "unit", tree / "tests" / "unit")
        (tree / "pyproject.toml").write_text(CONFIGURATION.format(modules=json.dumps(modules)))
        mutmut = [sys.executable, "-m", "mutmut"]
        # Fewer examples: a property that holds for 25 of them and not for 100 has hardly noticed the fault.
        environment = os.environ | {"HYPOTHESIS_PROFILE": "mutation"}
        finished = subprocess.run(  # noqa: S603  our own tool
            [*mutmut, "run", "--max-children", str(arguments.processes)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        listed = subprocess.run(  # noqa: S603  as above
            [*mutmut, "results", "--all", "true"], cwd=tree, capture_output=True, text=True, check=False
        ).stdout
    if finished.returncode or not listed.strip():
        print(finished.stdout[-4000:], finished.stderr[-4000:], file=sys.stderr)
        return 1
    return report(listed)


def report(listed: str) -> int:
    """Print a row a module and the score."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for line in listed.splitlines():
        name, _, state = line.strip().rpartition(": ")
        if name.startswith("arbiter.core."):
            found[name.split(".")[2]][state] += 1
    noticed = ("killed", "timeout", "suspicious", "segfault", "caught by type check")
    print("| module | faults | noticed | % |")
    print("| --- | --- | --- | --- |")
    total = killed = 0
    for module, states in sorted(found.items()):
        every, seen = states.total(), sum(states[state] for state in noticed)
        total, killed = total + every, killed + seen
        print(f"| {module} | {every} | {seen} | {100 * seen / every:.0f} |")
    score = 100 * killed / total if total else 0.0
    print(f"mutation score of core/: {score:.1f} % ({killed} of {total} planted faults noticed)")
    return 0 if score >= LEAST_SCORE else 1


if __name__ == "__main__":
    sys.exit(main())
