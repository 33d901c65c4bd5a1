"""The cost that a study is about, in words."""

from __future__ import annotations

from ssr_exp.runs.record import Record

PARAMS = "params"
NOUNS = {PARAMS: "parameters", "macs": "MACs", "gemms": "GeMMs", "latency_ms": "latency"}
COUNTED = (PARAMS, "macs", "gemms")  # that every record has, and its baseline's


def counted(cost: str) -> str:
    """Say by which exact count a cost is spoken of: parameters stand in for a latency."""
    return cost if cost in COUNTED else PARAMS


def share(record: Record, cost: str) -> float:
    """Return what a network costs as a share of its baseline's."""
    name = counted(cost)
    return float(getattr(record, name) / getattr(record, f"baseline_{name}"))
