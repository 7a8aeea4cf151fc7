"""The generator of the toy world and the detector agree: each is the other's proof."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toys.detect import grants, look, motion, path
from toys.measure_all import goes
from toys.words import describe, partly, sentence
from toys.world import COLOURS, MOTIONS, PLACES, SHAPES, SIZES, Item, Wish, any_wish, draw, fill

SQUARE, UPRIGHT = (64, 64), (48, 80)
seeds = st.integers(0, 2**32)
few = settings(max_examples=60, deadline=None, derandomize=True)


def drawn(wish: Wish, seed: int, size=SQUARE, frames: int = 1):
    width, height = size
    full, scene = fill(wish, random.Random(seed), width=width, height=height)
    return full, draw(scene, width=width, height=height, frames=frames)


@few
@given(seeds, st.sampled_from([SQUARE, UPRIGHT, (80, 48)]))
def test_what_is_drawn_is_seen(seed, size):
    full, (picture,) = drawn(any_wish(random.Random(seed)), seed, size)
    assert grants(full, look(picture))


@few
@given(seeds)
def test_a_picture_grants_what_is_said_of_it_in_part(seed):
    full, (picture,) = drawn(any_wish(random.Random(seed)), seed)
    assert grants(partly(full, random.Random(seed + 1)), look(picture))


@few
@given(seeds, st.sampled_from(sorted(COLOURS)), st.sampled_from(SHAPES))
def test_another_colour_or_shape_is_not_taken_for_it(seed, colour, shape):
    full, (picture,) = drawn(Wish(count=1), seed)
    item = full.items[0]
    other = Item(shape=shape, colour=colour)
    assert grants(Wish((other,)), look(picture)) == ((item.shape, item.colour) == (shape, colour))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_things_are_counted(shape, count):
    _, (picture,) = drawn(Wish((Item(shape=shape),), count=count), seed=count)
    assert [blob.shape for blob in look(picture).blobs] == [shape] * count


@pytest.mark.parametrize("place", PLACES, ids="-".join)
@pytest.mark.parametrize("size", SIZES)
def test_places_and_sizes_are_told(place, size):
    _, (picture,) = drawn(Wish((Item(place=place, size=size),), count=1), seed=5)
    (blob,) = look(picture).blobs
    assert (blob.place, blob.size) == (place, size)


@pytest.mark.parametrize("way", [*MOTIONS, "still"])
def test_motion_is_told_and_even(way):
    _, clip = drawn(Wish((Item(),), count=1, motion=way), seed=3, size=UPRIGHT, frames=21)
    assert motion(clip) == way
    steps = np.diff(path(clip), axis=0)
    assert (np.sign(steps.sum(0).round(2)) == MOTIONS.get(way, (0, 0))).all()


def test_an_empty_picture_shows_nothing():
    seen = look(np.full((64, 64, 3), COLOURS["blue"], np.uint8))
    assert (seen.background, seen.blobs) == ("blue", ())


@few
@given(seeds)
def test_a_sentence_says_every_fact_it_was_given(seed):
    full, _ = drawn(Wish(count=1), seed)
    said = sentence(full, random.Random(seed))
    item = full.items[0]
    assert {item.colour, item.shape, full.background} <= set(said.replace(",", "").split())


@few
@given(seeds)
def test_a_description_begins_with_the_prompt_and_names_no_colour_that_the_prompt_has_not(seed):
    full, _ = drawn(Wish(count=1), seed)
    said = describe(full, "a shape", random.Random(seed))
    assert said.startswith("A shape. ")
    assert not set(COLOURS) & set(said.lower().replace(".", "").replace(",", "").split())


@pytest.mark.parametrize("way", MOTIONS)
def test_only_a_thing_that_goes_one_way_all_the_time_goes_there(way):
    _, clip = drawn(Wish((Item(size="big"),), count=1, motion=way), seed=3, size=UPRIGHT, frames=81)
    assert goes(way, clip)
    assert not goes(way, clip[::-1])
    assert not goes(way, np.concatenate([clip[40:], clip[:41]]))
