# SPDX-License-Identifier: MIT
"""How a report looks: its page in a browser, its pictures, its text."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest

import bptt

image = pytest.importorskip("matplotlib.image")

X = np.random.default_rng(0).standard_normal((200, 4, 4)).astype(np.float32)
MODELS = {
    "rnn": lambda: bptt.RNN(4, 16, seed=0),
    "stack": lambda: bptt.LSTM(4, 16, 3, bidirectional=True, seed=0),
    "relu": lambda: bptt.RNN(4, 16, bidirectional=True, activation="relu", seed=0),
}
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module", params=MODELS)
def report(request):
    return bptt.gradient_flow(MODELS[request.param](), X)


class Page(HTMLParser):
    """Tags that close in order, and what a page refers to."""

    VOID = ("meta", "img", "!doctype")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone(report, tmp_path):
    path = tmp_path / "report.html"
    text = report.to_html(path)
    assert path.read_text("utf-8") == text
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert len(page.links) == 1
    assert "script" not in page.tags
    head, data = page.links[0].split(",")
    assert head == "data:image/png;base64"
    picture = image.imread(BytesIO(base64.b64decode(data)))
    height, width, _ = picture.shape
    assert width >= 1600
    assert 0.5 < height / width < 1
    for cell, verdict in zip(report.cells, report.verdicts):
        assert f"<b>{cell.name}</b>" in text
        assert verdict.split(": ")[1].split(";")[0] in text
    assert text.index("verdict") < text.index("Advice") < text.index("data:image")
    assert f"bptt {bptt.__version__}" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_names_are_escaped(report):
    from dataclasses import replace

    odd = replace(report, model="<script>alert(1)</script>", loss="a < b & c")
    text = odd.to_html()
    assert "<script>" not in text
    assert "a &lt; b &amp; c" in text


def test_a_notebook_shows_a_part_of_a_page_even_without_matplotlib(report, monkeypatch):
    part = report._repr_html_()
    assert Page(part).tags[:2] == ["div", "style"]
    assert "data:image/png" in part
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    part = report._repr_html_()
    assert "No pictures" in part
    assert "bptt[plot]" in part
    for call in (report.plot, report.to_html):
        with pytest.raises(ImportError, match=re.escape('pip install "bptt[plot]"')):
            call()


def test_the_picture(report):
    figure = report.plot()
    lags, shares, gates = figure.axes
    assert lags.get_yscale() == "log"
    assert lags.get_xlabel() == shares.get_xlabel() == "lag: steps before the end of a sequence"
    assert "norm" in lags.get_ylabel()
    assert "(%)" in shares.get_ylabel()
    assert "(%)" in gates.get_ylabel()
    norms = report.cells[0].curves["h"].norms
    drawn = lags.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, np.where(norms > 0, norms, np.nan))
    labels = " ".join(t.get_text() for t in lags.get_legend().get_texts())
    for cell in report.cells:
        assert f"horizon {cell.curve.horizon:.3g}" in labels
    np.testing.assert_allclose(
        shares.lines[0].get_ydata(), 100 * np.cumsum(report.cells[0].share), rtol=1e-12
    )
    figure.draw_without_rendering()
    texts = [t for a in figure.axes for t in (a.title, a.xaxis.label, a.yaxis.label)]
    assert min(t.get_fontsize() for t in texts) >= 10
    box = figure.bbox
    for text in texts:  # all of it is on the picture
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0 <= extent.x1 <= box.x1
        assert box.y0 <= extent.y0 <= extent.y1 <= box.y1


def test_the_text_fits_and_rich_shows_the_same(report):
    console = pytest.importorskip("rich.console")
    text = str(report)
    prose = [line for line in text.splitlines() if "  " not in line.strip()]
    assert max(map(len, prose)) <= 98
    for verdict in report.verdicts:
        assert verdict.split(",")[0] in re.sub(r"\n *", " ", text)
    out = StringIO()
    console.Console(width=160, file=out).print(report)
    shown = out.getvalue()
    for line in ("Gradient flow", "horizon", "Why:"):
        assert line in shown


# --- in a browser ---------------------------------------------------------------------------------

MEASURE = """<script>
const all = [...document.querySelectorAll(".bptt-flow, .bptt-flow *")];
const wide = (e) => e.closest(".wide") !== null;
const image = document.querySelector("img");
const box = image.getBoundingClientRect();
document.title = JSON.stringify({
  page: [document.documentElement.scrollWidth, window.innerWidth],
  over: all.filter((e) => !wide(e) && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0)
    .map((e) => e.tagName),
  outside: all.filter((e) => !wide(e) && e.getBoundingClientRect().right > window.innerWidth + 1)
    .map((e) => e.tagName),
  image: [image.complete, image.naturalWidth, box.width, box.height],
  smallest: Math.min(...all.filter((e) => e.innerText && e.tagName != "SUP" && e.tagName != "STYLE")
    .map((e) => parseFloat(getComputedStyle(e).fontSize))),
  sections: [...document.querySelectorAll("h2")].map((e) => e.innerText),
});
</script></body>"""


def browse(path: Path, width: int, *how: str) -> str:
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},1400", *how,
        path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium to look at the page")
@pytest.mark.parametrize("width", [1200, 600])
def test_the_page_in_a_browser(report, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(report.to_html().replace("</body>", MEASURE), "utf-8")
    title = re.search(r"<title>(.*?)</title>", browse(path, width, "--dump-dom"), re.DOTALL)
    assert title
    seen = json.loads(title[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
    assert seen["page"][0] <= seen["page"][1], "the page scrolls sideways"
    assert seen["over"] == []
    assert seen["outside"] == []
    complete, natural, wide, high = seen["image"]
    assert complete
    assert natural >= 1600
    assert 0.8 * width < wide + 120
    assert 0.5 < high / wide < 1
    assert seen["smallest"] >= 14
    assert seen["sections"] == ["Advice", "Pictures", "Numbers", "How this was computed"]
    shot = tmp_path / "shot.png"
    browse(path, width, f"--screenshot={shot}")
    pixels = image.imread(shot)[..., :3]
    assert pixels.shape[1] == width
    ink = (pixels.min(-1) < 0.6).mean()
    assert 0.01 < ink < 0.3, "blank, or black"
