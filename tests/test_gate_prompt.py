"""Gate G1 with placeholder words: `plinket` stands for a minor, `zorbic` makes a context sexual, `wobbly` may mean a
minor. The shipped lists are only looked at for what they must let pass."""

from __future__ import annotations

import json
import random
import string
import sys
import time
import tomllib

import pytest

from workers.errors import Misconfigured
from workers.safety.lexicon import TERMS, Lexicon, lexicon_of, load_lexicon
from workers.safety.persons import key, parse
from workers.safety.prompt import Wording, judge

SHIPPED = tomllib.loads(TERMS.read_text())
PLACEHOLDERS = {
    "version": "test",
    "classes": {
        "sexual": ["zorbic", "glim glam", "没有词"],
        "minor": ["plinket", "small plink", "词词词"],
        "youth": ["wobbly", "barely ripe"],
    },
    "mistaken": ["plinkt"],
    "ages": SHIPPED["ages"],
    "look_alikes": SHIPPED["look_alikes"],
    "symbols": {"🧸": "plinket"},
}


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return lexicon_of(PLACEHOLDERS)


def rule_of(lexicon, *shown: str, unwanted: str = "", adult: bool = False, persons=frozenset()) -> str | None:
    return judge(Wording(shown, unwanted), lexicon, adult=adult, persons=persons)


