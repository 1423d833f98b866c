"""One object of each kind with every field of its spec and its status given, written by hand.

`SPECS` says what a user might write, `STATUSES` what the operator will write; the tests check that no field of ours is
left out of either.
"""

from __future__ import annotations

from typing import Any

from arbiter.api.meta import GROUP, VERSION

AT = "2026-11-21T12:00:00Z"
LATER = "2026-11-21T13:00:00Z"
OLD, NEW = "0123456789", "9876543210"
SHA256 = "0123456789abcdef" * 4


def condition(about: str, status: str = "True", *, generation: int = 1) -> dict[str, Any]:
    """Give a condition with all its fields."""
    return {
        "type": about,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": AT,
        "reason": "Serving",
        "message": f"{about} is {status}",
    }


WEIGHTS = {"quality": 0.5, "latency": 0.2, "memory": 0.1, "reliability": 0, "recency": 0.2}

KNOWLEDGE: dict[str, Any] = {
    "models": [
        {
            "model": "smollm2",
            "revision": OLD,
            "samples": 40.5,
            "successes": 39.5,
            "quality": 0.8,
            "qualitySamples": 4,
            "firstToken": "h",
            "perToken": "h",
            "total": "h",
            "inputTokens": 1200,
            "outputTokens": 900.5,
            "memoryBytes": 400_000_000,
            "loadSeconds": 1.5,
            "energyJoules": 12.5,
            "byComplexity": {"low": {"samples": 3, "successes": 2}},
            "score": {
                "total": 0.7,
                "quality": 0.8,
                "latency": 0.6,
                "memory": 0.9,
                "reliability": 0.9,
                "recency": 0.5,
                "unproven": False,
            },
            "updatedAt": AT,
        }
    ],
    "weights": WEIGHTS,
    "byComplexity": {"medium": {"samples": 5, "successes": 5}, "high": {"samples": 1, "successes": 0}},
}

POLICY: dict[str, Any] = {
    "mode": "Automatic",
    "trigger": {
        "cooldown": "10m",
        "minSamples": 20,
        "performanceThreshold": 0.7,
        "qualityFactor": 0.8,
        "minImprovement": 0.1,
    },
    "compatibility": {
        "strict": False,
        "minSuccess": 0.8,
        "keepCapabilities": False,
        "keepContextWindow": False,
        "licenses": ["Apache-2.0"],
    },
    "warmUp": {"completions": 1, "skipRequests": 0, "deadline": "1m"},
    "rollout": {
        "strategy": "SideBySide",
        "ramp": {"start": 5, "increment": 5, "hold": "30m"},
        "watch": "2h",
        "keepHot": "30m",
        "keepWarm": "24h",
        "maxHold": "1m",
    },
    "analysis": {
        "rollbackErrorRate": 0.02,
        "promotionErrorRate": 0.1,
        "minSuccessRatio": 0.9,
        "maxErrorRatio": 3,
        "maxFirstTokenRatio": 1.5,
        "maxPerTokenRatio": 1.5,
        "minQualityRatio": 0.9,
        "minRequests": 10,
        "blockLength": "2m",
        "slice": "30s",
        "maxExtensions": 1,
        "maxSilentBlocks": 3,
        "onInconclusive": "Hold",
    },
    "rollback": {"firstFailures": 5, "drain": "10s", "cooldown": "1h", "maxCooldown": "4h"},
    "windows": [{"name": "night", "cron": "0 22 * * 1-5", "duration": "8h", "timeZone": "Europe/Berlin"}],
}

SPECS: dict[str, dict[str, Any]] = {
    "LocalModel": {
        "source": "https://files.example/smollm2.gguf",
        "sha256": SHA256,
        "engine": {"type": "LlamaCpp", "image": "llama:1", "args": ["-v"], "env": [{"name": "A", "value": "b"}]},
        "pullSecret": "hub",
        "family": "smollm2",
        "version": "2",
        "capabilities": ["chat"],
        "contextWindow": 8192,
        "parameters": "135M",
        "quantization": "Q4_1",
        "memory": "400Mi",
        "license": "Apache-2.0",
        "provenance": {"baseModel": "smollm", "metrics": {"loss": 1.25}},
        "deprecated": "superseded by smollm3",
    },
    "ModelPool": {
        "tasks": [
            {"name": "chat", "model": "smollm2", "fallback": ["mac"], "needs": {"minQuality": 0.5}, "prefer": "Speed"},
            {"name": "code", "candidates": ["smollm2"], "weights": WEIGHTS, "checks": {"configMap": "checks"}},
        ],
        "models": ["smollm2", "gemma3"],
        "placement": {
            "nodeSelector": {"gpu": "yes"},
            "tolerations": [{"operator": "Exists"}],
            "gpus": {"resource": "amd.com/gpu", "count": 2},
        },
        "capacity": {"memory": "8Gi", "maxLoadedModels": 3},
        "replicas": 2,
        "preload": ["smollm2"],
        "cache": {"claim": "weights"},
        "router": {"replicas": 1, "auth": {"keysSecret": "keys"}, "expose": {"annotations": {"a": "b"}}},
        "swapPolicy": "nightly",
        "suspend": True,
    },
    "SwapPolicy": POLICY,
    "ModelSwap": {
        "pool": "assistant",
        "task": "chat",
        "to": "gemma3",
        "revision": NEW,
        "reason": "vision is wanted",
        "intent": "Pause",
    },
    "TaskProfile": {
        "pool": "assistant",
        "task": "chat",
        "prior": {"discount": 0.25, "origin": "another cluster", "knowledge": KNOWLEDGE},
    },
}

