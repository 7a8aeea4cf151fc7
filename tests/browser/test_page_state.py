"""The page tells what is true of workers, queues and jobs, while it changes and without being loaded again."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from workers.supervision.slot import State

MARKUP = '<img src=x onerror="document.title=1"><script>document.title=2</script>"&amp;'
JOB = "22222222-2222-4222-8222-222222222222"


def lane(page, kind="wan"):
    return page.locator(f".lane[data-kind={kind}]")


def making(stage, step, **more):
    stage.worker("wan", phase="denoise", job=JOB, type="video_fast", step=step, total=25, left=9.0, **more)


def test_the_percentage_of_a_job_moves_by_itself(stage, look):
    making(stage, 5, vram=12_400_000_000)
    page = look()
    bar = lane(page).get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "20")
    making(stage, 20)
    expect(bar).to_have_attribute("aria-valuenow", "80")
    expect(bar).to_have_attribute("aria-valuetext", "Denoising · step 20 of 25 · 80 %, 9 s left")
    expect(page).to_have_title("wan 80 % · OurVidz workers")


def test_a_worker_shows_its_job_its_model_and_what_it_holds(stage, look):
    making(stage, 5, vram=12_400_000_000)
    shown = lane(look())
    for text in ("video_fast", JOB[:8], "Denoising · step 5 of 25 · 20 %", "9 s left", "tiny_wan", "12.4 GB"):
        expect(shown).to_contain_text(text)


@pytest.mark.parametrize(
    ("told", "word", "sentence"),
    [
        ({"state": State.STARTING, "phase": "load"}, "starting", "Loading weights."),
        ({"state": State.BACKING_OFF, "retry_in": 4.0}, "starts again in 4 s", "Its process ended"),
        ({"state": State.BREAKER_OPEN, "retry_in": 540.0}, "tries again in 9 min", "a setting is wrong"),
        ({"state": State.DRAINING}, "draining", "takes nothing new"),
        ({"state": State.STOPPED}, "stopped", "asked to stop"),
        ({"phase": "unready"}, "unable to work", "its log says why"),
        ({"monotonic": time.monotonic() - 60}, "silent", "No sign of life for"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_worker_that_does_not_work_says_why_and_what_comes_next(stage, look, told, word, sentence):
    stage.worker("wan", **told)
    page = look()
    expect(lane(page).locator(".state")).to_have_text(word)
    expect(lane(page)).to_contain_text(sentence)
    expect(page.locator("#headline")).to_have_text(re.compile(r"^The wan worker is [a-z ]+\.$"))


def test_queues_show_how_many_wait_and_for_how_long(stage, look):
    stage.worker("sdxl", waiting=3, oldest=time.time() - 90)
    expect(lane(look(), "sdxl").locator(".queue")).to_contain_text(
        re.compile(r"3 jobs wait, the first for (9\d|1\d\d) s")
    )


def test_a_queue_is_paused_after_a_question_and_shown_as_paused(stage, look):
    page = look()
    lane(page).get_by_role("button", name="Pause the wan queue").click()
    page.get_by_role("button", name="Pause the queue").click()
    expect(page.locator("#said")).to_contain_text("The wan queue is paused.")
    assert stage.queues["wan"].claim("a-token").paused
    stage.worker("wan", paused=True)
    expect(lane(page).locator(".queue")).to_contain_text("paused; nobody waits")
    expect(lane(page)).to_contain_text("Its queue is paused: it claims nothing.")
    expect(page.locator("#aside")).to_have_text("The wan queue is paused.")


def test_a_job_that_ends_appears_at_once_with_its_phases_and_its_picture(own_stage, tabs):
    stage, page = own_stage, tabs.open(own_stage.address)
    expect(page.locator("#link")).to_have_text("live")
    picture = stage.file(JOB, "0.png", PIXEL, "image/png")
    job_id = stage.end(job=JOB, files=(picture,))
    card = page.locator(".job").first
    expect(card.locator("code")).to_have_text(job_id[:8])
    expect(card.get_by_role("img", name=re.compile("Phases: .*denoise 2.4 s"))).to_be_visible()
    expect(card.locator(".media img")).to_have_js_property("naturalWidth", 1)
    card.get_by_role("button", name="Look at").click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(card.get_by_role("button", name="Look at")).to_be_focused()


def test_the_phases_of_the_shortest_job_fill_their_bar(stage, look):
    page = look()
    stage.end(job=JOB, timings={"upload": 0.02, "callback": 0.01})
    bar = page.get_by_role("img", name=re.compile("Phases: upload 0.02 s"))
    expect(bar).to_be_visible()
    filled = "(bar) => bar.lastChild.getBoundingClientRect().right / bar.getBoundingClientRect().right"
    assert bar.evaluate(filled) > 0.99


def test_a_job_that_failed_says_why(stage, look):
    page = look()
    stage.end(status="failed", reason="The reference picture could not be read.", error_type="reference")
    page.get_by_role("button", name="Failed", exact=True).click()
    expect(page.locator(".job").first).to_contain_text("The reference picture could not be read. (reference)")


def test_what_came_from_elsewhere_is_text_and_never_markup(stage, look):
    page = look()
    stage.worker("wan", phase=MARKUP, job=MARKUP, type=MARKUP, model=MARKUP)
    stage.end(job_type=MARKUP, status="failed", reason=MARKUP, error_type=MARKUP, job="markup")
    stage.bury(MARKUP)
    expect(lane(page).locator(".what")).to_have_text(MARKUP)
    expect(page.locator(".job .reason").first).to_contain_text(MARKUP)
    page.get_by_role("button", name="Read again").click()
    expect(page.locator(".dead .reason").first).to_have_text(MARKUP)
    page.get_by_label("What to show").fill(MARKUP)
    page.get_by_role("button", name="Queue", exact=True).click()
    expect(page.locator(".own .prompt")).to_have_text(MARKUP)
    assert page.locator("img[src=x], script:not([src])").count() == 0


def test_the_form_queues_a_job_of_each_type(stage, look):
    page = look()
    page.get_by_label("What to show").fill("a lighthouse at dusk")
    page.get_by_label("Type", exact=True).select_option("one of each type")
    page.get_by_role("button", name="Queue", exact=True).click()
    expect(page.locator("#submit .answer")).to_have_text("10 jobs are queued.")
    assert sorted(job["job_type"] for job in stage.stack.jobs()) == sorted(
        row["type"] for row in page.evaluate("fetch('/status').then((answer) => answer.json())")["types"]
    )


def test_the_form_follows_its_own_job_to_the_end(stage, look):
    page = look()
    page.get_by_label("What to show").fill("two green apples")
    page.get_by_label("Type", exact=True).select_option("sdxl_image_fast")
    page.get_by_label("Pictures").select_option("3")
    page.get_by_label("What to show").press("Control+Enter")
    own = page.locator(".own li")
    expect(own.locator(".state")).to_have_text("waiting")
    (job,) = stage.stack.jobs()
    assert job["metadata"]["num_images"] == 3
    stage.worker("sdxl", phase="denoise", job=job["id"], type="sdxl_image_fast", step=3, total=15)
    expect(own.locator(".state")).to_have_text("denoise 20 %")
    stage.end("sdxl_image_fast", job=job["id"])
    expect(own.locator(".state")).to_have_text("delivered")


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf000000030101"
    "00c9fe92ef0000000049454e44ae426082"
)