DISGUISES = {
    "as it is": "plinket",
    "capitals": "PLINKET",
    "plural": "plinkets",
    "weight": "(plinket:1.4)",
    "brackets": "[[plinket]]",
    "weight inside": "pli(nket:1.2)",
    "spaced": "p l i n k e t",
    "dotted": "p.l.i.n.k.e.t",
    "dashed": "p-l-i-n-k-e-t",
    "hyphen": "plin-ket",
    "underscores": "a_plinket_standing",
    "star": "pl*nket pli*nket",
    "split": "plin kt plinke t",
    "split in two words": "plin ket",
    "split by a comma": "plin,ket",
    "split by a picture": "plin🙂ket",
    "half in brackets": "pl(in)ket",
    "a picture": "🧸",
    "accents": "plínkët",
    "fullwidth": "ｐｌｉｎｋｅｔ",
    "script": "𝓹𝓵𝓲𝓷𝓴𝓮𝓽",
    "circled": "ⓟⓛⓘⓝⓚⓔⓣ",
    "boxed": "🅿🅻🅸🅽🅺🅴🆃",
    "flags": "🇵🇱🇮🇳🇰🇪🇹",
    "small capitals": "ᴘʟɪɴᴋᴇᴛ",
    "cyrillic": "рlіnкеt",
    "greek": "ρlιnκεt",
    "zero width": "pli\u200bnk\u200det",
    "zero width instead of a space": "red\u200bplinket",
    "soft hyphen": "plin\u00adket",
    "combining marks": "p\u0336l\u0336i\u0336n\u0336k\u0336e\u0336t\u0336",
    "direction marks": "\u202eplinket\u202c",
    "figures": "pl1nk3t",
    "symbols": "p|!nket p!!nket pl!nke+",
    "long letters": "pliiiiinket",
    "double letters": "plinkket",
    "within a word": "redplinketlike",
    "beside a word in capitals": "PLINKETrunning",
    "mathematical": "𝕡𝕝𝕚𝕟𝕜𝕖𝕥",
    "capitals of other alphabets": "РLΙΝКΕТ",
    "cherokee": "ᏢLᏆNᏦᎬᎢ",
    "lisu": "ꓑꓡꓲꓠꓗꓰꓔ",
    "coptic": "ⲣⲗⲓⲛⲕⲉⲧ",
    "strokes": "ƥłɨƞƙɇŧ",
    "ligature": "pliŉket",
    "tags": "".join(chr(0xE0000 + ord(letter)) for letter in "plinket"),
    "entities": "pl&#105;nk&#x65;t",
    "entities of entities": "pl&amp;amp;#105;nket",
    "running text decoded wrongly": "词词词".encode().decode("latin-1"),
    "far apart": "p     l     i     n     k     e     t",
    "ideographic spaces": "p\u3000l\u3000i\u3000n\u3000k\u3000e\u3000t",
    "a choice": "[plinket|cow]",
    "a file's name": "<lora:small_plink:0.8>",
    "humps": "redPlinketBlue",
    "line breaks": "p\nl\ni\nn\nk\ne\nt",
    "phrase": "a small plink",
    "phrase without its space": "smallplink",
    "phrase with another": "small-plink",
    "phrase in disguise": "sm4ll p l i n k",
    "a letter left out": "plnket plinet",
    "two letters exchanged": "pilnket plinkte",
    "no vowels": "plnkt",
    "backwards": "teknilp",
    "a letter covered": "pl*nket plinke#t pl_nket",
    "two letters covered": "pl**ket p*in*et",
    "backwards in figures": "t3kn!lp",
    "no vowels in another alphabet": "рlnкt",
    "a phrase without vowels": "smllplnk",
    "running text": "红词词词红",
    "spaced running text": "词 词 词",
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_minor_in_a_sexual_context_is_found_in_every_disguise(lexicon, disguise):
    assert rule_of(lexicon, f"a zorbic {DISGUISES[disguise]} by the sea") == "minor_sexual"


@pytest.mark.parametrize(
    "context", ["zorbic", "z0rb1c", "glim glam", "g l i m g l a m", "没有词", "ZoRbIc", "(zorbic:0.1)"]
)
def test_the_context_is_found_in_its_disguises_too(lexicon, context):
    assert rule_of(lexicon, f"a plinket, {context}") == "minor_sexual"


AGES = [
    "17 years old",
    "12yo",
    "12 y/o",
    "12 y.o.",
    "a 9-year-old",
    "nine-year-old",
    "seventeen years old",
    "aged 15",
    "aged fifteen",
    "age: 14",
    "(12:1.2) years old",
    "17y",
    "1O years old",
    "l7 years old",
    "Ⅻ years old",
    "12 year-olds",
    "twelve summers old",
    "3rd grade",
    "aged between 12 and 14",
    "her sweet 16",
    "turns 13 today",
    "u18",
    "under the age of 18",
    "not 18 yet",
    "isn't 18 yet",
    "열두 살",
    "12-летняя",
    "１２ years old",
    "1 2 y o",
    "12 or 13 years old",
    "sixteen and a half years old",
    "6 months old",
    "under 18",
    "below eighteen",
    "younger than 16",
    "almost 18",
    "her 15th birthday",
    "7th grader",
    "seventeenyearsold",
    "13 y old",
    "just turned 16",
    "12 yr",
    "12 ans",
    "douze ans",
    "dix sept ans",
    "dixsept ans",
    "a dozen years old",
    "half a dozen years old",
    "12 años",
    "doce años",
    "12 Jahre alt",
    "zwölf Jahre",
    "12-jährige",
    "12 anni",
    "12 anos",
    "двенадцать лет",
    "12 лет",
    "12岁",
    "十二岁",
    "12歳",
    "12살",
    "١٢ سنة",
]


@pytest.mark.parametrize("age", AGES)
def test_a_stated_age_of_a_minor_in_a_sexual_context_is_refused(lexicon, age):
    assert rule_of(lexicon, f"zorbic figure, {age}") == "age_sexual"


@pytest.mark.parametrize(
    "age",
    [
        "18 years old",
        "25yo",
        "aged 45",
        "thirty years old",
        "1,012 years old",
        "200 years old",
        "two dozen years old",
        "二十二岁",
        "over 18",
        "12 years ago",
        "f/1.8",
        "4k, 8k",
        "35mm",
        "1girl",
        "under 5 lamps",
        "12 bottles",
        "shot in 2012",
        "10-18 o'clock",
        "page 12",
        "image 3",
        "stage 5",
        "not 200 years old",
        "5 feet tall",
    ],
)
def test_what_is_no_age_of_a_minor_is_let_pass(lexicon, age):
    assert rule_of(lexicon, f"zorbic figure, {age}") is None


FIELDS = {
    "one field": (("a zorbic plinket",), ""),
    "two fields": (("a zorbic figure", "plinket"), ""),
    "the negative prompt alone": (("a red bicycle",), "zorbic plinket"),
    "a negative weight turns it around": (("a plinket",), "(zorbic:-1.2)"),
}


@pytest.mark.parametrize("where", FIELDS)
@pytest.mark.parametrize("adult", [False, True])
def test_every_field_is_read_whatever_the_rating(lexicon, where, adult):
    shown, unwanted = FIELDS[where]
    assert rule_of(lexicon, *shown, unwanted=unwanted, adult=adult) == "minor_sexual"


def test_what_a_negative_prompt_wards_off_is_not_held_against_it(lexicon):
    assert rule_of(lexicon, "a plinket on a swing", unwanted="zorbic") is None
    assert rule_of(lexicon, "zorbic", unwanted="plinket, wobbly, under 18", adult=True) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a plinket on a swing", "minor_adult"),
        ("someone, 12 years old", "age_adult"),
        ("a wobbly walk", "youth_adult"),
        ("barely ripe", "youth_adult"),
        ("w o b b l y", "youth_adult"),
        ("a red bicycle", None),
    ],
)
def test_adult_work_refuses_what_may_mean_a_minor(lexicon, text, rule):
    assert rule_of(lexicon, text, adult=True) == rule
    assert rule_of(lexicon, text) is None


