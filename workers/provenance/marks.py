"""What files of one process are marked with, put together from settings and the volume's keys: gate G4."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from workers.delivery.parcel import Parcel, Sign
from workers.job import Output
from workers.media import PARAMETERS, XMP
from workers.provenance.chain import Keys, keys_in
from workers.provenance.credentials import Claims, Signatory, sign
from workers.provenance.signers import LocalSigner, RemoteSigner
from workers.provenance.watermark import Watermark
from workers.safety.mark import bits_of, code_of
from workers.safety.mark_text import GENERATOR, SOURCE_TYPE, VERSION, Making, texts
from workers.settings import Settings


def open_watermark(settings: Settings, device: str) -> Watermark | None:
    """None where a deployment does without. Raises `Misconfigured`."""
    if not settings.watermark:
        return None
    key = keys_in(settings.provenance).mark
    thumbnails = settings.callback_dialect == "objects"
    return Watermark(device, lambda job_id: bits_of(code_of(job_id, key)), thumbnails=thumbnails)


def make_sign(settings: Settings) -> Sign:
    """Raises `Misconfigured`; a signer elsewhere is asked when it is first needed."""
    signatory = open_signatory(settings, keys_in(settings.provenance))
    return functools.partial(_sign, signatory=signatory)


def open_signatory(settings: Settings, keys: Keys) -> Signatory:
    token = settings.c2pa_signer_token
    if settings.c2pa_signer_url:
        return RemoteSigner(settings.c2pa_signer_url, token.get_secret_value() if token is not None else "")
    return LocalSigner(keys.certificates, keys.signing)


def texts_of(output: Output, parcel: Parcel, *, prompts: bool) -> Mapping[str, str]:
    """What a file says of its making, in words."""
    params = parcel.params
    frames, height, width, _ = output.frames.shape
    made = Making(
        job_id=parcel.job_id,
        seed=output.seed,
        width=width,
        height=height,
        frames=frames,
        steps=params.steps,
        guidance=params.guidance,
        sampler=params.solver,
        model=str(parcel.metadata.get("model")),
        model_hash=parcel.metadata.get("model_hash"),
        prompt=params.prompt if prompts else None,
        negative_prompt=params.negative_prompt if prompts else None,
    )
    return texts(made, parameters_key=PARAMETERS, xmp_key=XMP)


def _sign(path: Path, *, signatory: Signatory) -> None:
    """The title is the file's place in its job, which says nothing of its contents."""
    sign(path, Claims(GENERATOR, VERSION, SOURCE_TYPE, path.name), signatory)
