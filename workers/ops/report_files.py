"""A baseline on paper: a table in Markdown, the figures as JSON, and bars of the phases as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from workers.ops.baseline import Baseline
from workers.ops.table import Figures

PHASES = (
    ("load", "#8f8f8f"),
    ("enhance", "#b07cc6"),
    ("generation", "#4c8fd6"),
    ("marks", "#c0605f"),
    ("encode", "#e0a030"),
    ("upload", "#4fae7a"),
)
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 190, 90, 20, 12, 46
FONT = 'font-family="sans-serif" font-size="13"'
COLUMNS = ("type", "ok", "total", "wait", "load", "enhance", "generation", "per output", "per step", "marks", "encode",
           "upload", "file", "card peak")  # fmt: skip


def write(baseline: Baseline, folder: Path) -> list[Path]:
    """`baseline.md`, `.json` and `.svg`. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "md": markdown(baseline),
        "json": json.dumps(baseline.as_json(), indent=2) + "\n",
        "svg": plot(baseline.figures),
    }
    paths = []
    for ending, text in texts.items():
        paths.append(folder / f"baseline.{ending}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def markdown(baseline: Baseline) -> str:
    """Seconds are medians; `ok` are completed of all jobs that ended."""
    lines = [
        f"# Baseline of {baseline.host}, {baseline.at}",
        "",
        f"{baseline.jobs} jobs of each type, one of each at a time. Medians in seconds; `total` with `wait`.",
        "",
        _row(COLUMNS),
        _row(["---"] + ["---:"] * (len(COLUMNS) - 1)),
        *(_row(_cells(row)) for row in baseline.figures),
        "",
        "![seconds by phase](baseline.svg)",
        "",
        *_verdict("Promises not kept", baseline.misses),
        *_verdict(f"Worse than {baseline.against}" if baseline.against else "", baseline.regressions),
    ]
    return "\n".join(lines).rstrip() + "\n"


def plot(figures: Sequence[Figures]) -> str:
    """One bar a type, its phases beside each other. Fits light and dark pages."""
    height = TOP + len(figures) * (BAR + GAP) + GAP
    longest = max((_shown(row) for row in figures), default=0.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
        *_legend(),
    ]
    for number, row in enumerate(figures):
        parts += _bar(row, TOP + number * (BAR + GAP), (WIDTH - LEFT - RIGHT) / longest)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> Iterator[str]:
    for number, (phase, colour) in enumerate(PHASES):
        x = LEFT + number * 105
        yield f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 17}" y="23">{phase}</text>'


def _bar(row: Figures, y: int, scale: float) -> Iterator[str]:
    yield f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(row.type)}</text>'
    x = float(LEFT)
    for phase, colour in PHASES:
        width = (getattr(row, phase) or 0.0) * scale
        if width > 0:
            yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
        x += width
    label = f"{_shown(row):.2f} s" if row.completed else "none arrived"
    yield f'<text x="{x + 8:.1f}" y="{y + 15}">{label}</text>'


def _shown(row: Figures) -> float:
    return sum(getattr(row, phase) or 0.0 for phase, _ in PHASES)


def _cells(row: Figures) -> list[str]:
    times = (row.total, row.wait, row.load, row.enhance, row.generation, row.per_output)
    size = "" if row.bytes is None else f"{row.bytes / 1e6:.2f} MB"
    peak = f"{row.card_peak / 2**30:.1f} GiB" if row.card_peak else ""
    step = "" if row.per_step is None else f"{row.per_step:.3f}"
    return [
        row.type,
        f"{row.completed}/{row.completed + row.failed + row.refused}",
        *map(_seconds, times),
        step,
        *map(_seconds, (row.marks, row.encode, row.upload)),
        size,
        peak,
    ]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {sentence}" for sentence in sentences), ""] if sentences else []
