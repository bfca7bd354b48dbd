"""Every Python block of the README and the docs runs, top to bottom of its page, and every link leads somewhere.

A block that cannot run says why on the line before it: <!-- not run: needs two machines -->
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
RUN = [page for page in PAGES if page.name == "README.md" or page.parent != ROOT]

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)[^)]*\)|(?:src|href)=\"([^\"#]+)\"")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(page: Path) -> int:
    """Run the blocks of a page in one namespace, as a reader would; return how many ran."""
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    ran = 0
    for block in FENCE.finditer(text):
        if NOT_RUN.search(text[: block.start()]):
            continue
        above = text[: block.start(1)].count("\n")  # so that a traceback shows the line of the page
        exec(compile("\n" * above + block[1], str(page), "exec"), namespace)
        ran += 1
    return ran


def broken_links(page: Path) -> list[str]:
    """The links of a page to files that are not there."""
    links = [a or b for a, b in LINK.findall(page.read_text(encoding="utf-8"))]
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_of_a_page_lead_somewhere(page):
    assert broken_links(page) == []


def test_pages_are_found():
    assert ROOT / "docs" / "index.md" in RUN
    assert run(ROOT / "docs" / "schedules.md") >= 3


PAGE = """
```python
a = 1
```

<!-- not run: {reason} -->
```python
raise SystemExit
```

```python
assert a == {value}
```
"""


def test_a_page_that_is_wrong_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(reason="it ends Python", value=1))
    assert run(page) == 2
    page.write_text(PAGE.format(reason="it ends Python", value=2))
    with pytest.raises(AssertionError) as failure:
        run(page)
    assert failure.traceback[-1].lineno + 1 == 12  # the line of the page
    page.write_text(PAGE.format(reason="", value=1))  # no reason: the block runs
    with pytest.raises(SystemExit):
        run(page)
    page.write_text('[a](page.md) [b](gone.md#part) ![c](https://example.org) <img src="gone.svg">')
    assert broken_links(page) == ["gone.md", "gone.svg"]
