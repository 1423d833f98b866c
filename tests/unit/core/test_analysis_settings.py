"""What a policy says becomes what the tests are run with."""

from __future__ import annotations

from arbiter.api.swappolicy import DEFAULT_POLICY, Analysis
from arbiter.core.analysis_settings import AnalysisSettings, MetricName


def test_the_built_in_policy_is_the_built_in_analysis() -> None:
    """One set of defaults, whether it is read from a policy or not."""
    usual = AnalysisSettings()

    assert AnalysisSettings.from_policy(DEFAULT_POLICY.analysis, usual.metrics, usual.guard_only, usual.steps) == usual


def test_every_figure_of_a_policy_arrives_at_its_place() -> None:
    """No two of them are mixed up."""
    analysis = Analysis(
        rollback_error_rate=0.02,
        promotion_error_rate=0.1,
        min_success_ratio=0.9,
        max_error_ratio=3.0,
        max_first_token_ratio=1.3,
        max_per_token_ratio=1.4,
        min_quality_ratio=0.8,
        min_requests=70,
        max_silent_blocks=9,
    )

    settings = AnalysisSettings.from_policy(analysis, (MetricName.QUALITY,), (MetricName.QUALITY,), 4)

    assert settings == AnalysisSettings(
        metrics=(MetricName.QUALITY,),
        guard_only=(MetricName.QUALITY,),
        steps=4,
        rollback_alpha=0.02,
        promotion_alpha=0.1,
        success_ratio=0.9,
        error_factor=3.0,
        first_token_ratio=1.3,
        per_token_ratio=1.4,
        quality_ratio=0.8,
        min_requests=70,
        max_silent=9,
    )
    assert [settings.margin(metric) for metric in MetricName] == [0.9, 3.0, 1.3, 1.4, 0.8]
