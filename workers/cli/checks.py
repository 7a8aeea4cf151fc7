"""Everything that has to be right before a worker can work. Each check asks one thing and says all it finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx

from workers.card import gpu
from workers.cli.screen import size_of
from workers.delivery.outbox import Outbox
from workers.errors import Misconfigured, Unreachable
from workers.kinds import KINDS, open_queue
from workers.known import Known
from workers.prompting.rules import load_rules
from workers.provenance.chain import read_keys
from workers.provenance.signers import RemoteSigner
from workers.provenance.watermark_net import check_weights
from workers.safety.guards import load_persons
from workers.safety.lexicon import load_lexicon
from workers.safety.scorers import open_scorers
from workers.safety.staged import load_manifest
from workers.supabase.storage import SHARED_BUCKET
from workers.supabase.web import auth_headers, reaching
from workers.supervision import heartbeat
from workers.tables import load_models, load_presets
from workers.trust import trusted
from workers.volume import Model, curve_for, lost_loras, models_of, scales

LIBRARIES = ("torch", "diffusers", "transformers", "av", "PIL", "numpy", "safetensors")
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so. The text of a problem says what to do about it; a note is worth knowing."""

    state: Literal["ok", "note", "problem"]
    text: str


Findings = Iterator[Finding]


def ok(text: str) -> Finding:
    return Finding("ok", text)


def note(text: str) -> Finding:
    return Finding("note", text)


def problem(text: str) -> Finding:
    return Finding("problem", text)


def settings(known: Known) -> Findings:
    yield from map(problem, known.problems)
    if not known.problems:
        now = known.settings
        times = f"lease {now.lease_seconds:g} s, grace {now.drain_seconds:g} s"
        yield ok(f"complete; jobs are taken from the {now.queue_take_from}, {times}")


def configuration(known: Known) -> Findings:
    """The files of `config/`."""
    presets = load_presets()
    load_rules()
    strangers = sorted({preset.kind for preset in presets.values()} - set(KINDS))
    yield from (problem(f"presets.toml names the worker kind {kind!r}, which does not exist.") for kind in strangers)
    yield ok(f"{len(presets)} job types")


def volume(known: Known) -> Findings:
    root, files = known.settings.model_root, load_models()
    for model in models_of(known.settings, files):
        yield from map(problem, model.problems)
        if not model.problems:
            yield ok(f"{model.name}: {model.layout}, {size_of(model.bytes)}")
            if model.layout == "original" and not (root / files.wan.converted).exists():
                yield _conversion(model, root / files.wan.converted)
    for name in lost_loras(root, files):
        yield note(f"lora {name}: {root / files.loras[name].file} is not there; jobs that ask for it are refused")
    small = {kind: scale for kind, scale in scales(root, KINDS).items() if scale != 1.0}
    if small:
        yield note(f"{root / 'manifest.toml'} shrinks sizes: these are not the real weights")
    curve_for(load_presets().values(), root, files)


def _conversion(model: Model, target: Path) -> Finding:
    """The authors' layout is converted once; the result is not larger than what it is made from."""
    free = shutil.disk_usage(target.parent).free
    if not os.access(target.parent, os.W_OK):
        return problem(f"{target.parent} is read-only, but {target.name} must be made there once. Mount it writable.")
    if free < model.bytes:
        need = size_of(model.bytes - free)
        return problem(f"{target.name} must be made beside the original, and {need} more are needed. Make room.")
    return note(f"{model.name} is converted at its first start, into {target.name}")


def outbox(known: Known) -> Findings:
    folder = known.settings.outbox
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield problem(f"{folder} cannot be written. Mount the volume writable, or set OUTBOX_DIR.")
    elif reason := Outbox(folder).problem() if there == folder else None:
        yield problem(f"{folder}: {reason}. Make room there, or set OUTBOX_DIR.")
    else:
        yield ok(f"{folder}: {size_of(shutil.disk_usage(there).free)} free")


def run_folder(known: Known) -> Findings:
    try:
        yield ok(f"heartbeats in {heartbeat.run_dir()}")
    except OSError as error:
        yield problem(f"{error}. Set {heartbeat.RUN_DIR} to a folder of your own.")


def card(known: Known) -> Findings:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    yield from (problem(f"{name} is not installed. Run: pip install -r requirements.txt") for name in missing)
    if missing:
        return
    device = gpu.pick_device(known.settings.device)
    memory = gpu.memory(device)
    if memory is None:
        yield note("no CUDA card: the real models need one, the small ones run on the CPU")
    else:
        yield ok(f"{gpu.card_name(device)}: {size_of(memory.free)} of {size_of(memory.total)} free")


