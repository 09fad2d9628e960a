"""The repository as a reader meets it: no file too long to read, no link that leads nowhere."""

import re

import pytest

from lab.tools.environment import ROOT
from lab.tools.package import tracked

MOST = 500  # lines
READ = (".py", ".md", ".js", ".css", ".html", ".toml", ".yml")  # what people write; data and saved workflows are not
FILES = [ROOT / path for path in tracked()] if (ROOT / ".git").exists() else []
# The forms of the cards in demo/ have links that count from there.
PAGES = [path for path in FILES if path.suffix == ".md" and not path.match("lab/training/card*.md")]
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)


def name(path):
    return str(path.relative_to(ROOT))


def test_no_file_is_longer_than_a_reader_is_patient():
    lines = {name(path): len(path.read_text().splitlines()) for path in FILES if path.suffix in READ}
    assert not {path: count for path, count in lines.items() if count > MOST}


def anchors(page):
    """Of a page's headings, as GitHub makes them; a second one of the same words would have a number."""
    text = _CODE.sub(lambda found: found[0].strip("`") if "\n" not in found[0] else "", page.read_text())
    plain = (re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in _HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page):
    for found in _LINK.finditer(_CODE.sub("", page.read_text())):
        target = found[1] or found[2]
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_pages_links_lead_somewhere(page):
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{target}: there is no {file}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}: {path.name} has no such heading"


def test_links_are_read_as_a_reader_sees_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# 1. What `it` *does*, and why\n[a](b.md#c) ![d](e.png) `[f](g)`\n```\n# no heading\n[h](i)\n```\n"
        '<img src="j.png"> [k](https://l) [m](#n)\n'
    )
    assert list(links(page)) == ["b.md#c", "e.png", "j.png", "#n"]
    assert anchors(page) == {"1-what-it-does-and-why"}