@pytest.mark.parametrize(
    "name",
    [
        "Quilla Vondermoot",
        "quilla  vondermoot",
        "Quílla-Vondermoot",
        "q u i l l a vondermoot",
        "(Quilla:1.2) (Vondermoot:0.8)",
        "QuillaVondermoot",
        "Quilla V0nd3rmoot",
    ],
)
def test_a_name_from_the_list_is_refused_in_adult_work_only(lexicon, name):
    persons = parse(f"# nobody real\n{key('Quilla Vondermoot')}\n")
    text = f"a portrait of {name} at dusk"
    assert rule_of(lexicon, text, adult=True, persons=persons) == "person_adult"
    assert rule_of(lexicon, text, persons=persons) is None
    assert rule_of(lexicon, "a portrait of Quilla at dusk", adult=True, persons=persons) is None


@pytest.mark.parametrize("name", ["Квилла Вондермут", "квилла вондермут", "Κουίλα Μουτ"])
def test_a_name_is_known_in_its_own_alphabet(name):
    persons = frozenset({key("Квилла Вондермут"), key("Κουίλα Μουτ")})
    assert rule_of(load_lexicon(), f"a portrait of {name} at dusk", adult=True, persons=persons) == "person_adult"


def test_a_list_of_persons_holds_hashes_only():
    with pytest.raises(ValueError, match="line 1"):
        parse("Quilla Vondermoot\n")


EVERYDAY = [
    "a 7-year-old oak",
    "a young lion",
    "a school bus in the rain",
    "children on a swing",
    "a boy with a kite",
    "a baby elephant",
    "a girl reading under a lamp, 10 years old",
    "a C minor chord on a piano",
    "her son's kindergarten",
    "a pen is on the child's desk",
    "an us flag, children waving",
    "chicken breast for the kids' menu",
    "a mother breastfeeding her baby",
    "a kid and his dad in Essex",
    "Sussex schoolchildren",
    "teenagers playing basketball",
    "the analysis of children's drawings",
    "a whisky aged 12 years",
    "a red bicycle",
    "a lighthouse at dusk",
    "",
    "🙂",
    "多个孩子在公园里玩",
    "a kindergarten, page 12 of a calendar, f/1.8",
    "a consensual handshake, teenagers cheering",
    "beasts of the forest, a genial king, for a children's book",
    "snow_leopard, red_hat, 80% off, #sunset, 5*5 tiles, children",
    "мальчик с собакой у маяка",
    "παιδιά στην ακτή",
]


