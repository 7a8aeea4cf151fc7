"""The data file of the prompts: whatever is wrong with it is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import Misconfigured
from workers.prompting.rules import RULES, load_rules


def broken(tmp_path: Path, old: str, new: str) -> list[str]:
    text = RULES.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "prompts.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(Misconfigured) as caught:
        load_rules(path)
    assert caught.value.exit_code == 64
    return caught.value.problems


def test_every_problem_of_the_data_file_is_said_at_once(tmp_path: Path) -> None:
    problems = broken(tmp_path, "tokens = 75\nchunks = true", 'tokens = "many"\nchunk = true')
    assert len(problems) == 2
    assert all(problem.startswith("prompts.toml models.sdxl") for problem in problems)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("artifacts = 5, adult", "artifacts = 6, adult", "coverage.wan_video.artifacts"),
        ("[styles.explicit]", "[styles.bold]", "styles.explicit"),
        ('user = "Idea: {prompt}"', 'user = "Idea"', "enhance.templates.image"),
        ("'''(?:sure", "'''(?:sure(", "enhance.guard"),
    ],
)
def test_names_and_numbers_that_do_not_meet_are_problems(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert any(said in problem for problem in broken(tmp_path, old, new))


def test_a_data_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_rules(tmp_path / "prompts.toml")
