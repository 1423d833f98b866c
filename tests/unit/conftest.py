"""How hard property tests try: as hypothesis does by default, or less where a run only has to notice a fault."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("default", deadline=None)
settings.register_profile("mutation", deadline=None, max_examples=25, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
