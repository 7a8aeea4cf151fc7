"""The composition root, which alone knows all names. A third kind is an entry in `KINDS` and a folder in `engines/`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers import media
from workers.card import gpu
from workers.card.turn import NoTurn, Turn
from workers.delivery.parcel import Encode, Parcel
from workers.engines.loras import Shelf
from workers.engines.qwen.snapshot import pick_snapshot, weight_files
from workers.job import WRITTEN, Artifact, Output, Preset
from workers.making import flaws
from workers.making.maker import Engine, Maker
from workers.prompting.enhancing import Enhancer
from workers.prompting.prompt import compose
from workers.prompting.rules import PromptRules, load_rules
from workers.provenance.credentials import ROOM
from workers.provenance.marks import open_watermark, texts_of
from workers.queue.budget import Budget
from workers.queue.upstash import UpstashQueue
from workers.queue.wake import WakeUps
from workers.references.loading import References
from workers.resolve import scaled
from workers.safety.gate import SafetyGate
from workers.safety.guards import OpenScorers
from workers.safety.scorers import open_scorers
from workers.safety.veil import Veil
from workers.settings import Settings
from workers.supabase.callback import CallbackClient
from workers.supabase.rows import JobRows
from workers.supabase.storage import SupabaseStorage
from workers.supervision import heartbeat
from workers.supervision.reconciler import Reconciler
from workers.tables import ModelFiles, check_loras, eight_bits, load_models, load_presets, ranks_of, size_scale
from workers.volume import adapter_files, curve_for, vace_folder

SHARED_BUCKET_LIMIT = 2**30
BESIDE_WAN = 18 * 10**9
"""Bytes that the card needs beside the weights of the video model and the enhancer: both processes' work, and SDXL."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a deployment has: settings, job types, model files, prompt rules, and the device."""

    settings: Settings
    presets: Mapping[str, Preset]
    models: ModelFiles
    rules: PromptRules
    device: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of worker. `poll` and `step_limit` in seconds: how often an empty queue is asked, and how long a
    denoising step may take before it counts as hung. `yields`: its steps let other kinds onto the card.
    `scorers` opens what judges its outputs."""

    name: str
    poll: float
    step_limit: float
    engine: Callable[[Catalogue], Engine]
    enhancer: Callable[[Catalogue], Enhancer] | None = None
    yields: bool = False
    scorers: OpenScorers = open_scorers


def _sdxl(catalogue: Catalogue) -> Engine:
    from workers.engines.sdxl.engine import SdxlEngine

    root, files = catalogue.settings.model_root, catalogue.models.sdxl
    return SdxlEngine(
        root / files.checkpoint,
        device=catalogue.device,
        cache=catalogue.settings.compile_cache,
        name=files.name,
        loras=Shelf(root, catalogue.models.loras),
        adapter=adapter_files(root, catalogue.models),
        characters=root.parent / "characters",
    )


def _wan(catalogue: Catalogue) -> Engine:
    from workers.engines.wan.engine import WanEngine

    root, files, enhancer = catalogue.settings.model_root, catalogue.models.wan, _enhancer_files(catalogue.settings)
    scale = size_scale(root, "wan")
    presets = [preset for preset in catalogue.presets.values() if preset.kind == "wan"]
    shapes = {(*scaled(size, scale), preset.frames) for preset in presets for size in (preset.size, preset.size[::-1])}
    return WanEngine(
        root / files.weights,
        device=catalogue.device,
        converted=root / files.converted,
        warm_up_shapes=sorted(shapes),
        cache=catalogue.settings.compile_cache,
        model_name=files.name,
        loras=Shelf(root, catalogue.models.loras),
        vace=vace_folder(root, catalogue.models),
        eight_bits=eight_bits(presets, gpu.has_eight_bits(catalogue.device)),
        curve=curve_for(presets, root, catalogue.models),
        leave=BESIDE_WAN + sum(file.stat().st_size for file in enhancer),
        read_next=enhancer,
    )


def _qwen(catalogue: Catalogue) -> Enhancer:
    from workers.engines.qwen.engine import QwenEnhancer

    settings = catalogue.settings
    variant, snapshot = pick_snapshot(settings.huggingface, settings.qwen_variant)
    return QwenEnhancer(
        snapshot,
        device=catalogue.device,
        variant=variant,
        rules=catalogue.rules.enhance,
        time_limit=settings.enhance_seconds,
        cache=settings.compile_cache,
    )


def _enhancer_files(settings: Settings) -> list[Path]:
    return weight_files(pick_snapshot(settings.huggingface, settings.qwen_variant)[1])


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("sdxl", poll=2.0, step_limit=20.0, engine=_sdxl),
        Kind("wan", poll=5.0, step_limit=120.0, engine=_wan, enhancer=_qwen, yields=True),
    )
}


def queue_of(kind: str) -> str:
    return f"{kind}_queue"


def open_queue(kind: str, settings: Settings, *, timeout: float = 10.0, budget: Budget | None = None) -> UpstashQueue:
    """A client of one queue, for one thread. Those of one process share a budget."""
    return UpstashQueue(
        queue_of(kind),
        settings.upstash_redis_rest_url,
        settings.upstash_redis_rest_token.get_secret_value(),
        lease=settings.lease_seconds,
        take_from=settings.queue_take_from,
        ranks=ranks_of(kind),
        timeout=timeout,
        budget=budget,
        veil=open_veil(settings),
    )


def open_veil(settings: Settings) -> Veil:
    """Every worker and operator of a deployment has the service key."""
    key = settings.privacy_key or settings.supabase_service_key
    return Veil(key.get_secret_value())


def open_wake_ups(kind: str, settings: Settings, *, on_wake: Callable[[], None], budget: Budget) -> WakeUps:
    """Whoever hears of new jobs on this queue, not yet listening."""
    url, token = settings.upstash_redis_rest_url, settings.upstash_redis_rest_token.get_secret_value()
    return WakeUps(queue_of(kind), url, token, poll=KINDS[kind].poll, on_wake=on_wake, budget=budget)


def open_turn(kind: Kind, settings: Settings) -> Turn | NoTurn:
    """A place at the card's turnstile. Without a card every worker has cores of its own."""
    device = gpu.pick_device(settings.device)
    if not gpu.on_card(device):
        return NoTurn()
    card, wait = gpu.card_id(device), functools.partial(gpu.synchronize, device)
    return Turn(heartbeat.run_dir(), card, yields=kind.yields, synchronize=wait)


