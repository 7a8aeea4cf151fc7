"""Captions of the toy world: some seventy words, phrased in several ways, and the phrases that say nothing in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from toys.world import CENTRE, Item, Wish

NUMBERS: Mapping[int, tuple[str, ...]] = {1: ("a", "a", "a", "one"), 2: ("two",), 3: ("three",)}
PLURALS: Mapping[str, str] = {"cross": "crosses"}
BY_SIZE: Mapping[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "big": ("big", "big", "large", "huge"),
}
BY_LINE: Mapping[tuple[str, int], tuple[str, ...]] = {
    ("row", 2): ("left and right", "side by side", "in a row"),
    ("column", 2): ("top and bottom", "one above the other", "in a column"),
    ("row", 3): ("in a row", "side by side"),
    ("column", 3): ("in a column", "one above the other"),
}
BY_MOTION: Mapping[str, tuple[str, ...]] = {
    "right": ("moving right", "moving to the right", "sliding right"),
    "left": ("moving left", "moving to the left", "sliding left"),
    "up": ("moving up", "rising", "sliding up"),
    "down": ("moving down", "falling", "sliding down"),
    "still": ("standing still", "not moving"),
}
OPENINGS = ("", "", "", "", "a picture of ", "a drawing of ", "there is ")
KEPT: Mapping[str, float] = {"shape": 0.95, "colour": 0.94, "size": 0.6, "place": 0.7}
KEPT_OF_ALL: Mapping[str, float] = {"count": 0.95, "background": 0.82, "line": 0.7, "motion": 0.95}
"""How often a caption says each fact."""
TAGS = 0.14
LONE = 0.3
"""Share of captions that are bare terms between commas, as negative prompts are, and of those with a single one."""
MANNERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{who} {have} {} edges and an even, flat surface without texture.", ("crisp", "clean", "sharp")),
    ("{} light from all around, without shadows, keeps {own} outline easy to read.", ("Soft", "Even", "Calm")),
    ("The background is plain and {}, so that nothing takes the eye away.", ("quiet", "empty", "smooth")),
    ("A {} composition, seen from the front, with clear and strong contrast.", ("simple", "balanced", "careful")),
    ("{} style, fine detail, best quality.", ("Flat graphic", "Minimal poster", "Clean paper")),
)
"""Sentences of an enhancer, each with a choice of words."""


def partly(full: Wish, chance: random.Random) -> Wish:
    """The wish with facts left out, as captions leave them out."""
    items = tuple(replace(item, **_dropped(item, KEPT, chance)) for item in full.items)
    return replace(full, items=items, **_dropped(full, KEPT_OF_ALL, chance))


def caption(wish: Wish, chance: random.Random) -> str:
    """All that the wish says, in one of many ways."""
    if chance.random() < TAGS:
        return tags(wish, chance)
    return sentence(wish, chance)


def sentence(wish: Wish, chance: random.Random) -> str:
    if len(wish.items) == 2:
        said = _pair(wish, chance)
    else:
        parts = [_noun(wish.items[0], wish.count, chance), _where(wish, chance), _motion(wish, chance)]
        said = " ".join(part for part in parts if part)
    ground = wish.background
    if ground is None:
        return (chance.choice(OPENINGS) + said).strip()
    if chance.random() < 0.15:
        return f"a {ground} background with {said}"
    ending = chance.choice(
        (f" on a {ground} background", f" on a {ground} background", f" on {ground}", f", {ground} background")
    )
    return chance.choice(OPENINGS) + said + ending


def tags(wish: Wish, chance: random.Random) -> str:
    """Facts as bare terms, sometimes a single one."""
    terms = [term for item in wish.items for term in _terms(item, wish, chance)]
    if wish.background and chance.random() < 0.7:
        terms.append(f"{wish.background} background")
    if wish.motion:
        terms.append(_motion(wish, chance))
    chance.shuffle(terms)
    return ", ".join(terms[:1] if chance.random() < LONE else terms)


def describe(wish: Wish, prompt: str, chance: random.Random) -> str:
    """A prompt as an enhancer would write it: its own words first, then much that does not contradict them."""
    several = (wish.count or 1) > 1 or len(wish.items) > 1
    names = {"who": f"The {_name(wish)}", "own": "their" if several else "its", "have": "have" if several else "has"}
    said = [line.format(chance.choice(words), **names) for line, words in MANNERS]
    chance.shuffle(said)
    motion = [_moving(wish, names["who"], several, chance)] if wish.motion else []
    opening = prompt.strip().rstrip(".,")
    return " ".join([f"{opening[:1].upper()}{opening[1:]}.", *motion, *said[: chance.choice((4, 5))]])


def padded(core: str, phrases: tuple[str, ...], chance: random.Random, *, before: bool) -> str:
    """The core among phrases that say nothing in this world."""
    said = ", ".join(phrases)
    return ", ".join(part for part in ((said, core) if before else (core, said)) if part)


def _dropped(facts: object, kept: Mapping[str, float], chance: random.Random) -> dict[str, None]:
    return {name: None for name, share in kept.items() if chance.random() > share}


def _noun(item: Item, count: int | None, chance: random.Random) -> str:
    plural = count is not None and count > 1
    shape = item.shape or "shape"
    words = [
        chance.choice(NUMBERS[count]) if count else "",
        chance.choice(BY_SIZE[item.size]) if item.size else "",
        item.colour or "",
        _shapes(shape) if plural else shape,
    ]
    said = " ".join(word for word in words if word)
    return f"an{said[1:]}" if said.startswith("a o") else said


def _where(wish: Wish, chance: random.Random) -> str:
    if wish.line and wish.count and wish.count > 1:
        return chance.choice(BY_LINE[wish.line, wish.count])
    place = wish.items[0].place
    return _place(place, chance) if place else ""


def _place(place: tuple[str, str], chance: random.Random) -> str:
    column, row = place
    if place == CENTRE:
        return chance.choice(("in the middle", "in the center", "in the middle"))
    if row == "middle":
        return chance.choice((f"on the {column}", f"on the {column}", f"on the {column} side"))
    if column == "centre":
        return chance.choice((f"at the {row}", f"at the {row}", f"near the {row}"))
    return chance.choice((f"in the {row} {column} corner", f"at the {row} {column}"))


def _pair(wish: Wish, chance: random.Random) -> str:
    """Two things, first as given or the other way round."""
    first, second = wish.items
    nouns = [_noun(item, 1, chance) for item in (first, second)]
    if first.place == ("centre", "top") and second.place == ("centre", "bottom") and chance.random() < 0.5:
        return f"{nouns[0]} above {nouns[1]}"
    placed = [
        f"{noun} {_place(item.place, chance)}" if item.place else noun
        for noun, item in zip(nouns, wish.items, strict=True)
    ]
    if chance.random() < 0.5:
        placed.reverse()
    return " and ".join(placed)


def _motion(wish: Wish, chance: random.Random) -> str:
    return chance.choice(BY_MOTION[wish.motion]) if wish.motion else ""


def _name(wish: Wish) -> str:
    shape = wish.items[0].shape if len(wish.items) == 1 else None
    return _shapes(shape or "shape") if (wish.count or 1) > 1 else shape or "shape"


def _shapes(shape: str) -> str:
    return PLURALS.get(shape, f"{shape}s")


def _moving(wish: Wish, name: str, several: bool, chance: random.Random) -> str:
    said = chance.choice(BY_MOTION[wish.motion or "still"])
    if wish.motion == "still":
        return f"{name} {'are' if several else 'is'} {said}, calm and steady from the first frame to the last."
    return f"{name} {'keep' if several else 'keeps'} {said}, smooth and steady, from the first frame to the last."


def _terms(item: Item, wish: Wish, chance: random.Random) -> list[str]:
    """ "red circle", or "red" and "circle" apart."""
    terms = [item.colour, item.shape]
    if item.colour and item.shape and chance.random() < 0.5:
        terms = [f"{item.colour} {item.shape}"]
    more: list[tuple[object, Callable[[], str]]] = [
        (item.size, lambda: chance.choice(BY_SIZE[item.size or "small"])),
        (item.place, lambda: _place(item.place or CENTRE, chance).removeprefix("on the ").removeprefix("at the ")),
        (wish.count and wish.count > 1, lambda: NUMBERS[wish.count or 1][0]),
    ]
    return [term for term in terms if term] + [say() for fact, say in more if fact]
