"""From pixels to files in the outbox: looked at first, then encoded and signed, then written down, then sealed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from workers import crash
from workers.delivery.outbox import Sealed
from workers.delivery.parcel import Parcel, Way
from workers.job import Output
from workers.safety.inspection import PATIENCE
from workers.safety.output import Scan
from workers.watch import Watch, rounded

T = TypeVar("T")


class Call(Protocol):
    """Runs a blocking function in a pool of this name."""

    def __call__(self, pool: str, function: Callable[..., T], /, *arguments: object) -> Awaitable[T]: ...


async def pack(way: Way, call: Call, insist: Call, parcel: Parcel, watch: Watch) -> Sealed:
    """Nothing outside has happened yet, and nothing that was not looked at is on a disk. Raises `Blocked` too.

    `insist` calls until it is answered: a file waits for whoever signs it, and does not go without.
    """
    outbox, params = way.outbox, parcel.params
    crash.point("handed-over")
    scans = await _look(way, call, parcel, watch)
    folder = outbox.stage(parcel.claim.token)
    try:
        with watch.phase("encode"):
            encoding = (call("encode", way.encode, each, folder, parcel) for each in parcel.outputs)
            artifacts = await asyncio.gather(*encoding)
        with watch.phase("sign"):
            files = (path for artifact in artifacts for path in artifact.files)
            await asyncio.gather(*(insist("sign", way.sign, path) for path in files))
        crash.point("encoded")
        await insist("queue", way.leases.confirm, parcel.claim.token)
        await call("encode", way.inspection.record, parcel, params.type, artifacts, scans)
    except BaseException:
        outbox.discard(folder)
        raise
    metadata = {**parcel.metadata, "timings": {"load": 0.0, **rounded(watch.timings)}}
    ids = (folder, parcel.job_id, params.type, parcel.user_id)
    sealed = Sealed(*ids, tuple(artifacts), parcel.enhanced_prompt, metadata)
    return await call("encode", outbox.seal, folder, sealed)


async def _look(way: Way, call: Call, parcel: Parcel, watch: Watch) -> list[Scan]:
    """Every output, before the first of them becomes a file. Who does not answer in time counts as failed."""

    def look(output: Output) -> Scan:
        return way.inspection.look(parcel, output)

    with watch.phase("screen"):
        looks = asyncio.gather(*(call("encode", look, output) for output in parcel.outputs))
        try:
            return await asyncio.wait_for(looks, PATIENCE)
        except TimeoutError:
            raise way.inspection.took_too_long(parcel) from None
