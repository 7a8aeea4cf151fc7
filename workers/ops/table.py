"""What jobs of each type cost and how they fared, against what was promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from workers.job import Preset
from workers.supervision.ledger import Entry

SUCCESS = 0.95
QUEUE_WAIT = 300.0
HOUR = 3600.0
MARKS = ("watermark", "screen", "sign")
"""What gates and marks cost a finished output."""

OUR_FAULT = (None, "failed")
"""Error types of jobs that failed although nothing was wrong with them."""

LEAVING = ("upload", "callback")
"""Phases after the files are finished."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One job type: counts of the last jobs, and medians of those that were completed.

    Seconds, except `bytes` of one file and `card_peak` of memory. `work` is from the claim to the accepted callback
    without waiting for the card, `made` to the finished files, which `goal` is for; `total` is `work` with the wait in
    the queue; `per_output` is generation divided by the number of outputs, `per_step` by that of outputs and steps.
    `refused` were at fault themselves, so they count for nothing in `success`, which is None while nothing ended.
    `misses` says which promises are not kept.
    """

    type: str
    kind: str
    media: str
    outputs: tuple[int, ...]
    completed: int
    failed: int
    refused: int
    success: float | None
    total: float | None
    wait: float | None
    work: float | None
    made: float | None
    goal: float | None
    load: float | None
    enhance: float | None
    generation: float | None
    per_output: float | None
    per_step: float | None
    marks: float | None
    encode: float | None
    upload: float | None
    bytes: int | None
    card_peak: int | None
    card_seconds: float
    misses: tuple[str, ...] = ()


def table(presets: Mapping[str, Preset], entries: Sequence[Entry], ceiling: int = 0) -> list[Figures]:
    """One row for each job type. `ceiling` in bytes of the card, 0 for none."""
    return [_figures(preset, [entry for entry in entries if entry.type == name], ceiling)
            for name, preset in presets.items()]  # fmt: skip


def costs(rows: Iterable[Mapping[str, Any]], price: float) -> dict[str, Any]:
    """Where the seconds and the money of the time went that these rows of a minute cover.

    `wasted` are seconds for which a worker had the card without a delivered job to show for it: deaths, retries,
    cancelled jobs, warming up, and those of jobs that ended as failed, which are `failed`. Money in the unit of
    `price`, which is that of an hour.
    """
    seconds = busy = failed = 0.0
    by_type: dict[str, float] = {}
    for row in rows:
        seconds += row.get("seconds", 0.0)
        busy += sum(row.get("busy", {}).values())
        failed += row.get("failed", 0.0)
        for job_type, counts in row.get("jobs", {}).items():
            by_type[job_type] = by_type.get(job_type, 0.0) + counts[4]
    used = sum(by_type.values())
    wasted = max(0.0, busy - used)
    parts = {"wasted": wasted, "failed": min(failed, wasted), "idle": max(0.0, seconds - max(busy, used))}
    return {
        "price": price,
        "seconds": seconds,
        "types": {name: _priced(value, price) for name, value in by_type.items()},
        **{name: _priced(value, price) for name, value in parts.items()},
    }


def as_json(rows: Iterable[Figures]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _figures(preset: Preset, entries: Sequence[Entry], ceiling: int) -> Figures:
    good = [entry for entry in entries if entry.status == "completed"]
    failed = sum(entry.status == "failed" and entry.error_type in OUR_FAULT for entry in entries)
    success = len(good) / (len(good) + failed) if good or failed else None
    wait, peak = _median(e.wait for e in good), _median(_peak(e) for e in good)
    return Figures(
        type=preset.type,
        kind=preset.kind,
        media=preset.media,
        outputs=preset.outputs,
        completed=len(good),
        failed=failed,
        refused=len(entries) - len(good) - failed,
        success=None if success is None else round(success, 4),
        total=_median(e.wait + e.work for e in good),
        wait=wait,
        work=_median(e.work for e in good),
        made=_median(map(_made, good)),
        goal=preset.goal,
        load=_median(e.timings.get("load", 0.0) for e in good),
        enhance=_median(e.timings.get("enhance", 0.0) for e in good),
        generation=_median(map(_generation, good)),
        per_output=_median(_generation(e) / max(1, len(e.files)) for e in good),
        per_step=_median(_generation(e) / max(1, len(e.files) * int(e.facts.get("steps") or 1)) for e in good),
        marks=_median(sum(e.timings.get(phase, 0.0) for phase in MARKS) for e in good),
        encode=_median(e.timings.get("encode", 0.0) for e in good),
        upload=_median(e.timings.get("upload", 0.0) for e in good),
        bytes=_whole(_median(f.bytes for e in good for f in e.files)),
        card_peak=_whole(peak),
        card_seconds=round(sum(e.on_card for e in good), 2),
        misses=_misses(success, wait, peak, ceiling),
    )


def _misses(success: float | None, wait: float | None, peak: float | None, ceiling: int) -> tuple[str, ...]:
    found = {
        f"less than {SUCCESS:.0%} of the jobs were completed": success is not None and success <= SUCCESS,
        f"jobs wait longer than {QUEUE_WAIT / 60:.0f} minutes": wait is not None and wait >= QUEUE_WAIT,
        "more memory of the card than allowed": bool(ceiling and peak and peak > ceiling),
    }
    return tuple(sentence for sentence, missed in found.items() if missed)


def _made(entry: Entry) -> float:
    return entry.work - sum(entry.timings.get(phase, 0.0) for phase in LEAVING)


def _generation(entry: Entry) -> float:
    return entry.timings.get("denoise", 0.0) + entry.timings.get("decode", 0.0)


def _peak(entry: Entry) -> float:
    memory = entry.facts.get("memory")
    return float(memory.get("card_peak", 0)) if isinstance(memory, Mapping) else 0.0


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(median(found), 3) if found else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _priced(seconds: float, price: float) -> dict[str, float]:
    return {"seconds": round(seconds, 1), "money": round(seconds / HOUR * price, 4)}
