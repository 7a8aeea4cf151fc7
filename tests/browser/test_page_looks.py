"""How the page looks on every screen, in both schemes; and what it is allowed to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Error, expect
from stage import staged

CONTRAST = Path(__file__).with_name("contrast.js").read_text().partition("\n")[2]
OUTSIDE = """() => [...document.querySelectorAll("main *")]
    .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".wide, .unseen, thead"))
    .map((node) => node.outerHTML)"""
STRANGE = {
    "TrustedHTML": "document.body.innerHTML = '<b>theirs</b>'",
    "TrustedScript": "document.createElement('script').textContent = 'document.title = 1'",
}
ELSEWHERE = "document.body.append(Object.assign(new Image(), { src: 'http://elsewhere.example/x.png' }))"
WIDTHS = (320, 360, 400, 820, 1440)


@pytest.fixture
def full(stage, look):
    """A page with something in every part of it, at whatever options."""

    def opened(**options):
        stage.worker("wan", phase="denoise", job="a-job", type="video7b_high_enhanced", step=3, total=25, left=9.0)
        stage.worker("sdxl", paused=True, waiting=3)
        stage.end("video7b_high_enhanced")
        stage.end(status="failed", reason="The reference picture could not be read.", error_type="reference")
        stage.bury("It failed three times, each time for a reason that takes a long sentence to be told in full.")
        page = look(**options)
        expect(page.locator(".dead li")).to_have_count(1)
        expect(page.locator(".job .reason").first).to_be_visible()
        expect(page.locator(".plot rect").first).to_be_visible()
        return page

    return opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(full, scheme):
    found = full(color_scheme=scheme).evaluate(CONTRAST)
    assert len(found) > 150
    assert [pair for pair in found if pair[0] < 4.5] == []


def test_no_screen_is_too_narrow(full):
    page = full(viewport={"width": WIDTHS[0], "height": 700})
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []


def test_a_chosen_theme_stays(stage, look):
    page = look(color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    page.keyboard.press("t")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_whoever_wants_no_motion_gets_none(stage, look):
    page = look(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].filter((e) => { const s = getComputedStyle(e);" \
        " return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none'; }).length"  # fmt: skip
    assert page.evaluate(moving) == 0


def test_neither_markup_nor_scripts_nor_other_hosts_get_in(stage, tabs, look):
    page = look()
    for kind, attempt in STRANGE.items():
        with pytest.raises(Error, match=kind):
            page.evaluate(attempt)
    with page.expect_console_message(lambda said: "elsewhere.example" in said.text):
        page.evaluate(ELSEWHERE)
    assert len(tabs.complaints) == len(STRANGE) + 1
    tabs.complaints.clear()
    tabs.hosts.discard("elsewhere.example")


def test_files_of_users_are_not_shown_unless_a_setting_says_so(stack, tmp_path, tabs):
    with staged(tmp_path, stack, ops_pictures="false") as stage:
        picture = stage.file("a-job", "0.png", b"no picture", "image/png")
        page = tabs.open(stage.address)
        expect(page.locator("#link")).to_have_text("live")
        stage.end(job="a-job", files=(picture, picture))
        expect(page.locator(".job .media")).to_have_text("2 pictures")
        expect(page.locator("#jobs")).to_contain_text("OPS_PICTURES shows them")
        assert page.request.get(f"{stage.address}/files/a-job/0").status == 404