def open_storage(settings: Settings) -> SupabaseStorage:
    key = settings.supabase_service_key.get_secret_value()
    return SupabaseStorage(settings.supabase_url, key, dialect=settings.callback_dialect)


def open_reconciler(kinds: Sequence[str], settings: Settings) -> Reconciler:
    """Looks after the queues of these kinds of worker, once started."""
    return Reconciler(
        JobRows(settings.supabase_url, settings.supabase_service_key.get_secret_value()),
        {kind: open_queue(kind, settings) for kind in kinds},
        open_callbacks(settings),
        kinds={preset.type: preset.kind for preset in load_presets().values()} | dict(WRITTEN),
        who=settings.worker_name,
    )


def open_references(settings: Settings) -> References:
    key = settings.supabase_service_key.get_secret_value()
    return References(settings.supabase_url, key, settings.hosts_of_references)


def open_callbacks(settings: Settings) -> CallbackClient:
    secret = settings.job_callback_secret
    return CallbackClient(
        settings.supabase_url,
        settings.supabase_service_key.get_secret_value(),
        dialect=settings.callback_dialect,
        secret=secret.get_secret_value() if secret else None,
        address=settings.callback_address,
        adopt=settings.adopt_images,
    )


def make_maker(kind: Kind, settings: Settings, gate: SafetyGate) -> Maker:
    """What jobs of this kind are made with; nothing heavy is loaded yet. Raises `Misconfigured`."""
    presets, rules, models = load_presets(), load_rules(budget=settings.prompt_budget), load_models()
    check_loras(presets, models)
    catalogue = Catalogue(settings, presets, models, rules, gpu.pick_device(settings.device))
    engine = kind.engine(catalogue)
    return Maker(
        kind=kind.name,
        worker=f"{kind.name}@{settings.worker_name}",
        presets=presets,
        engine=engine,
        enhancer=kind.enhancer(catalogue) if kind.enhancer else None,
        gate=gate,
        compose=functools.partial(compose, rules=rules, count=engine.count_tokens),
        scale=size_scale(settings.model_root, kind.name),
        loras=models.loras,
        inspect=flaws.find,
        references=open_references(settings),
        watermark=open_watermark(settings, catalogue.device),
    )


def make_encode(settings: Settings) -> Encode:
    """One output -> its file, with room for a signature. In `objects` one bucket holds everything, with thumbnails."""
    objects = settings.callback_dialect == "objects"

    def encode(output: Output, folder: Path, parcel: Parcel) -> Artifact:
        return media.encode(
            output,
            folder,
            media=parcel.params.media,
            fps=parcel.params.fps,
            quality=parcel.params.quality,
            limit=(SHARED_BUCKET_LIMIT if objects else parcel.limit) - ROOM,
            text=texts_of(output, parcel, prompts=settings.prompt_in_files),
            thumbnail=objects,
        )

    return encode
