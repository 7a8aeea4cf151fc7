"""Prompts of any length and weight: what is plain stays bit-equal to the library, what is long is never cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from offline import offline
from sdxl_support import generate, pixels, tiny_engine

from workers.engines.conditioning import Conditioning
from workers.engines.sdxl import SdxlEngine
from workers.engines.sdxl.encode import TextEncoder, Token, split
from workers.prompting import emphasis
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

LONG = ", ".join(f"a lighthouse at dusk with {n} red bicycles" for n in range(20))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdxlEngine]:
    with offline():
        yield tiny_engine(tmp_path_factory.mktemp("models"))


@pytest.fixture
def texts(engine: SdxlEngine) -> TextEncoder:
    return TextEncoder(engine._pipeline)


def equal(ours: Conditioning, theirs: tuple[torch.Tensor, ...]) -> bool:
    """`theirs` in the order of the pipeline's `encode_prompt`."""
    keys = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return all(torch.equal(ours.inputs[key], tensor) for key, tensor in zip(keys, theirs, strict=True))


@pytest.mark.parametrize(
    "prompt",
    [
        "a red bicycle",
        "A Lighthouse, at dusk; 35mm",
        "",
        "naïve café — 東京, 🚲",
        "a sign: open, at 10:30 :) [unclosed",
        " ".join(["red"] * 75),
    ],
)
def test_a_plain_prompt_is_bit_equal_to_the_pipelines_own(engine: SdxlEngine, texts: TextEncoder, prompt: str) -> None:
    theirs = engine._pipeline.encode_prompt(prompt, negative_prompt="blurry, grey")
    assert equal(texts.encode(prompt, "blurry, grey"), theirs)


def test_no_negative_prompt_is_all_zeros_as_in_the_pipeline(engine: SdxlEngine, texts: TextEncoder) -> None:
    assert equal(texts.encode("a red bicycle", " "), engine._pipeline.encode_prompt("a red bicycle"))


