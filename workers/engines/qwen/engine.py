"""The prompt enhancer: Qwen2.5-7B, loaded once, asked for one description per prompt, never trusted with it."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers.card import compiled, loader, skeleton
from workers.card.gpu import dtype_for, empty, on_card, with_one_retry
from workers.card.weights import check_safetensors
from workers.engines.qwen.decode import Answer, Question, answer
from workers.engines.qwen.decoder import Decoder
from workers.engines.qwen.guard import judge
from workers.engines.qwen.snapshot import REPOSITORIES, Variant, weight_files
from workers.engines.qwen.step import Sampling
from workers.errors import Cancelled, ClaimLost, EngineBroken, Interrupted, Misconfigured
from workers.job import Media
from workers.logs import log
from workers.prompting.prompt import Enhancement
from workers.prompting.rules import EnhanceRules
from workers.watch import Watch

REMEMBERED = 256
LIBRARIES = ("transformers.Qwen2ForCausalLM", "transformers.AutoTokenizer")
WARM_UP = "a red bicycle"
WARM_UP_TOKENS = 8

Asked = tuple[str, Media, int]


class QwenEnhancer:
    """Turns a short prompt into a description. `time_limit` in seconds per prompt; `cache` keeps compiled code.

    An enhancement never fails a job: whatever goes wrong with the answer, the prompt itself comes back with the
    reason as its status. Answers are remembered by prompt, template (one per media) and seed; the model is the
    object's own.
    """

    def __init__(
        self,
        snapshot: Path,
        *,
        device: str,
        variant: Variant,
        rules: EnhanceRules,
        time_limit: float = 30.0,
        cache: Path | None = None,
    ) -> None:
        self.model_name = REPOSITORIES[variant].rpartition("/")[2]
        self._snapshot, self._device, self._variant = snapshot, device, variant
        self._rules, self._time_limit, self._cache = rules, time_limit, cache
        self._model: Any = None
        self._tokenizer: Any = None
        self._decoder: Decoder | None = None
        self._remembered: OrderedDict[Asked, Enhancement] = OrderedDict()

    def load(self, watch: Watch) -> None:
        """Weights to the device. Raises `Misconfigured` where the snapshot is not whole."""
        files = weight_files(self._snapshot)
        for file in files:
            check_safetensors(file, {})
        dtype = dtype_for(self._device, "bfloat16")
        tensors = loader.load(files, self._device, lambda name: dtype, watch.step, LIBRARIES)
        self.adopt(*self._filled(tensors))

    def _filled(self, tensors: loader.Tensors) -> tuple[Any, Any]:
        """Model and tokenizer. Raises `Misconfigured`."""
        from transformers import AutoTokenizer, GenerationConfig, Qwen2ForCausalLM

        folder = self._snapshot
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = skeleton.build(Qwen2ForCausalLM, folder)
            if (folder / "generation_config.json").is_file():
                model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
            missing = skeleton.fill(model, tensors, self._device)
        except (OSError, ValueError, KeyError) as error:
            raise Misconfigured([f"{folder} cannot be loaded ({error}). Copy the snapshot again."]) from None
        if missing:
            raise Misconfigured([f"{folder} lacks {len(missing)} tensors. Copy the snapshot again."])
        return model, tokenizer

    def adopt(self, model: Any, tokenizer: Any) -> None:
        """Take over a model that is on the device."""
        self._model, self._tokenizer = model, tokenizer
        self._model.generation_config = self._generation()

    def warm_up(self, watch: Watch) -> None:
        if on_card(self._device):
            compiled.keep_in(self._cache)
            self._decoder = Decoder(self._model, self._sampling(), self._rules.max_new_tokens)
            self._decoder.warm_up()
        self._answer(replace(self._question(WARM_UP, "image", 0), max_new_tokens=WARM_UP_TOKENS), watch)

    def enhance(self, prompt: str, media: Media, seed: int, watch: Watch) -> Enhancement:
        """Raises `Interrupted`, `Cancelled`, `ClaimLost` and `EngineBroken`, nothing else."""
        with watch.phase("enhance"):
            if not prompt.strip():
                return Enhancement(prompt, "off")
            asked = (prompt, media, seed)
            if asked in self._remembered:
                self._remembered.move_to_end(asked)
                return replace(self._remembered[asked], seconds=0.0, cached=True)
            try:
                return self._enhance(asked, watch)
            except (Interrupted, Cancelled, ClaimLost, EngineBroken):
                raise
            except Exception as error:
                log.warning("enhancement failed", error=type(error).__name__)
                return Enhancement(prompt, "failed")

    def forget(self, prompt: str) -> None:
        """Drop what was remembered for a prompt, as a policy block demands."""
        for asked in [asked for asked in self._remembered if asked[0] == prompt]:
            del self._remembered[asked]

    def unload(self) -> None:
        self._model = self._tokenizer = self._decoder = None
        empty()

    def _enhance(self, asked: Asked, watch: Watch) -> Enhancement:
        started = time.monotonic()
        said = self._answer(self._question(*asked), watch)
        seconds = time.monotonic() - started
        if said.timed_out:
            return Enhancement(asked[0], "timeout", said.tokens, seconds)
        verdict = judge(asked[0], said.text, self._rules.guard, max_words=self._rules.max_words)
        made = Enhancement(verdict.text, verdict.status, said.tokens, seconds)
        self._remembered[asked] = made
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return made

    def _answer(self, question: Question, watch: Watch) -> Answer:
        def ask() -> Answer:
            return answer(self._model, self._tokenizer, question, watch, self._decoder)

        return with_one_retry(ask, ask)

    def _question(self, prompt: str, media: Media, seed: int) -> Question:
        template = self._rules.templates[media]
        words = prompt.replace("<|", "< |")  # the user's text cannot open or close a turn of the chat
        if self._variant == "base":
            text, stop = template.completion.strip().replace("{prompt}", words), template.stop
        else:
            turns = [("system", template.system.strip()), ("user", template.user.replace("{prompt}", words))]
            chat = [{"role": role, "content": content} for role, content in turns]
            text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            stop = ()
        return Question(text, seed, self._rules.max_new_tokens, time.monotonic() + self._time_limit, stop)

    def _sampling(self) -> Sampling:
        rules = self._rules
        return Sampling(rules.temperature, rules.top_p, rules.top_k, rules.repetition_penalty)

    def _generation(self) -> Any:
        """Ours instead of the snapshot's, except for the tokens that end an answer."""
        from transformers import GenerationConfig

        rules = self._rules
        chance = {"temperature": rules.temperature, "top_p": rules.top_p, "top_k": rules.top_k}
        return GenerationConfig(
            do_sample=rules.temperature > 0,
            repetition_penalty=rules.repetition_penalty,
            eos_token_id=self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id,
            pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            **(chance if rules.temperature > 0 else {}),
        )
