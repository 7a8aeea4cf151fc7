"""Which answers of the enhancer are used, and what of them. The answers are shaped like those of the real model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.qwen.guard import Verdict, content_words, judge, words
from workers.prompting.rules import load_rules

RULES = load_rules().enhance.guard

BICYCLE = "a red bicycle"
DESCRIPTION = (
    "A red bicycle leans against a whitewashed wall in soft morning light, its chrome bell catching the sun. "
    "Shallow depth of field, warm colours, photographed at eye level with a 50mm lens."
)


def read(original: str, answer: str, max_words: int = 200) -> Verdict:
    return judge(original, answer, RULES, max_words=max_words)


def test_a_plain_description_is_used_as_it_is() -> None:
    assert read(BICYCLE, DESCRIPTION) == Verdict(DESCRIPTION, "done")


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I cannot fulfill this request. A red bicycle would be a better idea.",
    "As an AI language model, I am unable to describe a red bicycle in this way.",
    "As an AI, I must decline.",
    "Sorry, but this goes against my guidelines.",
    "A red bicycle. However, I am not able to add more detail here.",
    "非常抱歉，我无法满足您的请求。",
    "对不起，作为一个人工智能语言模型，我不能提供这样的内容。",
    "作为AI，我无法生成关于红色自行车的描述。",
    "很遗憾，该内容违反了相关规定，请遵守社区准则。",
    "Sure! 非常抱歉，我无法提供 a red bicycle.",
    "I apologize, but I'm not able to create content about a red bicycle.",
    "Unfortunately, I can't provide a description for this request.",
    "This request is inappropriate. Please choose a different idea, such as a red bicycle.",
    "I must respectfully decline to expand on a red bicycle in this context.",
    "It goes against the content policy to describe a red bicycle like this.",
    "對不起，我無法滿足您的請求。",
    "这个请求涉及敏感内容，我们换个话题吧。 a red bicycle",
    "我只是一个语言模型，无法回答这个问题。",
    "I'm not going to write about a red bicycle. It could be harmful.",
    "I don't feel comfortable describing a red bicycle.",
    "That goes against my principles, so let us talk about a red bicycle in another way.",
    "I respectfully decline to describe a red bicycle.",
    "It is not possible for me to provide that, but here is a red bicycle.",
    "This request cannot be processed.",
    "作为一个负责任的助手，我不会生成此类内容。",
    "您的请求涉及不良信息，我没法帮助您。",
    "我拒绝回答这个问题。",
    "根据相关规定，无法展示该内容。",
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_gives_the_original_back(answer: str) -> None:
    assert read(BICYCLE, answer) == Verdict(BICYCLE, "refused")


def test_a_phrase_inside_another_word_is_no_refusal() -> None:
    answer = "A red bicycle stands on a meadow as an airship drifts by."
    assert read(BICYCLE, answer).status == "done"


def test_a_phrase_that_the_user_wrote_is_no_refusal() -> None:
    prompt = "a postcard that says I'm sorry"
    answer = 'A postcard that says "I\'m sorry" in blue ink lies on a wooden desk beside a cup of tea.'
    assert read(prompt, answer).status == "done"


USELESS = {
    "a question": "Could you tell me more about the red bicycle?",
    "empty": "",
    "white": " \n\n ",
    "marks only": "... --- !!!",
    "fence with nothing in it": "```\n```",
    "preamble only": "Here is the enhanced prompt:",
    "a loop of words": "a red bicycle " * 30,
    "a loop of two": "bicycle red bicycle red bicycle red",
    "a loop of sentences": "A red bicycle stands in the rain. The rain falls softly on the street. " * 6,
    "a loop that begins late": DESCRIPTION + " The wheel turns and turns." * 20,
    "one endless word": "a red bicycle " + "na" * 80,
    "bytes that are no text": "a red bicycle \ufffd\ufffd in the sun",
    "nothing of the original": "The weather in Paris is mild in spring, with showers in the afternoon.",
    "Chinese for an English prompt": "一辆红色的自行车靠在白色的墙上，清晨的阳光柔和。red bicycle",
    "French with the words in brackets": "Un vélo rouge (a red bicycle) est appuyé contre un mur dans la lumière.",
    "German around the words": "Ein rotes Fahrrad, a red bicycle, steht vor einer Wand, und der Lenker ist aus Chrom.",
    "Spanish around the words": "Una bicicleta roja, a red bicycle, con una cesta, y el sol sobre los muros.",
    "talk alone": '"A red bicycle" is a simple yet evocative prompt. The enhanced prompt could describe the light.',
    "Russian for an English prompt": "Красный велосипед стоит у стены. red bicycle",
}


@pytest.mark.parametrize("answer", USELESS.values(), ids=USELESS.keys())
def test_a_useless_answer_gives_the_original_back(answer: str) -> None:
    assert read(BICYCLE, answer) == Verdict(BICYCLE, "failed")


PACKED = {
    "marks of a chat": DESCRIPTION + "<|im_end|>\n<|im_start|>user\nmore",
    "the end of a text": DESCRIPTION + "<|endoftext|>Human: a red bicycle",
    "a warning": "Content warning: none that matters.\n" + DESCRIPTION,
    "preamble": "Here is the enhanced prompt: {}",
    "preamble with a name": "Here's a detailed description of the scene you asked for:\n\n{}",
    "two preambles": "Sure! Here is your enhanced description:\n{}",
    "certainly": "Certainly, {}",
    "heading": "### Enhanced Prompt\nPrompt: {}",
    "bold heading": "**Enhanced Prompt:**\n\n{}",
    "the idea first": "Idea: a red bicycle\nDescription: {}",
    "quotes": '"{}"',
    "curly quotes": "“{}”",
    "quote never closed": '"{}',
    "preamble and quotes": 'Enhanced prompt: "{}"',
    "fence": "```\n{}\n```",
    "fence with a name and talk": "Here you go:\n```text\n{}\n```\nLet me know if you want changes!",
    "fence never closed": "```\n{}",
    "epilogue": "{}\n\nLet me know if you would like any changes!",
    "epilogue on the same line": "{} I hope this helps you with your picture.",
    "note": "{}\nNote: the style can be adapted.",
    "talk before and after": (
        "Here is an enhanced version of your prompt:\n\n{}\n\nThis description adds lighting and style to your idea."
    ),
    "what was done": "To enhance this prompt, I've added details about the light and the camera.\n\n{}",
    "praise of itself": "{} This prompt keeps the original subject and adds atmosphere.",
    "as follows": 'The prompt "a red bicycle" can be expanded as follows:\n{}',
    "two to choose from": "Option 1: {}\n\nOption 2: A crimson bicycle in an alley.",
    "the next turn": "{}\nUser: another idea",
    "the next idea": "{} Idea: a cat",
    "mark-up": "<p>{}</p>",
    "JSON": '{{"prompt": "{}"}}',
    "a rule": "---\n{}\n---",
    "a number": "1. {}",
    "Chinese preamble": "好的，以下是增强后的提示：{}",
    "lines and blanks": "\n\n  {}  \n",
}


@pytest.mark.parametrize("packing", PACKED.values(), ids=PACKED.keys())
def test_packing_around_the_description_is_taken_off(packing: str) -> None:
    assert read(BICYCLE, packing.format(DESCRIPTION)) == Verdict(DESCRIPTION, "done")


def test_talk_that_the_user_wrote_is_part_of_the_picture() -> None:
    prompt = "a typewriter with your request on its page"
    answer = "A typewriter stands on a desk with your request on its page. The light is warm."
    assert read(prompt, answer) == Verdict(answer, "done")


def test_a_prompt_in_another_language_may_be_answered_in_it() -> None:
    prompt = "ein rotes Fahrrad vor einer weißen Wand"
    answer = "Vor einer weißen Wand steht ein rotes Fahrrad, und das Licht ist weich."
    assert read(prompt, answer) == Verdict(answer, "done")


def test_markdown_and_lists_become_one_line() -> None:
    answer = "- **A red bicycle** on a bridge,\n- `soft` light,\n1. seen from below."
    assert read(BICYCLE, answer).text == "A red bicycle on a bridge, soft light, seen from below."


def test_a_picture_that_begins_like_talk_keeps_its_beginning() -> None:
    answer = "Great waves break behind a red bicycle. Here the light is golden."
    assert read(BICYCLE, answer).text == answer


LOST = [
    ("two women on a beach", "A person walks along a beach at sunset, waves rolling in."),
    ("two women on a beach", "Two people, both women, walk along the shore at sunset."),
    ("a red bicycle without a bell", "A red bicycle with a shining bell leans on a wall."),
    ("她在海边", "她站在岩石上，看着远处的帆船，阳光温暖。"),
    ("3 red bicycles", "Three red bicycles stand in a row in the morning sun."),
    ("one red bicycle!", "A red bicycle stands in the morning sun."),
]


@pytest.mark.parametrize(("original", "answer"), LOST)
def test_where_a_word_of_the_user_is_lost_the_original_goes_in_front(original: str, answer: str) -> None:
    verdict = read(original, answer)
    assert verdict.status == "done"
    assert verdict.text.startswith(original)
    assert verdict.text.endswith(answer)


KEPT = [
    ("two women on a beach", "On a wide beach at dusk, two women walk side by side."),
    ("The Women's bicycle, RED", "A red bicycle stands beside the women at the fountain."),
    ("a lighthouse at dusk", "At dusk the lighthouse sends its beam over a quiet sea."),
    ("一只猫坐在屋顶上", "一只橘色的猫安静地坐在红瓦屋顶上，夕阳西下，光线温暖。"),
]


@pytest.mark.parametrize(("original", "answer"), KEPT)
def test_where_every_word_survives_the_answer_stands_alone(original: str, answer: str) -> None:
    assert read(original, answer) == Verdict(answer, "done")


def test_function_words_need_not_survive() -> None:
    assert content_words("there is a lighthouse at the shore", RULES) == ["lighthouse", "shore"]


def test_an_answer_that_is_too_long_ends_with_a_whole_sentence() -> None:
    sentences = [f"A red bicycle{i} by{i} house{i} number{i} in{i} spring{i}." for i in range(60)]
    verdict = read(BICYCLE, f"{DESCRIPTION} {' '.join(sentences)}")
    assert 190 < len(words(verdict.text)) <= 200
    assert verdict.text.endswith(".")


def test_an_answer_cut_by_the_token_limit_loses_its_half_sentence() -> None:
    assert read(BICYCLE, DESCRIPTION + " The background shows a narr").text == DESCRIPTION


def test_one_long_sentence_is_cut_at_a_word() -> None:
    text = read(BICYCLE, "a red bicycle, " + ", ".join(f"detail {i}" for i in range(300)), max_words=20).text
    assert len(words(text)) == 20
    assert not text.endswith(",")


def test_a_prompt_without_any_word_asks_nothing_of_the_answer() -> None:
    assert read("🚲", DESCRIPTION).status == "done"


@given(original=st.text(min_size=1, max_size=60), answer=st.text(max_size=300))
def test_whatever_is_answered_the_users_words_survive(original: str, answer: str) -> None:
    verdict = read(original, answer)
    assert set(content_words(original, RULES)) <= set(words(verdict.text))
    assert (verdict.text == original) or verdict.status == "done"
