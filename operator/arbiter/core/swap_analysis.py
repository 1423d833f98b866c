"""What a swap has learnt from the routers' counts, and how it learns more: feeds, blocks, evidence, judgement.

Rule: what is learnt and how far the counts are consumed are one value and are stored in one write, so no block is lost
or counted twice, whenever the operator ends. What is compared, and at which error rates, is settled when it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from arbiter.core.analysis_settings import AnalysisSettings, MetricName
from arbiter.core.blocks import BlockRules, Cursor, next_block
from arbiter.core.evidence import Evidence
from arbiter.core.judgement import judge
from arbiter.core.score_evidence import ScoreEvidence
from arbiter.core.stored import Stored, to_json
from arbiter.core.traffic import Side
from arbiter.errors import CorruptStateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from arbiter.api.swappolicy import SwapPolicySpec
    from arbiter.core.feed import Feed
    from arbiter.core.judgement import Judgement

_VERSION: Final = 1
"""Version of the stored form; one that is not known is refused, not half understood."""

_COUNTED: Final = (MetricName.SUCCESS, MetricName.ERRORS, MetricName.FIRST_TOKEN, MetricName.PER_TOKEN)
"""What the routers' counts say something about."""

_MOST_BLOCKS: Final = 64
"""Blocks that one look takes in; after a long pause the rest is left to the next look."""


class Scored(StrEnum):
    """How answers are scored, which decides what part quality has in the decision."""

    NOT = "Not"
    """By nothing: quality is not compared."""

    GUARDED = "Guarded"
    """By too few prompts to promote: quality can roll back, and the gates do without it."""

    FULLY = "Fully"
    """By enough prompts for the gates to ask for their evidence."""

    @staticmethod
    def of(settings: AnalysisSettings) -> Scored:
        """Tell it from what is compared."""
        if MetricName.QUALITY not in settings.metrics:
            return Scored.NOT
        return Scored.GUARDED if MetricName.QUALITY in settings.guard_only else Scored.FULLY


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a swap has learnt.

    Attributes:
        settings: what is compared, and at which error rates.
        rules: when a block closes.
        evidence: what the blocks showed.
        cursor: how far the counts are consumed.
        to_skip: requests of the new side that are still left out: a fresh engine is slow at first.
        missing: what the next block waits for, as part of a sentence; empty if nothing.
    """

    settings: AnalysisSettings
    rules: BlockRules
    evidence: Evidence
    cursor: Cursor
    to_skip: int = 0
    missing: str = ""

    @staticmethod
    def begin(policy: SwapPolicySpec, task: str, scored: Scored, steps: int, now_ms: int) -> Learnt:
        """Learn nothing yet.

        Args:
            policy: that rules the swap.
            task: whose requests are counted.
            scored: how answers are scored.
            steps: how often the weights change, the watch included.
            now_ms: counts of before are not looked at.
        """
        settings, rules = _settled(policy, scored, steps)
        skipped = policy.warm_up.skip_requests
        return Learnt(settings, rules, Evidence.begin(settings, now_ms), Cursor(task, now_ms), skipped)

    def observe(self, feeds: Mapping[str, Feed | None], generation: int, now_ms: int) -> Learnt:
        """Take in what routers have counted since.

        Args:
            feeds: the latest of every live router, by name; None for one that could not be read.
            generation: of the table whose weights are judged.
            now_ms: the operator's clock.
        """
        learnt = self
        for _ in range(_MOST_BLOCKS):
            progress = next_block(feeds, generation, learnt.cursor, now_ms, learnt.rules)
            block = progress.block
            if block is not None and learnt.to_skip > 0:
                left = max(0, learnt.to_skip - block.new.routed)
                evidence = learnt.evidence.follow(replace(progress, block=None), learnt.settings)
                evidence = replace(evidence, consumed_to_ms=block.end_ms)
                learnt = replace(learnt, evidence=evidence, cursor=progress.cursor, to_skip=left, missing="")
                continue
            evidence = learnt.evidence.follow(progress, learnt.settings)
            learnt = replace(learnt, evidence=evidence, cursor=progress.cursor, missing=progress.missing)
            if block is None:
                break
        return learnt

    def score(self, pairs: Iterable[tuple[float, float]]) -> Learnt:
        """Take in scores of answers to the same prompts, the new side's first."""
        return replace(self, evidence=self.evidence.score(pairs, self.settings))

    @property
    def scores(self) -> int:
        """How many pairs of scores were taken in."""
        return sum(metric.gate.n for metric in self.evidence.metrics if isinstance(metric, ScoreEvidence))

    def next_step(self) -> Learnt:
        """Begin the next step: fresh tests beside those over the whole swap."""
        return replace(self, evidence=self.evidence.next_step(self.settings))

    def judge(self) -> Judgement:
        """Say what all of it shows."""
        return judge(self.evidence, self.settings)

    def to_text(self) -> str:
        """The stored form."""
        return to_json(
            {
                "version": _VERSION,
                "scored": Scored.of(self.settings).value,
                "steps": self.settings.steps,
                "toSkip": self.to_skip,
                "cursor": self.cursor.to_text(),
                "evidence": self.evidence.to_text(),
            }
        )

    @staticmethod
    def from_text(text: str, policy: SwapPolicySpec) -> Learnt:
        """Read back what `to_text` wrote under the same policy.

        Raises:
            CorruptStateError: for anything else; it names the field.
        """
        stored = Stored.parse(text, "swap", _VERSION)
        name = stored.text("scored")
        if name not in set(Scored):
            raise CorruptStateError(f"swap.scored must be one of {', '.join(Scored)}")
        settings, rules = _settled(policy, Scored(name), stored.integer("steps", 1))
        learnt = Learnt(
            settings,
            rules,
            Evidence.from_text(stored.text("evidence"), settings),
            Cursor.from_text(stored.text("cursor")),
            stored.integer("toSkip"),
        )
        stored.done()
        return learnt


def first_failures(feeds: Iterable[Feed | None], task: str, since_ms: int) -> int:
    """Give how many requests of the new side failed, if none of all that routers remember went well; else 0."""
    failed = 0
    for feed in feeds:
        for each in () if feed is None else feed.slices:
            if each.task != task or each.end_ms <= since_ms:
                continue
            side = each.side(Side.NEW)
            if side.ok or side.rejected:
                return 0
            failed += side.failures
    return failed


def _settled(policy: SwapPolicySpec, scored: Scored, steps: int) -> tuple[AnalysisSettings, BlockRules]:
    metrics = _COUNTED if scored is Scored.NOT else (*_COUNTED, MetricName.QUALITY)
    guards = (MetricName.ERRORS, *((MetricName.QUALITY,) if scored is Scored.GUARDED else ()))
    analysis = policy.analysis
    settings = AnalysisSettings.from_policy(analysis, metrics, guards, steps)
    length_ms = round(analysis.block_length.seconds * 1000)
    return settings, BlockRules(min_length_ms=length_ms)
