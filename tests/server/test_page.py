"""The page in a browser: an answer arrives, its colours and numbers are the API's, and it can be used by anybody."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from hierdraft.server.keys import Keys
from hierdraft.server.service import Service
from tests.server.toy import events, served, toy_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).parents[2] / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def test_files_are_served_under_a_strict_policy() -> None:
    with served(toy_model()) as (url, _), httpx.Client(base_url=url) as client:
        page = client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for name in ("page.css", "levels.css", "page.js", "client.js", "pane.js", "tree.js", "icon.svg"):
            told = client.get(f"/{name}")
            assert told.status_code == 200
            assert "http://" not in told.text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in told.text
            assert "innerHTML" not in told.text
        assert "<script>" not in page.text
        assert " style=" not in page.text
        assert client.get("/page.json").json()["model"] == "toy"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[tuple[Any, str, Service]]:
    with served(toy_model(seed=6)) as (url, service):
        context = browser.new_context(viewport={"width": 1200, "height": 1400})
        opened = context.new_page()
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        opened.goto(url)
        opened.get_by_text("toy", exact=True).wait_for()
        yield opened, url, service
        context.close()
        assert errors == []


def ask(page: Any, text: str) -> None:
    """Send a message, and wait until all of the answer is there."""
    before = page.locator("article").count()
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")
    page.wait_for_function(
        "(before) => document.querySelectorAll('article').length === before + 1"
        " && document.getElementById('stop').disabled",
        arg=before,
    )


def test_an_answer_agrees_with_the_api(page: tuple[Any, str, Service]) -> None:
    seen, _, _ = page
    answers: list[str] = []

    def pass_on(route: Any) -> None:
        response = route.fetch()
        answers.append(response.text())
        route.fulfill(response=response)

    seen.route("**/chat/completions", pass_on)
    ask(seen, "abcabc")
    panes = seen.locator("article .pane")
    assert panes.locator("h2").all_inner_texts() == ["Drafted: hierarchy", "Plain"]
    found = events(answers[0].splitlines())
    told = [choice["hierdraft"] for event in found[:-1] for choice in event["choices"] if "hierdraft" in choice]
    text = "".join(piece for part in told for piece, _ in part["pieces"])
    assert panes.locator(".text").evaluate_all("all => all.map(one => one.textContent)") == [text, text]
    spans = panes.first.locator(".text span").evaluate_all(
        "all => all.map(one => [one.textContent, one.dataset.level])"
    )
    assert _by_level(spans) == _by_level([piece for part in told for piece in part["pieces"]])
    assert len(_by_level(spans)) > 1
    assert "rgb" in panes.first.locator(".text .level").first.evaluate("one => getComputedStyle(one).boxShadow")
    metrics = found[-2]["metrics"]["speculative_decoding"][0]
    figures = dict(
        panes.first.locator("dd").evaluate_all("all => all.map(one => [one.dataset.figure, one.textContent])")
    )
    assert figures["tokens"] == str(found[-2]["usage"]["completion_tokens"])
    assert figures["accepted"] == f"{metrics['mean_acceptance_length']:.2f}"
    assert "The same" in seen.locator(".verdict").inner_text()


def _by_level(pieces: list[list[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text, level in pieces:
        found[level] = found.get(level, "") + text
    return found


def test_the_replay_shows_each_step(page: tuple[Any, str, Service]) -> None:
    seen, _, _ = page
    ask(seen, "abcabc")
    seen.click("article .replay summary")
    steps = int(seen.locator(".replay input").get_attribute("max")) + 1
    said = []
    for place in range(steps):
        told = seen.locator(".replay .told").inner_text()
        assert told.startswith(f"Step {place + 1} of {steps}.")
        said.append(seen.locator(".so-far .now").evaluate("one => one.textContent"))
        nodes, kept = seen.locator(".tree .node").count(), seen.locator(".tree .node.kept").count()
        assert (f"{nodes} drafted, {kept} accepted" if nodes else "Nothing drafted") in told
        seen.click(".replay .next")
    whole = seen.locator("article .pane .text").first.evaluate("one => one.textContent")
    assert "".join(said).startswith(whole)
    seen.focus(".replay input")
    seen.keyboard.press("ArrowLeft")
    assert f"Step {steps - 1} of" in seen.locator(".replay .told").inner_text()


def test_it_can_be_saved_and_opened(page: tuple[Any, str, Service], tmp_path: Path) -> None:
    seen, url, _ = page
    ask(seen, "abcabc")
    with seen.expect_download() as download:
        seen.click("#save")
    file = tmp_path / "chat.json"
    download.value.save_as(file)
    text = seen.locator("article .pane .text").first.evaluate("one => one.textContent")
    seen.goto(url)
    seen.set_input_files("#file", file)
    seen.locator("article").first.wait_for()
    assert seen.locator("article .pane .text").first.evaluate("one => one.textContent") == text
    file.write_text(json.dumps({"hierdraft": 1, "turns": [{"asked": 3}]}))
    seen.set_input_files("#file", file)
    seen.get_by_text("cannot be opened").wait_for()
    assert seen.locator("article").count() == 1


def test_it_can_be_stopped_and_used_without_a_mouse(page: tuple[Any, str, Service]) -> None:
    seen, _, service = page
    seen.focus("#settings summary")
    seen.keyboard.press("Enter")
    seen.fill("#tokens", "60000")
    seen.fill("#prompt", "abc")
    seen.press("#prompt", "Enter")
    seen.locator(".pane .text span").first.wait_for()
    seen.keyboard.press("Escape")
    seen.wait_for_function("document.getElementById('stop').disabled")
    end = time.monotonic() + 10
    while service.running and time.monotonic() < end:
        time.sleep(0.05)
    assert service.running == {}
    dark = seen.evaluate("document.documentElement.dataset.theme")
    seen.click("#theme")
    assert seen.evaluate("document.documentElement.dataset.theme") != dark
    seen.fill("#tokens", "5")
    ask(seen, "<b>bold</b>")
    assert seen.locator("article .asked").last.inner_text() == "<b>bold</b>"


def test_who_has_no_key_is_told(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("[[key]]\nkey = 'the-key-of-this-server'\nnamespace = 'a'\n")
    with served(toy_model(), Keys.read(file)) as (url, _):
        seen = browser.new_page()
        seen.goto(url)
        seen.get_by_text("toy", exact=True).wait_for()
        ask(seen, "abc")
        assert "No key of this server" in seen.locator("article [role=alert]").first.inner_text()
        seen.fill("#key", "the-key-of-this-server")
        ask(seen, "abc")
        assert "The same" in seen.locator(".verdict").last.inner_text()
        seen.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: tuple[Any, str, Service], theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: make axe")
    seen, _, _ = page
    seen.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    ask(seen, "abcabc")
    seen.click("article .replay summary")
    seen.click("#settings summary")
    seen.evaluate(AXE.read_text(encoding="utf-8"))
    found = seen.evaluate("axe.run()")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:100] for node in one["nodes"]][:3]) for one in serious] == []
