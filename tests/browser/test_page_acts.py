"""What operators do on the page, with the keyboard only; and what they read from its plots and tables."""

from __future__ import annotations

import re

from playwright.sync_api import expect


def tab_to(page, name, most=60):
    """Press Tab until the button of this name has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent") == name:
            return
    raise AssertionError(f"{name} cannot be reached")


def test_a_dead_job_is_put_back_by_keyboard(stage, look):
    job_id = stage.bury()
    page = look()
    expect(page.locator(".dead li")).to_have_count(1)
    page.keyboard.press("3")
    expect(page.locator("#dead")).to_be_focused()
    tab_to(page, f"Requeue {job_id[:8]}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text(f"{job_id[:8]} goes to the end of wan_queue")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text(f"{job_id[:8]} is back on wan_queue.")
    expect(page.locator(".dead li")).to_have_count(0)
    expect(page.locator("#dead")).to_be_focused()
    assert stage.queues["wan"].waiting() == 1


def test_who_leaves_the_question_changes_nothing(stage, look):
    job_id = stage.bury()
    page = look()
    page.get_by_role("button", name=f"Requeue {job_id[:8]}").press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=f"Requeue {job_id[:8]}")).to_be_focused()
    assert [entry.job_id for entry in stage.queues["wan"].dead()] == [job_id]


def test_ages_grow_while_nothing_happens(stage, look):
    stage.bury()
    stage.end()
    page = look()
    expect(page.locator(".dead time")).to_have_count(1)
    page.evaluate("((now) => { Date.now = () => now() + 7_200_000; })(Date.now)")
    for shown in (".dead time", ".job time"):
        expect(page.locator(shown).first).to_have_text("2.0 h ago")


def test_what_cannot_be_done_is_said_beside_the_job(stage, look, tabs):
    tabs.refusals = True
    job_id = stage.bury()
    page = look()
    page.get_by_role("button", name=f"Replay callback of {job_id[:8]}").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.locator(".dead .answer")).to_contain_text(f"No result of job {job_id} is remembered")
    expect(page.locator(".dead li")).to_have_count(1)


def test_plots_have_a_day_of_data_that_keys_and_pointers_read(stage, look):
    page = look()
    throughput = page.get_by_role("slider", name=re.compile("Throughput"))
    expect(throughput.locator("rect[data-tone=done]").nth(280)).to_be_attached()
    for name, shapes in (("Latency", "polyline"), ("Queues", "polyline"), ("Card", "rect")):
        assert page.get_by_role("slider", name=re.compile(name)).locator(shapes).count() > 0
    throughput.press("Home")
    expect(throughput).to_have_attribute("aria-valuenow", "0")
    throughput.press("ArrowRight")
    expect(throughput).to_have_attribute("aria-valuetext", re.compile(r"\d\d:\d\d: delivered 5, failed [01]"))
    page.get_by_role("slider", name=re.compile("Latency")).hover()
    expect(page.locator("figure", has_text="Latency").locator(".legend")).to_have_text("work 4.0 swait 2.0 s")


def test_plots_show_another_time_and_another_type(stage, look):
    page = look()
    page.get_by_role("button", name="1 h", exact=True).click()
    expect(page.locator("figure", has_text="Throughput")).to_contain_text("jobs in a minute")
    page.get_by_label("Job type of throughput and latency").select_option("video_fast")
    expect(page.get_by_role("slider", name=re.compile("Throughput")).locator("rect")).to_have_count(0)


def test_the_days_seconds_and_money_go_to_types_and_to_waste(stage, look):
    rows = look().get_by_role("table", name="Time of the card by use").get_by_role("row")
    expect(rows.filter(has_text="image_fast")).to_contain_text("8.0 h")
    expect(rows.filter(has_text="failed")).to_contain_text("72 s")
    expect(rows.filter(has_text="repeated")).to_contain_text("8.0 h")
    expect(rows.filter(has_text="idle")).to_contain_text("8.0 h")


def test_the_table_judges_each_type_by_its_targets(stage, look):
    for _ in range(3):
        stage.end("video_high", status="failed", reason="It failed three times.")
    page = look()
    row = page.get_by_role("table", name="Types").get_by_role("row").filter(has_text="video_high").first
    expect(row).to_contain_text("0 %missed")
    expect(page.locator(".misses")).to_contain_text("video_high: less than 95% of the jobs were completed.")


def test_who_reads_the_table_stays_in_it_when_a_job_ends(stage, look):
    page = look(viewport={"width": 900, "height": 700})
    table = page.locator("#types .wide")
    table.focus()
    table.evaluate("(region) => { region.scrollLeft = 40; }")
    stage.end("video7b_fast_enhanced")
    expect(table.get_by_role("row").filter(has_text="video7b_fast_enhanced")).to_contain_text("kept")
    expect(table).to_be_focused()
    assert table.evaluate("(region) => region.scrollLeft") == 40


def test_shortcuts_are_listed_and_can_be_turned_off(stage, look):
    page = look()
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_label("Letters and digits are shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "auto"
