"""The enhancer with random weights against plain transformers, in one run: `python -m bench.qwen`.

Both continue the same question of 300 tokens by 400. The floor is the time in which the card reads every weight that
a token needs, once per token. Without a card, or with `--small`, small weights stand in.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.frame import Ceilings, Row, ceilings, footprint, head, interleaved, say, table_head, timed
from workers.card import gpu
from workers.card.weights import quiet_libraries
from workers.engines.qwen import step
from workers.engines.qwen.decode import Question, answer
from workers.engines.qwen.decoder import Decoder
from workers.engines.qwen.engine import QwenEnhancer
from workers.engines.qwen.snapshot import find_snapshot
from workers.engines.qwen.step import Sampling
from workers.prompting.rules import load_rules
from workers.tiny import qwen as tiny
from workers.watch import Watch

TRUE = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
QUESTION = 300
GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0)


def model(device: str, sizes: dict[str, Any]) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    torch.set_default_dtype(gpu.dtype_for(device, "bfloat16"))
    try:
        with torch.device(device):
            made = Qwen2ForCausalLM(Qwen2Config(**sizes, eos_token_id=0, pad_token_id=0, bos_token_id=None))
    finally:
        torch.set_default_dtype(torch.float32)
    return made.eval().requires_grad_(False)


def enhancer(device: str, sizes: dict[str, Any], snapshot: Path, cache: Path | None) -> QwenEnhancer:
    from transformers import AutoTokenizer

    made = QwenEnhancer(snapshot, device=device, variant="instruct", rules=load_rules().enhance, cache=cache)
    made.adopt(model(device, sizes), AutoTokenizer.from_pretrained(snapshot))
    return made


def answers(made: QwenEnhancer, tokens: int) -> dict[str, Callable[[], Any]]:
    """Both ways to an answer of as many tokens, from text to text."""
    begin = made._tokenizer.decode(torch.arange(QUESTION).remainder(200).add(40).tolist())

    def say_it(decoder: Decoder | None) -> None:
        asked = Question(begin, 7, tokens, time.monotonic() + 600)
        said = answer(made._model, made._tokenizer, asked, Watch(), decoder)
        assert said.tokens == tokens, "the answer ended early"

    return {"plain": lambda: say_it(None), "ours": lambda: say_it(made._decoder)}


def fidelity(made: QwenEnhancer, tokens: int) -> str:
    """The likeliest tokens of both ways. Where they part, the two best logits, and both ways' error in float32."""
    plain_model, device = made._model, made._model.device
    ids = torch.randint(1, plain_model.config.vocab_size, (1, QUESTION), generator=torch.Generator().manual_seed(1))
    ids = ids.to(device)
    with torch.inference_mode():
        theirs = plain_model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, eos_token_id=None,
            repetition_penalty=1.0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        logits: list[Any] = []
        said = _greedy(made, ids, tokens, logits)
    expected = theirs.sequences[0, QUESTION:].tolist()
    parts = next((i for i, pair in enumerate(zip(said, expected, strict=True)) if pair[0] != pair[1]), None)
    if parts is None:
        return f"{tokens} greedy tokens are equal"
    return _noise(plain_model, theirs.sequences[:, : QUESTION + parts], theirs.logits[parts][0], logits[parts], parts)


def _greedy(made: QwenEnhancer, ids: Any, tokens: int, logits: list[Any]) -> list[int]:
    """Tokens by the same step, not captured, with its logits noted."""
    choose = step.choose

    def noted(found: Any, state: Any, sampling: Sampling) -> None:
        logits.append(found.float().clone())
        choose(found, state, sampling)

    decoder = Decoder(made._model, GREEDY, tokens)
    step.choose = noted
    try:
        logits.append(None)  # the first token's are chosen from the library's own logits
        decoder.begin(ids, 0)
        return decoder.more(0, tokens)
    finally:
        step.choose = choose


def _noise(plain_model: Any, ids: Any, theirs: Any, ours: Any, parts: int) -> str:
    with torch.inference_mode():
        exact = plain_model.float()(ids, logits_to_keep=1).logits[0, -1]
    best = exact.topk(2).values
    errors = [f"{(found.float() - exact).std():.3f}" for found in (ours, theirs)]
    gap = f"at token {parts + 1} the two best lie {best[0] - best[1]:.3f} apart in float32"
    return f"greedy: {gap}; error of logits {errors[0]}, plain {errors[1]}"


def floor(made: QwenEnhancer, tokens: int, found: Ceilings) -> float:
    """Every weight but the embedding's, of which a token reads one row."""
    embedding = made._model.model.embed_tokens.weight
    read = sum(p.nbytes for p in made._model.parameters()) - embedding.nbytes
    return read * tokens / found.bandwidth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="where compiled code is kept; default: nowhere")
    parser.add_argument("--only-start", action="store_true", help="warm up, say how long it took, and end")
    asked = parser.parse_args()
    quiet_libraries()
    small = asked.small or not torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        tiny.write(Path(folder))
        snapshot = find_snapshot(Path(folder), "instruct")
        sizes = {**tiny.SIZE, "vocab_size": tiny.VOCABULARY} if small else TRUE
        measure("cpu" if small else "cuda", sizes, snapshot, asked)


def measure(device: str, sizes: dict[str, Any], snapshot: Path, asked: argparse.Namespace) -> None:
    found = ceilings(device)
    gpu.empty()
    say(head(device, found))
    made = enhancer(device, sizes, snapshot, asked.cache)
    say(f"warm-up: {timed(lambda: made.warm_up(Watch()), device):.1f} s")
    if made._decoder is None:
        made._decoder = Decoder(made._model, made._sampling(), asked.tokens)
    say(footprint(device))
    if asked.only_start:
        return
    made._model.generation_config.eos_token_id = None
    times = interleaved(answers(made, asked.tokens), asked.runs, device)
    need = floor(made, asked.tokens, found)
    say(
        table_head(), Row(f"{asked.tokens} tokens", **times, floor=need, fidelity=fidelity(made, min(asked.tokens, 64)))
    )


if __name__ == "__main__":
    main()
