"""What operators are told is true of the code: events, metrics, paths, settings, alerts and the dashboard."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from workers.ops import events
from workers.ops.board import Board
from workers.ops.card import CardNow
from workers.ops.metrics import exposition
from workers.ops.routes import Desk
from workers.settings import Settings
from workers.supervision.keeper import View
from workers.supervision.slot import State

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text()
LEVELS = ("debug", "info", "warning", "error")
NAME = re.compile(r"\bourvidz_\w+")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """What stands between backquotes in the first column of the tables."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def texts(node: ast.expr) -> set[str]:
    match node:
        case ast.Constant(str(text)):
            return {text}
        case ast.IfExp(body=one, orelse=other):
            return texts(one) | texts(other)
        case _:
            return set()


def told(tree: ast.AST) -> Iterator[str]:
    """Names of events: what `log`, `say` and `_settle` are called with first."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=level), args=[name, *_]) if level in LEVELS:
                yield from texts(name)
            case ast.Call(func=ast.Name("say") | ast.Attribute(attr="_settle"), args=[name, *_]):
                yield from texts(name)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every metric that there is."""
    board = Board({"wan": "wan_queue"})
    board.see([View("wan", State.RUNNING, 1, True, 1.0, None, 0, False, None)])
    text = exposition(tmp_path_factory.mktemp("none"), board, CardNow("card", 1, 2, 3, 4, 5.0)).decode()
    live = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    return live | {f"{name}_total" for name in (*events.COUNTERS, "ourvidz_events")} | {"ourvidz_phase_seconds"}


def known(name: str, names: set[str]) -> bool:
    return name in names or re.sub("_(bucket|sum|count)$", "", name) in names


def test_every_event_is_explained_and_no_other():
    files = sorted((ROOT / "workers").rglob("*.py"))
    said = {name for file in files for name in told(ast.parse(file.read_text()))}
    assert set(first_cells(section("Events"))) == said


def test_no_event_is_explained_twice():
    explained = first_cells(section("Events"))
    assert len(explained) == len(set(explained))


def test_every_metric_is_explained_and_no_other(names):
    assert set(first_cells(section("Metrics"))) == names


def test_every_path_is_listed_and_no_other():
    desk = Desk(None, None, None, None, None)  # type: ignore[arg-type]  # only asked for its paths
    served = {f"{method} {re.sub(r'[(].*?[)]', '*', path.replace('|', ''))}" for method, path, _ in desk.routes()}
    listed = {re.sub(r"\[.*", "", name).partition("?")[0] for name in first_cells(section("Paths"))}
    listed = {
        re.sub(r"\b(JOB|INDEX|NAME|ENTRY|KIND)\b", "*", name) for name in listed if name.startswith(("GET", "POST"))
    }
    assert served == listed | {"POST /queues/*/resume"}


def test_every_setting_of_operators_is_explained():
    own = {name.upper() for name in Settings.model_fields if name.startswith("ops_")} | {
        "POD_PRICE",
        "CARD_CEILING_GB",
        "QUEUE_JOB_TOKEN",
    }
    assert own == set(first_cells(section("Where, and who may"))) & {name.upper() for name in Settings.model_fields}


def expressions() -> dict[str, str]:
    rules = yaml.safe_load((ROOT / "config" / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((ROOT / "config" / "grafana.json").read_text())["panels"]
    found = {rule["alert"]: rule["expr"] for rule in rules}
    return found | {f"{p['title']} {t['refId']}": t["expr"] for p in panels for t in p["targets"]}


@pytest.mark.parametrize("name", expressions())
def test_alerts_and_the_dashboard_ask_for_metrics_that_exist(names, name):
    expression = expressions()[name]
    asked = NAME.findall(expression)
    assert asked or name == "NobodyAnswers"
    assert [metric for metric in asked if not known(metric, names)] == []
    assert all(expression.count(opening) == expression.count(closing) for opening, closing in ("()", "[]", "{}"))
    assert "rate" not in expression or all("_total" in m or "_seconds_" in m for m in asked)


def test_the_document_and_the_rule_file_hold_the_same_alerts():
    rules = yaml.safe_load((ROOT / "config" / "alerts.yml").read_text())["groups"][0]["rules"]
    written = re.findall(r"^\| [^|]+ \| `(.+?)`", section("Alerts").replace(r"\|", "¦"), re.MULTILINE)
    assert [expr.replace("¦", "|") for expr in written] == [rule["expr"] for rule in rules]


def test_the_panels_of_the_dashboard_do_not_lie_on_each_other():
    places = [panel["gridPos"] for panel in json.loads((ROOT / "config" / "grafana.json").read_text())["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_the_runbook_has_ten_incidents():
    assert len(re.findall(r"^\d+\. \*\*", section("When something is wrong"), re.MULTILINE)) == 10