def queue(known: Known) -> Findings:
    if not known.has("upstash_redis_rest_url", "upstash_redis_rest_token"):
        return
    for kind in KINDS:
        with closing(open_queue(kind, known.settings)) as client:
            client.check()
            yield ok(f"{client.name}: {client.waiting()} waiting")


def storage(known: Known) -> Findings:
    if not known.has("supabase_url", "supabase_service_key"):
        return
    there = _buckets(known)
    needed = [SHARED_BUCKET] if known.settings.callback_dialect == "objects" else list(load_presets())
    for name in needed:
        if name not in there:
            yield problem(f"there is no bucket {name}. Create it as a private one.")
        elif there[name]:
            yield problem(f"the bucket {name} is public. Make it private: results belong to one user each.")
    if all(there.get(name) is False for name in needed):
        yield ok(f"{len(needed)} private buckets")


def callback(known: Known) -> Findings:
    now = known.settings
    signed = now.job_callback_secret is not None
    if now.callback_dialect == "objects" and not signed:
        yield problem("JOB_CALLBACK_SECRET is not set: receivers of the dialect objects refuse what is not signed.")
    if known.has("supabase_url", "callback_url"):
        address = urlsplit(now.callback_address)
        place = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"
        yield ok(f"dialect {now.callback_dialect}, {'signed' if signed else 'not signed'}, to {place}")


def safety(known: Known) -> Findings:
    """The gates: what they know, what judges pictures, where it is written down."""
    now = known.settings
    manifest = load_manifest(now.manifest)
    found, persons = open_scorers(manifest, now.model_root), load_persons(manifest, now.model_root)
    judges = len(found.explicit)
    yield ok(f"word lists of {load_lexicon().version}, {len(persons)} names, judges of explicitness: {judges}")
    if found.age is None:
        yield note("no age scorer: adult jobs are refused, whatever MAX_RATING says")
    elif now.max_rating == "adult":
        yield ok(f"adult jobs, below an apparent age of {found.age[1]:g} nothing")
    if now.audit_key is None:
        yield note(f"AUDIT_KEY is not set: the key lies beside the audit, in {now.audit}")


def marks(known: Known) -> Findings:
    """What files are marked with, and who signs them."""
    now = known.settings
    if now.watermark:
        check_weights()
    else:
        yield note("WATERMARK is off: copies of pictures cannot be told from others")
    if now.provenance.exists():
        read_keys(now.provenance)
        yield ok(f"keys in {now.provenance}; keep a copy of them")
    else:
        yield note(f"keys are made at the first start, in {now.provenance}")
    if not now.c2pa_signer_url:
        yield note("C2PA_SIGNER_URL is not set: files are signed by a chain that nobody else trusts")
    elif known.has("c2pa_signer_url"):
        token = now.c2pa_signer_token
        with closing(RemoteSigner(now.c2pa_signer_url, token.get_secret_value() if token else "")) as signer:
            yield ok(f"files are signed elsewhere, by {signer.algorithm()}")


CHECKS: Mapping[str, Callable[[Known], Findings]] = {
    "settings": settings,
    "config": configuration,
    "volume": volume,
    "outbox": outbox,
    "run folder": run_folder,
    "card": card,
    "queue": queue,
    "storage": storage,
    "callback": callback,
    "safety": safety,
    "marks": marks,
}


def findings(check: Callable[[Known], Findings], known: Known) -> Findings:
    """All that one check finds; what it could not even ask is a problem too."""
    try:
        yield from check(known)
    except Misconfigured as error:
        yield from map(problem, error.problems)
    except Unreachable as error:
        fix = "Check the key." if error.denied else "Check the address and the network."
        yield problem(f"{str(error).rstrip('.')}. {fix}")


def _buckets(known: Known) -> dict[str, bool]:
    """Name -> whether it is public."""
    key = known.settings.supabase_service_key.get_secret_value()
    with reaching("storage"):
        url = f"{known.settings.supabase_url}/storage/v1/bucket"
        response = httpx.get(url, headers=auth_headers(key), timeout=TIMEOUT, verify=trusted())
    if not response.is_success:
        denied = response.status_code in (400, 401, 403)
        raise Unreachable(f"storage answered {response.status_code}", denied=denied)
    return {bucket["name"]: bool(bucket["public"]) for bucket in response.json()}