@pytest.mark.parametrize("text", EVERYDAY)
def test_everyday_prompts_pass_the_shipped_lists(text):
    assert rule_of(load_lexicon(), text, unwanted="bad anatomy, blurry, extra limbs, deformed") is None


def test_no_everyday_word_is_taken_for_a_slip():
    """Of the words that the image model has a token for."""
    tokens = json.loads((TERMS.parents[1] / "sdxl/tokenizer/vocab.json").read_text())
    words = {token.removesuffix("</w>") for token in tokens if token.endswith("</w>")}
    lexicon = load_lexicon()
    assert len(words) > 30_000
    assert words & (lexicon.minor.slips | lexicon.sexual.slips) == set()
    assert words & lexicon.youth.slips == {"chools"}, "the end of a word"


def test_what_is_mistaken_for_a_slip_is_let_pass_and_stands_in_no_list(lexicon):
    assert rule_of(lexicon, "a zorbic plinkt") is None
    shipped = load_lexicon()
    for words in (shipped.minor, shipped.sexual, shipped.youth):
        assert words.single.isdisjoint(SHIPPED["mistaken"])


def test_the_shipped_lists_name_their_version_and_disjoint_classes():
    lexicon = load_lexicon()
    assert lexicon.version
    assert lexicon.sexual.single.isdisjoint(lexicon.minor.single)
    assert lexicon.youth.single.isdisjoint(lexicon.minor.single)
    assert all(len(word) > 1 for word in lexicon.sexual.single | lexicon.minor.single)


@pytest.mark.parametrize("text", ["", "version = 1", "version = 1\n[classes]\nsexual = 5", "not toml"])
def test_a_damaged_list_is_no_list(tmp_path, text):
    file = tmp_path / "terms.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured) as error:
        load_lexicon(file)
    assert error.value.exit_code == 73


HOSTILE = [
    "Aж1!_.aaab\u200b",
    "pen is an us ",
    "a b ",
    "1 2 ",
    "é ж x ",
    ",",
    "(",
    "a1b@c3 ",
    "\u0336",
    "aaaa",
    "词",
    "under 18 ",
    "-",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_longer_than_its_length_allows(lexicon, piece):
    """Ten times the text in no more than about ten times the time: nothing here is quadratic."""

    def seconds(length: int) -> float:
        text = (piece * length)[:length]
        began = time.process_time()
        rule_of(lexicon, text, adult=True)
        return time.process_time() - began

    short = min(seconds(4_000) for _ in range(3))
    assert seconds(40_000) < 60 * short + 0.5


def steps(text: str) -> int:
    """Functions called to judge a text that was judged before, those of libraries included."""
    lexicon, called = load_lexicon(), 0

    def count(_frame, event, _argument) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    said = Wording((text,), text[:2_000])
    judge(said, lexicon, adult=True)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        judge(said, lexicon, adult=True)
    finally:
        sys.setprofile(before)
    return called


MIXED = "abcdefghijklmnopqrstuvwxyz 0123456789.,_-@$!|\u200b\u0336éжαｐ词🙂&#;:()ABC"


@pytest.mark.parametrize("signs", [string.printable, MIXED])
def test_random_signs_are_read_together_not_one_by_one(signs):
    """All disguises at once: fewer steps than signs."""
    assert steps("".join(random.Random(1).choices(signs, k=4_000))) < 4_000


@pytest.mark.parametrize("piece", [*HOSTILE, "chi!d 0ld ", "Ã©&amp;aB "])
def test_no_text_takes_more_steps_than_a_few_a_character(piece):
    assert steps((piece * 4_000)[:4_000]) < 3 * 4_000


def test_a_long_everyday_prompt_costs_little(lexicon):
    words = ["a", "red", "bicycle", "leaning", "against", "the", "old", "brick", "wall", "beside", "lighthouse"]
    text = " ".join(random.Random(1).choices(words, k=700))[:4_000]
    began = time.process_time()
    for _ in range(5):
        rule_of(lexicon, text, unwanted=text[:2_000], adult=True)
    assert (time.process_time() - began) / 5 < 0.1