STATUSES: dict[str, dict[str, Any]] = {
    "LocalModel": {
        "observedGeneration": 1,
        "conditions": [condition("Ready"), condition("Resolved")],
        "engine": {"type": "LlamaCpp", "message": "the source is one GGUF file"},
        "digest": f"sha256:{SHA256}",
        "resolvedAt": AT,
        "size": "98Mi",
        "memory": "400Mi",
        "contextWindow": 8192,
        "capabilities": ["chat", "json"],
        "usedBy": [{"pool": "assistant", "tasks": ["chat"]}],
    },
    "ModelPool": {
        "observedGeneration": 1,
        "conditions": [condition("Ready"), condition("SwapProgressing")],
        "tasks": [
            {
                "name": "chat",
                "active": {"model": "smollm2", "revision": OLD},
                "requested": "gemma3",
                "candidate": {"model": "gemma3", "revision": NEW},
                "weights": "70/30",
                "swap": "chat-to-gemma3",
                "score": 0.75,
                "reason": "EvidenceUndecided",
                "message": "more requests are needed",
            }
        ],
        "residents": [{"model": "smollm2", "revision": OLD, "state": "Loaded", "memory": "400Mi", "usedAt": AT}],
        "rejected": [
            {
                "task": "chat",
                "revision": "aaaaaaaaaa",
                "model": "worse",
                "reason": "RegressionProven",
                "at": AT,
                "times": 2,
            }
        ],
        "summary": {
            "serving": "chat=smollm2",
            "coming": "chat=gemma3",
            "progress": "3/9 30%",
            "why": "EvidenceUndecided",
        },
        "endpoint": "http://assistant.default.svc",
        "replicas": 2,
        "selector": "arbiter.dev/pool=assistant,arbiter.dev/role=engine",
    },
    "SwapPolicy": {
        "observedGeneration": 1,
        "conditions": [condition("Ready")],
        "pools": ["assistant", "team"],
        "poolCount": 2,
    },
    "ModelSwap": {
        "observedGeneration": 1,
        "conditions": [condition("Ready", "False")],
        "phase": "Shifting",
        "outcome": "Promoted",
        "reason": "EqualOrBetterProven",
        "message": "every metric holds",
        "from": {"model": "smollm2", "revision": OLD, "digest": "sha256:a", "readyReplicas": 2, "requests": 700},
        "to": {"model": "gemma3", "revision": NEW, "digest": "sha256:b", "readyReplicas": 1, "requests": 300},
        "policy": POLICY,
        "strategy": "SideBySide",
        "step": 3,
        "steps": 9,
        "extensions": 1,
        "weights": {"set": 30, "acknowledged": 20},
        "progress": "3/9 30%",
        "next": {"action": "raise the weight to 40 %", "at": LATER},
        "metrics": [
            {
                "name": "success",
                "old": {"count": 700, "value": 0.99},
                "new": {"count": 300, "value": 0.98},
                "interval": [0.97, 1.01],
                "margin": 0.95,
                "rollback": "0.1/100",
                "promotion": "14/20",
                "blocks": 30,
                "gaps": 1,
                "verdict": "NotWorse",
                "message": "within the margin",
            }
        ],
        "checks": [{"name": "capital", "old": 1, "new": 0.5}],
        "evidence": "v1:state",
        "history": [
            {"phase": "Preparing", "at": AT, "reason": "Compatible", "message": "it may be tried", "duration": "12s"}
        ],
        "startedAt": AT,
        "endedAt": LATER,
        "elapsed": "1h",
    },
    "TaskProfile": {
        "observedGeneration": 1,
        "conditions": [condition("Ready")],
        "learned": KNOWLEDGE,
        "samples": 40,
        "best": "smollm2",
    },
}


def whole(kind: str, name: str) -> dict[str, Any]:
    """Give an object of a kind with every field of its spec."""
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": SPECS[kind]}
