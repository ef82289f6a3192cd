"""The documentation site that `mkdocs build` wrote to site/, opened in headless Chromium.

`nox -s docs` builds the site and runs these tests.
"""

import functools
import http.server
import os
import re
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
SITE = Path(os.environ.get("PYMOBILENET_SITE", ROOT / "site"))
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NARROW, WIDE = 400, 1280
PATIENCE = 180_000
"""Milliseconds in which a page must load, also on a machine with much else to do."""

PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))


def test_the_site_was_built():
    assert PAGES, f"{SITE} has no pages: build them first, with `nox -s docs`"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass


@pytest.fixture(scope="session")
def origin():
    """The address of a server for the site on the loopback device."""
    handler = functools.partial(QuietHandler, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert executable, f"the pages were not opened: none of {', '.join(CHROMIUM)} is on PATH"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=[NARROW, WIDE])
def tab(request, browser):
    """A tab in a fresh profile, and what it has asked for and complained about so far."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    context.set_default_timeout(PATIENCE)
    tab, requests, errors = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("requestfailed", lambda failed: errors.append(f"not loaded: {failed.url}"))
    yield tab, requests, errors
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_the_window_and_reports_no_error(page, tab, origin):
    tab, requests, errors = tab
    del requests[:], errors[:]
    tab.goto(origin + page)
    tab.wait_for_load_state("networkidle")
    assert not errors
    assert all(url.startswith((origin, "data:", "blob:")) for url in requests)
    width = tab.viewport_size["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_the_search_finds_a_page(browser, origin):
    tab = browser.new_context().new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(origin)
    tab.fill("input[name=query]", "noise floor")
    tab.wait_for_selector(".md-search-result__item")
    assert "noise floor" in tab.inner_text(".md-search-result__list").lower()


def attributes(html, name):
    return [unquote(value) for value in re.findall(rf'\s{name}="([^"]*)"', html)]


@pytest.mark.parametrize("page", PAGES)
def test_every_internal_link_has_a_page_and_an_anchor(page):
    html = (SITE / page).read_text(encoding="utf-8")
    broken = []
    for link in attributes(html, "href") + attributes(html, "src"):
        if re.match(r"[a-z]+:|//", link) or page == "404.html":
            continue
        page_path, anchor = urldefrag(urljoin(f"/{page}", link))
        target = SITE / page_path.lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            broken.append(link)
        elif anchor and target.suffix == ".html":
            text = target.read_text(encoding="utf-8")
            if anchor not in attributes(text, "id") + attributes(text, "name"):
                broken.append(link)
    assert not broken


def test_every_page_is_reached_from_the_first_one():
    reached, waiting = set(), {"index.html"}
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for link in attributes((SITE / page).read_text(encoding="utf-8"), "href"):
            if re.match(r"[a-z]+:|//", link):
                continue
            target = SITE / urldefrag(urljoin(f"/{page}", link)).url.lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            name = target.relative_to(SITE).as_posix()
            if target.suffix == ".html" and target.is_file() and name not in reached:
                waiting.add(name)
    assert not set(PAGES) - reached - {"404.html"}
