"""An enhancer of a few hundred kilobytes, built from the true classes, in the layout of a Hugging Face cache.

Random weights write rubbish, so every answer falls back to the user's prompt; a few hundred tokens take a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from workers.card.weights import make_readable, quiet_libraries
from workers.engines.qwen.snapshot import REPOSITORIES, Variant
from workers.prompting.rules import load_rules

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
    texts = [template.completion for template in load_rules().enhance.templates.values()]
    for variant in REPOSITORIES:
        tokenizer = make_tokenizer(texts, STOPS[variant], VOCABULARY)
        revision = hashlib.sha1(f"{variant} {seed}".encode(), usedforsecurity=False).hexdigest()
        save(hf_home, variant, tokenizer, make_model(tokenizer, seed), revision)


def save(hf_home: Path, variant: Variant, tokenizer: Any, model: Any, revision: str) -> None:
    """One variant as the only snapshot of its repository."""
    repository = hf_home / "hub" / f"models--{REPOSITORIES[variant].replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    tokenizer.save_pretrained(snapshot)
    model.save_pretrained(snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    make_readable(repository)


def make_tokenizer(texts: Iterable[str], end: str, vocabulary: int) -> Any:
    """Byte-level BPE like the real one, learned from texts; any text at all can be written with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_only, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=bytes_only.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=END, chat_template=CHAT)


def make_model(tokenizer: Any, seed: int, size: Mapping[str, int] = SIZE) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)
