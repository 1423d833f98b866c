"""What the tests of swaps share: what those of serving do, and a pool whose models run elsewhere."""

from __future__ import annotations

from tests.e2e.serving.conftest import hosts, place, weights

__all__ = ["hosts", "place", "weights"]
