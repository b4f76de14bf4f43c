# SPDX-License-Identifier: MIT
"""Pages of strata report in a real browser: on a phone and on a wide screen, light and dark."""
import pytest

from commands.test_parts import Set
from export.made_run import make_run
from report import browser
from report.long_run import lengthen
from support import OK, Job, make_problems, strata

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="Chromium is not installed")
SCREENS = [(390, "light"), (390, "dark"), (1400, "light"), (1400, "dark")]

# The contrast of every text with what is behind it, by WCAG 2: [ratio, text], the lowest.
CONTRAST = """(() => {
  const part = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  let worst = [99, ''];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || one.closest('svg') || one.getClientRects().length === 0) continue;
    let behind = one;
    while (behind && ['rgba(0, 0, 0, 0)', 'transparent'].includes(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
    const a = light(colour(getComputedStyle(one).color)), b = light(colour(getComputedStyle(behind || document.body).backgroundColor));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, one.textContent];
  }
  return worst;
})()"""
# Labels of an axis that lie on each other: their texts.
OVERLAPS = """[...document.querySelectorAll('.plot')].flatMap(plot => {
  const seen = [...plot.querySelectorAll('.x')].filter(l => l.getClientRects().length).map(l => [l.getBoundingClientRect(), l.textContent]);
  seen.sort((a, b) => a[0].left - b[0].left);
  return seen.slice(1).flatMap((l, i) => l[0].left < seen[i][0].right ? [seen[i][1] + ' | ' + l[1]] : []);
})"""
PLOTS = """[...document.querySelectorAll('.plot')].map(p => { const r = p.getBoundingClientRect();
  return [r.left + scrollX, r.top + scrollY, r.right + scrollX, r.bottom + scrollY, p.parentElement.querySelector('h3').textContent]; })"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of a long run on a GPU, of two runs, of a set of parts, of one without a batch."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("long", "other"):
        make_run(folder / name, problems=120)
    make_run(folder / "none", shards=0, end="killed")
    lengthen(folder / "long")
    parts = Set(Job(folder / "set", make_problems(12)), 3)
    parts.run(0)
    made = {}
    for name, words in {"long": ["long"], "two": ["long", "other"], "set": ["set/out"], "none": ["none"]}.items():
        made[name] = folder / f"{name}.html"
        done = strata("report", *(folder / word for word in words), "--to", made[name])
        assert done.code == OK, done
    return made


@pytest.mark.parametrize("name", ["long", "two", "set", "none"])
def test_fits_and_says_no_error(chromium, pages, name):
    for width, scheme in SCREENS:
        chromium.show(pages[name], width, scheme)
        assert chromium.value("document.scrollingElement.scrollWidth") <= width
        assert chromium.happened("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") == []
        asked = {event["request"]["url"].split(":")[0] for event in chromium.happened("Network.requestWillBeSent")}
        assert asked <= {"file", "data"}
        ratio, text = chromium.value(CONTRAST)
        assert ratio >= 4.5, (width, scheme, text)
        assert chromium.value(OVERLAPS) == []
        dark = chromium.value("getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(16, 20, 27)") == (scheme == "dark")


@pytest.mark.parametrize("width, scheme", SCREENS[::3])
def test_plots_are_drawn(chromium, pages, width, scheme):
    """Pixels of a colour, not of a grey, in every plot."""
    chromium.show(pages["long"], width, scheme)
    picture = chromium.picture()
    plots = chromium.value(PLOTS)
    titles = [plot[4] for plot in plots]
    assert titles[:2] == ["Tokens per second", "Drift score"] and "Principal components of hs_000" in titles and "Power" in titles
    for *box, title in plots:
        plot = picture.crop([int(side) for side in box])
        colours = plot.getcolors(plot.width * plot.height)
        drawn = sum(count for count, pixel in colours if max(pixel) - min(pixel) > 60)
        assert drawn > plot.width / 4, (title, drawn)


def test_every_plot_says_what_it_shows(chromium, pages):
    chromium.show(pages["long"], 1400, "light")
    labels = chromium.value("[...document.querySelectorAll('svg')].map(s => [s.getAttribute('role'), s.getAttribute('aria-label')])")
    assert len(labels) >= 10
    assert all(role == "img" and len(label) > 20 for role, label in labels), labels
    assert chromium.value("document.querySelectorAll('h1').length") == 1 and chromium.value("document.title").endswith(": finished")
