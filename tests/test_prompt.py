"""Tiers, negatives and budgets: what is added to a prompt, and what never happens to the user's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.job import Job, Preset
from workers.prompting.prompt import compose
from workers.prompting.rules import load_rules

SHIPPED = load_rules()
FITTED = load_rules(budget="fit")
CRITICAL = ("bad anatomy", "extra limbs", "deformed", "missing limbs")
KINDS = (("sdxl", "image"), ("wan", "image"), ("wan", "video"))

SDXL = Preset(
    type="sdxl_image_fast",
    kind="sdxl",
    media="image",
    size=(1024, 1024),
    steps=15,
    guidance=6.0,
    bucket_limit=5 << 20,
    tier="unrestricted",
)
WAN_IMAGE = replace(SDXL, type="image_fast", kind="wan", tier="artistic")
WAN_VIDEO = replace(WAN_IMAGE, type="video_fast", media="video")
ENHANCED_VIDEO = replace(WAN_VIDEO, type="video7b_fast_enhanced", tier="explicit", enhance=True)


def job(prompt: str = "a red bicycle", **values: Any) -> Job:
    return Job(id="1", type="any", user_id="2", prompt=prompt, **values)


def tokens(text: str) -> int:
    """About as many as CLIP makes: a token per word and per comma."""
    return len(text.replace(",", " , ").split())


def terms(negative: str) -> list[str]:
    return [term.strip() for term in negative.split(",") if term.strip()]


def category(name: str) -> list[list[str]]:
    return [list(group) for c in SHIPPED.negatives if c.name == name for group in c.groups]


def groups_in(negative: str, name: str) -> int:
    """How many groups of a category are complete in a negative prompt."""
    said = terms(negative)
    return sum(set(group) <= set(said) for group in category(name))


def test_an_sdxl_job_gets_quality_camera_and_light() -> None:
    prompt = compose(job(), SDXL, SHIPPED, rating="sfw").prompt
    assert prompt.startswith("a red bicycle, score_9, score_8_up, masterpiece, best quality")
    assert "shot on Canon EOS R5, f/1.8, shallow depth of field" in prompt


def test_a_video_gets_motion_camera_and_composition() -> None:
    prompt = compose(job(), WAN_VIDEO, SHIPPED, rating="sfw").prompt
    assert prompt == (
        "a red bicycle, smooth motion, fluid movement, temporal consistency, stable camera, "
        "professional cinematography, balanced composition"
    )


def test_an_enhanced_text_gets_only_the_motion_words_it_lacks() -> None:
    text = "A red bicycle rolls by with smooth motion, filmed from the side."
    composed = compose(job(), ENHANCED_VIDEO, SHIPPED, rating="sfw", text=text)
    assert composed.prompt == f"{text} fluid movement, temporal consistency"


def test_an_empty_prompt_is_legal_and_gets_its_style() -> None:
    assert compose(job(""), WAN_IMAGE, SHIPPED, rating="sfw").prompt.startswith("professional cinematography")


def test_a_style_word_that_the_user_wrote_is_not_repeated() -> None:
    composed = compose(job("a red bicycle, Masterpiece, (score_9:1.2)"), SDXL, SHIPPED, rating="sfw")
    assert "masterpiece" not in composed.added
    assert "score_9" not in composed.added


def test_of_words_that_say_the_same_one_is_enough() -> None:
    added = compose(job("a highly detailed red bicycle, bokeh"), SDXL, SHIPPED, rating="sfw").added
    assert "best quality" not in added
    assert "shallow depth of field" not in added


def test_half_a_phrase_across_a_full_stop_says_nothing() -> None:
    assert "best quality" in compose(job("At its best. Quality time"), SDXL, SHIPPED, rating="sfw").added


@pytest.mark.parametrize("tier", SHIPPED.tiers)
def test_the_platform_may_choose_any_tier(tier: str) -> None:
    assert compose(job(tier=tier), ENHANCED_VIDEO, SHIPPED, rating="sfw").tier == tier


@pytest.mark.parametrize(
    ("wish", "used"),
    [
        ("artistic", "artistic"),
        ("explicit", "explicit"),
        ("unrestricted", "explicit"),
        ("bold", "explicit"),
        (3, "explicit"),
    ],
)
def test_the_clients_metadata_may_choose_a_milder_tier_only(wish: object, used: str) -> None:
    assert compose(job(metadata={"tier": wish}), ENHANCED_VIDEO, SHIPPED, rating="sfw").tier == used


def test_an_unknown_tier_leaves_the_presets_own() -> None:
    assert compose(job(tier="boundless"), SDXL, SHIPPED, rating="sfw").tier == "unrestricted"


def test_a_raw_prompt_gets_nothing() -> None:
    raw = job("  a red bicycle ", negative_prompt="rain, rain", raw_prompt=True)
    composed = compose(raw, WAN_VIDEO, SHIPPED, rating="adult")
    assert (composed.prompt, composed.negative_prompt, composed.added) == ("  a red bicycle ", "rain, rain", ())


def test_a_model_without_entries_gets_the_users_words_alone() -> None:
    composed = compose(job(negative_prompt="rain"), replace(SDXL, kind="third"), SHIPPED, rating="adult", count=tokens)
    assert (composed.prompt, composed.negative_prompt) == ("a red bicycle", "rain")


@pytest.mark.parametrize(
    ("preset", "anatomy", "artifacts", "adult", "video"),
    [(SDXL, 4, 3, 6, 0), (WAN_IMAGE, 6, 4, 8, 0), (WAN_VIDEO, 7, 5, 20, 5)],
)
def test_negatives_cover_what_the_kind_of_job_asks_for(
    preset: Preset, anatomy: int, artifacts: int, adult: int, video: int
) -> None:
    negative = compose(job(), preset, SHIPPED, rating="adult").negative_prompt
    covered = [groups_in(negative, name) for name in ("critical", "quality", "anatomy", "artifacts", "adult", "video")]
    assert covered == [1, 1, anatomy, artifacts, adult, video]


def test_negatives_stand_in_order_of_priority_after_the_users_own() -> None:
    said = terms(compose(job(negative_prompt="rain"), SDXL, SHIPPED, rating="adult").negative_prompt)
    order = [t for c in SHIPPED.negatives for group in c.groups for t in group]
    assert said[0] == "rain"
    assert said[1:] == sorted(said[1:], key=order.index)


@pytest.mark.parametrize(("kind", "media"), KINDS)
def test_the_sfw_rating_knows_no_adult_words(kind: str, media: str) -> None:
    adult = {t for group in category("adult") for t in group} | {
        word for kinds in SHIPPED.styles.values() for style in kinds.values() for word in style.adult
    }
    for tier in SHIPPED.tiers:
        composed = compose(job(tier=tier), replace(SDXL, kind=kind, media=media), SHIPPED, rating="sfw")
        assert adult.isdisjoint(composed.added)


def test_the_adult_rating_adds_its_style_words() -> None:
    assert "natural skin texture" in compose(job(), SDXL, SHIPPED, rating="adult").added


def test_the_video_model_gets_its_authors_own_negative_prompt_unless_switched_off() -> None:
    base = SHIPPED.models["wan"].base_negative
    assert base.startswith("色调艳丽，过曝，静态")
    assert terms(compose(job(), WAN_VIDEO, SHIPPED, rating="sfw").negative_prompt)[0] == base
    off = SHIPPED.model_copy(update={"models": {"wan": SHIPPED.models["wan"].model_copy(update={"base_negative": ""})}})
    assert base not in compose(job(), WAN_VIDEO, off, rating="sfw").negative_prompt


def test_repetitions_in_the_users_negative_go_and_are_reported() -> None:
    composed = compose(job(negative_prompt="rain, Snow,rain , snow, (fog, rain:1.2)"), SDXL, SHIPPED, rating="sfw")
    assert composed.negative_prompt.startswith("rain, Snow, (fog, rain:1.2), bad anatomy")
    assert composed.dropped == ("rain", "snow")
    assert compose(job(negative_prompt="a,a"), SDXL, SHIPPED, rating="sfw").dropped == ("a",)


def test_a_negative_that_the_user_weighted_is_not_added_again() -> None:
    said = compose(job(negative_prompt="(bad anatomy, blurry:1.3)"), SDXL, SHIPPED, rating="sfw")
    assert {"bad anatomy", "blurry"}.isdisjoint(said.added)


def test_a_negative_inside_a_longer_term_is_still_added() -> None:
    assert "text" in compose(job(negative_prompt="text on the wall"), SDXL, SHIPPED, rating="sfw").added


def test_in_chunks_nothing_is_cut() -> None:
    long = compose(job("a red bicycle, " * 40), SDXL, SHIPPED, rating="adult", count=tokens)
    short = compose(job(), SDXL, SHIPPED, rating="adult", count=tokens)
    assert long.dropped == ()
    assert long.added == short.added
    assert long.tokens is not None
    assert long.tokens > 75


def test_to_fit_the_least_important_additions_go_first() -> None:
    full = compose(job(), SDXL, SHIPPED, rating="adult", count=tokens)
    fitted = compose(job(" ".join(["bicycle"] * 60)), SDXL, FITTED, rating="adult", count=tokens)
    style = [word for word in full.added if word in full.prompt]
    kept = [word for word in fitted.added if word in fitted.prompt]
    assert kept == style[: len(kept)]
    assert 0 < len(kept) < len(style)
    assert fitted.tokens is not None
    assert fitted.tokens <= 75
    assert fitted.dropped[: len(style) - len(kept)] == tuple(style[len(kept) :])


def test_the_users_words_and_the_critical_negatives_stay_over_any_budget() -> None:
    prompt, negative = "bicycle " * 90, ", ".join(f"thing {i}" for i in range(60))
    composed = compose(job(prompt, negative_prompt=negative), SDXL, FITTED, rating="adult", count=tokens)
    assert composed.prompt == prompt
    assert composed.negative_prompt == f"{negative}, {', '.join(CRITICAL)}"


def test_the_video_models_512_tokens_hold_additions_back_in_every_mode() -> None:
    composed = compose(job("bicycle " * 510), WAN_VIDEO, SHIPPED, rating="sfw", count=tokens)
    assert composed.added[0] not in composed.prompt
    assert "smooth motion" in composed.dropped


@pytest.mark.parametrize(("kind", "media"), KINDS)
def test_style_words_stay_short(kind: str, media: str) -> None:
    for tier in SHIPPED.tiers:
        composed = compose(job("", tier=tier), replace(SDXL, kind=kind, media=media), SHIPPED, rating="adult")
        assert tokens(composed.prompt) <= 60


def test_weights_reach_the_model_that_reads_them_and_lose_their_brackets_elsewhere() -> None:
    weighted = job(compel_weights="(red:1.3), (rust:0.8)", raw_prompt=True)
    assert compose(weighted, SDXL, SHIPPED, rating="sfw").prompt == "a red bicycle, (red:1.3), (rust:0.8)"
    assert compose(weighted, WAN_IMAGE, SHIPPED, rating="sfw").prompt == "a red bicycle, red, rust"


@given(
    prompt=st.text(max_size=60),
    negative=st.text("abc,()[]: 1.", max_size=40),
    preset=st.sampled_from([SDXL, WAN_IMAGE, WAN_VIDEO, ENHANCED_VIDEO]),
    fit=st.booleans(),
)
def test_whatever_users_type_survives(prompt: str, negative: str, preset: Preset, fit: bool) -> None:
    typed, rules = job(prompt, negative_prompt=negative), FITTED if fit else SHIPPED
    composed = compose(typed, preset, rules, rating="adult", count=tokens)
    assert composed.prompt.startswith(prompt.strip().rstrip(","))
    assert set(terms(negative)) <= set(terms(composed.negative_prompt))
    assert all(term in terms(composed.negative_prompt) for term in CRITICAL)
    assert compose(typed, preset, rules, rating="adult", count=tokens) == composed
