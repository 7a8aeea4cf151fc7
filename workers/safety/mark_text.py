"""What a file says of itself in words: the line that image tools read back, and an XMP packet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape

GENERATOR = "OurVidz workers"
VERSION = "1.0.0"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The word of the IPTC for what a model made, in XMP and in content credentials alike."""

SOFTWARE = "Software"
NAMESPACE = "urn:ourvidz:generation:1"
SAMPLERS = {"unipc": "UniPC", "dpm++": "DPM++ 2M", "euler": "Euler"}
SHORT_HASH = 10
"""Digits of a checkpoint's SHA-256 by which image tools know it."""


@dataclass(frozen=True, slots=True)
class Making:
    """How one file was made. Prompts are None where a deployment keeps them out of files."""

    job_id: str
    seed: int
    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    sampler: str
    model: str
    model_hash: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None


def parameters(made: Making) -> str:
    """The generation text that AUTOMATIC1111 and its kin write and read."""
    settings = {
        "Steps": made.steps,
        "Sampler": SAMPLERS.get(made.sampler, made.sampler),
        "CFG scale": f"{made.guidance:g}",
        "Seed": made.seed,
        "Size": f"{made.width}x{made.height}",
        "Model hash": made.model_hash and made.model_hash[:SHORT_HASH],
        "Model": made.model,
        "Frames": made.frames if made.frames > 1 else None,
        "Job id": made.job_id,
        "Version": f"{GENERATOR} {VERSION}",
    }
    line = ", ".join(f"{name}: {_value(value)}" for name, value in settings.items() if value is not None)
    negative = made.negative_prompt and f"Negative prompt: {_clean(made.negative_prompt)}"
    return "\n".join(part for part in (_clean(made.prompt or ""), negative, line) if part)


def xmp(made: Making) -> str:
    """A packet that names the kind of source, the generator and what is needed to find the job again."""
    facts = {"JobId": made.job_id, "Seed": made.seed, "Model": made.model, "ModelHash": made.model_hash}
    ours = "".join(
        f"<gen:{name}>{escape(str(value))}</gen:{name}>" for name, value in facts.items() if value is not None
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:gen="{NAMESPACE}">'
        f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{GENERATOR} {VERSION}</xmp:CreatorTool>{ours}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def texts(made: Making, *, parameters_key: str, xmp_key: str) -> Mapping[str, str]:
    """All texts of a file, under the keys that its container knows them by."""
    return {parameters_key: parameters(made), xmp_key: xmp(made), SOFTWARE: f"{GENERATOR} {VERSION}"}


def _value(value: object) -> str:
    """Quoted where the text would end the field."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text


def _clean(text: str) -> str:
    """Text as containers can hold it: no half characters, no zero bytes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
