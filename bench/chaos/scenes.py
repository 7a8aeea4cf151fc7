"""How a worker gets to each named point: what is queued, what fails around it, and who dies before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.crash import POINTS

CALLBACK = "/functions/v1/job-callback"
OBJECTS = "/storage/v1/object/*"
DAYS_END = "the end of the day"
VOLUMES = ("outbox", "elsewhere")
Faults = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """One way to a point.

    `deaths` are the points at which one process after the other dies. `faults` strike storage and receiver. `order`
    is what dying processes are told beside. A `refused` job ends as `failed`. Prompts may hold words that make the
    engine evil, see `bench.chaos.child`. The heir works on one of the `volumes`: a job that killed two workers and
    has no files there is given up.
    """

    deaths: tuple[str, ...]
    prompt: str = "a lighthouse at dusk"
    jobs: int = 2
    images: int = 1
    faults: Faults = ()
    order: Mapping[str, Any] = field(default_factory=dict)
    refused: bool = False
    kinds: tuple[str, ...] = ("sdxl", "wan")
    volumes: tuple[str, ...] = VOLUMES

    @property
    def point(self) -> str:
        return self.deaths[-1].partition(":")[0]


_SPECIAL = (
    Scene(("generating:2",)),
    Scene(("beaten",), order={"steps": 20, "step_seconds": 0.1, "lease": 2.0}),
    Scene(("between-uploads",), images=3),
    Scene(("sealed", "resumed"), jobs=1, volumes=VOLUMES[:1]),
    Scene(("remembered", "recalled"), jobs=1),
    Scene(("rejected",), prompt="a lighthouse " * 400, refused=True),
    Scene(("noted",), images=3, kinds=("sdxl",)),
    Scene(
        ("parked",),
        faults=({"kind": "error", "path": CALLBACK, "contains": '"completed"', "retry_after": 1, "count": 1},),
    ),
    Scene(("settled",), prompt=DAYS_END, order={"evil": [DAYS_END], "drain": 0}),
    Scene(("draining",), prompt=DAYS_END, order={"evil": [DAYS_END]}),
    Scene(
        ("released",),
        prompt=DAYS_END,
        order={"evil": [DAYS_END], "drain": 3.5},
        faults=({"kind": "hang", "path": OBJECTS, "seconds": 5.0, "count": 1},),
    ),
)
SCENES = {scene.point: scene for scene in (*(Scene((point,)) for point in POINTS), *_SPECIAL)}
