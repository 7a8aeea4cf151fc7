"""An enhancer of a few hundred kilobytes, built from the true classes, in the layout of a Hugging Face cache.

Random weights write rubbish, so every answer falls back to the user's prompt; a few hundred tokens take a second.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from workers.engines.qwen.snapshot import REPOSITORIES, Variant
from workers.prompt_rules import load_rules
from workers.weights import make_readable, quiet_libraries

VOCABULARY = 384
END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
STOPS: dict[Variant, str] = {"base": END, "instruct": TURN_END}
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(hf_home: Path, seed: int = 0) -> None:
    """Write both variants below `hf_home`: the same seed gives the same bytes."""
    quiet_libraries()
    for variant in REPOSITORIES:
        _write_variant(hf_home, variant, seed)


def _write_variant(hf_home: Path, variant: Variant, seed: int) -> None:
    repository = hf_home / "hub" / f"models--{REPOSITORIES[variant].replace('/', '--')}"
    revision = hashlib.sha1(f"{variant} {seed}".encode(), usedforsecurity=False).hexdigest()
    snapshot = repository / "snapshots" / revision
    tokenizer = _tokenizer(STOPS[variant])
    tokenizer.save_pretrained(snapshot)
    _model(tokenizer, seed).save_pretrained(snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    make_readable(repository)


def _tokenizer(end: str) -> Any:
    """Byte-level BPE like the real one, trained on the templates; any text at all can be written with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_only, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=bytes_only.alphabet(),
        show_progress=False,
    )
    texts = [template.completion for template in load_rules().enhance.templates.values()]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=END, chat_template=CHAT)


def _model(tokenizer: Any, seed: int) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **SIZE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)
