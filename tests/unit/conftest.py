"""How hard property tests try, and which form of the modules they try.

As hypothesis does by default, or less where a run only has to notice a fault. With ARBITER_EXPECT_COMPILED set, a run
that would take a module from its source, though the image has it compiled, does not begin.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("mutation", deadline=None, max_examples=25, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

if os.environ.get("ARBITER_EXPECT_COMPILED"):
    from tests import compiled

    if sources := compiled.uncompiled(compiled.modules()):
        raise pytest.UsageError(f"not compiled: {', '.join(sources)}; run `make unit-compiled`")