def test_the_tokenizers_give_clips_known_ids_and_pad_each_in_its_way(engine: SdxlEngine) -> None:
    first, second = engine._pipeline.tokenizer, engine._pipeline.tokenizer_2
    assert first("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (first.pad_token_id, second.pad_token_id) == (49407, 0)


def test_tokens_are_counted_without_marks_and_weights(engine: SdxlEngine) -> None:
    assert engine.count_tokens("a red bicycle") == 3
    assert engine.count_tokens("a (red:1.3) [bicycle]") == 3
    assert engine.count_tokens("") == 0


@pytest.mark.parametrize(("prompt", "negative"), [(LONG, "blurry"), ("a red bicycle", LONG), (LONG, "")])
def test_both_prompts_come_in_the_same_number_of_chunks(texts: TextEncoder, prompt: str, negative: str) -> None:
    encoded = texts.encode(prompt, negative)
    lengths = {encoded.inputs[key].shape[1] for key in ("prompt_embeds", "negative_prompt_embeds")}
    assert lengths == {77 * max(encoded.notes["prompt_chunks"], encoded.notes["negative_chunks"])}
    assert max(lengths) > 2 * 77


def test_what_is_left_out_stays_all_zeros_beside_a_long_prompt(texts: TextEncoder) -> None:
    assert not texts.encode(LONG, "").inputs["negative_prompt_embeds"].any()


def test_the_first_chunk_of_a_long_prompt_is_what_the_pipeline_would_see_of_it(texts: TextEncoder) -> None:
    start = "a red bicycle by the sea, " * 10  # 70 tokens, ending in a comma
    long, short = texts.encode(start + "a lighthouse at dusk " * 5, "blurry"), texts.encode(start, "blurry")
    assert torch.equal(long.inputs["prompt_embeds"][:, :77], short.inputs["prompt_embeds"])
    assert torch.equal(long.inputs["pooled_prompt_embeds"], short.inputs["pooled_prompt_embeds"])


def test_the_last_words_of_a_long_prompt_change_the_picture(engine: SdxlEngine) -> None:
    assert (pixels(engine, prompt=f"{LONG}, in snow") != pixels(engine, prompt=f"{LONG}, in summer")).any()


def test_a_long_prompt_is_counted_in_full(engine: SdxlEngine) -> None:
    watch = Watch()
    generate(engine, watch, prompt=LONG)
    assert watch.notes["prompt_tokens"] == engine.count_tokens(LONG) > 75 * (watch.notes["prompt_chunks"] - 1)


def test_nothing_of_a_prompt_is_printed_or_logged(
    engine: SdxlEngine, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        generate(engine, prompt=LONG, negative_prompt=LONG)
    assert "bicycle" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "weighted",
    ["a (red:1.3) bicycle", "a (red) bicycle", "a [red] bicycle", "a (red:0) bicycle", "(a red bicycle:1.9)"],
)
def test_a_weight_changes_the_embeddings_but_not_their_mean(texts: TextEncoder, weighted: str) -> None:
    plain = texts.encode("a red bicycle", "blurry").inputs["prompt_embeds"]
    changed = texts.encode(weighted, "blurry").inputs["prompt_embeds"]
    assert not torch.equal(changed, plain)
    assert changed.isfinite().all()
    for encoder in (slice(0, 32), slice(32, 80)):
        torch.testing.assert_close(changed[..., encoder].mean(), plain[..., encoder].mean(), rtol=1e-3, atol=0)


def test_a_weight_of_one_is_no_weight(engine: SdxlEngine) -> None:
    assert (pixels(engine, prompt="a (red:1.0) bicycle") == pixels(engine, prompt="a red bicycle")).all()


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a red bicycle", [("a red bicycle", 1.0)]),
        ("a (red:1.3) bicycle", [("a ", 1.0), ("red", 1.3), (" bicycle", 1.0)]),
        ("((red)) [old]", [("red", 1.21), (" ", 1.0), ("old", 0.909)]),
        ("(a (b:2) c)", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        ("(soft light:1.2), (film grain:0.9)", [("soft light", 1.2), (", ", 1.0), ("film grain", 0.9)]),
        (r"a \(literal\) bracket", [("a (literal) bracket", 1.0)]),
        ("open (at 10:30)", [("open ", 1.0), ("at 10:30", 1.1)]),
        ("a smile :) and ( and ]", [("a smile :) and ( and ]", 1.0)]),
        ("(red:9)", [("red", 3.0)]),
        ("(red:-1)", [("red", 0.0)]),
        ("()", []),
        ("", []),
    ],
)
def test_emphasis_is_read_as_written(prompt: str, fragments: list[tuple[str, float]]) -> None:
    assert emphasis.parse(prompt) == [(text, pytest.approx(weight, abs=1e-3)) for text, weight in fragments]


def tokens(*pieces: str) -> list[Token]:
    return [Token(number, 1.0, piece) for number, piece in enumerate(pieces)]


def words(count: int) -> list[str]:
    return ["word</w>"] * count


@pytest.mark.parametrize(
    ("pieces", "lengths"),
    [
        ([], [0]),
        (words(75), [75]),
        (words(76), [75, 1]),
        ([*words(60), ",</w>", *words(30)], [61, 30]),
        ([*words(5), ",</w>", *words(90)], [75, 21]),
        ([*words(73), "half", "word</w>", *words(5)], [75, 5]),
        ([*words(74), "half", "word</w>", *words(5)], [74, 7]),
        (["part"] * 100, [75, 25]),
        ([*words(74), ",</w>"] * 3, [75, 75, 75]),
    ],
)
def test_chunks_end_at_commas_else_at_whole_words_and_lose_nothing(pieces: list[str], lengths: list[int]) -> None:
    chunks: Any = split(tokens(*pieces))
    assert [len(chunk) for chunk in chunks] == lengths
    assert [token for chunk in chunks for token in chunk] == tokens(*pieces)
