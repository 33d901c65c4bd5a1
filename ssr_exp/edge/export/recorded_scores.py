"""Whether PyTorch scores here what the training wrote down, and where not, why it may not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssr_exp.runs import provenance
from ssr_exp.runs.record import NOT_TOLD, Record

FULL = ("32-true", "32", NOT_TOLD)  # precisions in which a training measures as files do


def differences(
    record: Record, scores: Mapping[str, float | None], *, tolerance: float = 0.0
) -> Iterator[str]:
    """Say in a sentence of each part of the data set that PyTorch scores another number here.

    Args:
        record: what the training wrote down.
        scores: what PyTorch measures here on each part; None: nothing.
        tolerance: a smaller change than this share of the score is not said.
    """
    score, recorded = record.scored_by, {"val": record.score, "test": record.test_score}
    for part, now in scores.items():
        then = recorded.get(part)
        if then is None or now is None or score.text(now) == score.text(then):
            continue
        if abs(now - then) > tolerance * abs(then):
            yield (
                f"PyTorch measures {score.on(part).name} {score.text(now)} here, and the record "
                f"says {score.text(then)}: {_why(record)}"
            )


def _why(record: Record) -> str:
    """Name what was another in the training, as far as the record says it."""
    reasons = []
    if record.precision not in FULL:
        reasons.append(f"the training measured in {record.precision}, and the files are float32")
    if others := list(_versions(record)):
        reasons.append(f"the training had {', '.join(others)}")
    if record.device != NOT_TOLD and provenance.processor() not in record.device:
        reasons.append(f"the training measured on {record.device}")
    return "; ".join(reasons) or "its precision, versions and device name no cause"


def _versions(record: Record) -> Iterator[str]:
    """Name the packages that have another version here: `torch 2.11.0 (here 2.15.0)`."""
    here = provenance.versions()
    for name, version in record.versions.items():
        if here.get(name) != version:
            yield f"{name} {version} (here {here.get(name, 'not installed')})"
