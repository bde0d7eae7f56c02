"""The parts of the site that the program itself has: navigation, links, tabs, and its checks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from scripts.site import check, landing, links, nav, outline, phones, tabs

from .pages import DOCS, PAGES, read

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = nav.read_sections(read(DOCS / "index.md"))
ALL = [str(path.relative_to(DOCS).as_posix()) for path in DOCS.rglob("*.md")]
TABS = """<!-- tabs -->
**DuckDB**

```sql
SELECT 1
```

**PostgreSQL**

Two.
<!-- end of tabs -->
"""


def rewrite(text: str, *, repository: str | None = None) -> str:
    return links.rewrite(
        text,
        "docs/how-to/query.md",
        "how-to/query.md",
        pages={"CHANGELOG.md": "changelog.md", "README.md": "index.md"},
        folders={"docs/reference/schemas"},
        repository=repository,
    )


def test_each_page_is_in_a_list_of_the_first_page() -> None:
    """The navigation is made from these lists; decisions are found by their folder."""
    assert nav.unlisted(SECTIONS, ALL) == []
    assert [section.title for section in SECTIONS] == list(nav.SECTIONS)


def test_no_page_is_listed_twice() -> None:
    """A page has one place in the navigation."""
    listed = [page for section in SECTIONS for page in section.pages]

    assert sorted(listed) == sorted(set(listed))


def test_a_page_without_a_line_comes_last_in_the_section_of_its_folder() -> None:
    """So `make site-serve` shows a new page before the first page lists it."""
    entries = nav.navigation(SECTIONS, [*ALL, "how-to/brand-new.md"], dict.fromkeys(ALL, "x"), {})
    how_to = next(entry["How-to guides"] for entry in entries if "How-to guides" in entry)

    assert nav.unlisted(SECTIONS, [*ALL, "how-to/brand-new.md"]) == ["how-to/brand-new.md"]
    assert how_to[-1] == "how-to/brand-new.md"


def test_the_newest_decision_comes_first_and_none_is_left_out() -> None:
    """Decisions need no line anywhere for the navigation."""
    entries = nav.navigation(SECTIONS, ALL, {page: page for page in ALL}, {})
    decisions = next(entry["Decisions"] for entry in entries if "Decisions" in entry)
    names = [name for entry in decisions[1:] for name in entry]

    assert names == sorted(names, reverse=True)
    assert {*names, "decisions/index.md"} == {page for page in ALL if "decisions/" in page}


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[log](../../CHANGELOG.md#unreleased)", "[log](../changelog.md#unreleased)"),
        ("[start](../../README.md)", "[start](../index.md)"),
        ("[keys](../explanation/keys.md)", "[keys](../explanation/keys.md)"),
        ("[below](#below)", "[below](#below)"),
        ("[web](https://example.com/a.md)", "[web](https://example.com/a.md)"),
        ("[`demo`](../../src/demo.py)", "`demo`"),
        ("[schemas](../reference/schemas)", "schemas"),
        ("`[log](../../CHANGELOG.md)`", "`[log](../../CHANGELOG.md)`"),
        ("```\n[log](../../CHANGELOG.md)\n```", "```\n[log](../../CHANGELOG.md)\n```"),
    ],
)
def test_a_link_out_of_the_docs_leads_to_a_page_of_the_site_or_becomes_text(
    written: str, shown: str
) -> None:
    """Links in code are no links."""
    assert rewrite(written) == shown


def test_with_an_address_of_the_repository_a_link_to_a_file_leads_there() -> None:
    """The address is a variable of make, because there is none yet."""
    assert (
        rewrite("[code](../../src/demo.py#L1)", repository="https://git.example.com/x/blob/main/")
        == "[code](https://git.example.com/x/blob/main/src/demo.py#L1)"
    )


def test_tabs_are_made_from_bold_names_between_two_comments() -> None:
    """What belongs to a tab is indented by four spaces, code included."""
    assert tabs.to_tabs(TABS) == (
        '=== "DuckDB"\n\n    ```sql\n    SELECT 1\n    ```\n\n=== "PostgreSQL"\n\n    Two.\n\n\n'
    )
    assert "DuckDB" not in tabs.without_labels(TABS)


def test_text_before_the_first_tab_is_refused() -> None:
    """It would belong to no tab, and be lost."""
    with pytest.raises(ValueError, match="before the first label"):
        tabs.to_tabs("<!-- tabs -->\nlost\n\n**One**\n\nx\n<!-- end of tabs -->")


def test_the_tabs_of_each_page_are_complete() -> None:
    """A comment that is misspelt would be left, and show all parts below each other."""
    mark = re.compile(r"^<!--.*\btabs\b", re.MULTILINE)
    left = [path.name for path in PAGES if mark.search(tabs.to_tabs(read(path)))]

    assert left == []
    assert [path.name for path in PAGES if "<!-- tabs -->\n" in read(path)] != []


@pytest.mark.parametrize(
    ("markdown", "html", "difference"),
    [
        ("- a\n  - b\n", "<ul><li>a</li><li>b</li></ul>", "0 ul in li instead of 1"),
        ("text\n- a\n", "<p>text\n- a</p>", "0 li instead of 1"),
        ("a `b`\n", "<p>a <code>\\b</code></p>", "text 'a\\\\b' instead of 'ab'"),
    ],
)
def test_a_page_that_the_site_shows_otherwise_than_a_forge_is_noticed(
    markdown: str, html: str, difference: str
) -> None:
    """Python-Markdown needs four spaces for a list in a list, and a line before a list."""
    assert difference in outline.differences(markdown, html)


def test_a_page_that_both_show_alike_has_no_difference() -> None:
    """What the site adds, such as the link beside a heading, does not count."""
    html = '<h2 id="a">A<a class="headerlink" href="#a">¶</a></h2><ul><li><p>b</p></li></ul>'

    assert outline.differences("## A\n\n- b\n", html) == []


def test_each_cell_of_a_wide_table_has_the_name_of_its_column() -> None:
    """A phone shows the cells of a row below each other."""
    row = "<tr>\n<td>1</td>\n<td>2</td>\n<td>3, long</td>\n<td>4</td>\n</tr>"
    names = "<th>a</th>\n<th><code>b</code></th>\n<th>c &amp; d</th>\n<th>e</th>"
    head = f"<thead>\n<tr>\n{names}\n</tr>\n</thead>"
    marked = phones.mark(f"<table>\n{head}\n<tbody>\n{row}\n</tbody>\n</table>")

    assert 'data-label="b">2</td>' in marked
    assert 'data-label="c &amp; d">3, long</td>' in marked
    assert "<th data-long>c &amp; d</th>" in marked  # It needs the most room.
    assert marked.count("data-long") == 1
    assert marked.startswith("<table data-wide")
    narrow = "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n</table>"
    assert phones.mark(narrow) == narrow


def test_a_table_of_three_columns_is_wide_if_a_cell_is_long() -> None:
    """Two columns fit on a phone, whatever is in them."""

    def table(columns: int, text: str) -> str:
        head = "<th>a</th>" * columns
        return f"<table>\n<tr>\n{head}\n</tr>\n<tr>\n<td>{text}</td>\n</tr>\n</table>"

    wide = [columns for columns in (2, 3, 4) if "data-wide" in phones.mark(table(columns, "x"))]
    long = [
        columns for columns in (2, 3, 4) if "data-wide" in phones.mark(table(columns, "x" * 99))
    ]

    assert (wide, long) == ([4], [3, 4])


def test_short_code_stays_in_one_line() -> None:
    """Longer code is broken where it must be, and so is code in blocks."""
    short, long = "<code>--account</code>", f"<code>{'x' * 30}</code>"
    block = "<pre><span></span><code>a <b>b</b></code></pre>"

    assert phones.mark(short + long + block) == f"<code data-short>--account</code>{long}{block}"


def test_the_first_page_keeps_its_text_when_it_is_arranged() -> None:
    """Boxes are all that is added."""
    page = "<h1>T</h1>\n<p>a</p>\n<h2>B</h2>\n<p>b</p>\n<h3>C</h3>\n<ul></ul>\n<h3>D</h3>\n"
    arranged = landing.arrange(page)

    assert arranged.count("<section") == 1
    assert arranged.count("home__card") == 3  # Two, and what holds them.
    for box in ("section", "div"):
        assert arranged.count(f"<{box}") == arranged.count(f"</{box}>")


def page(body: str, head: str = "") -> str:
    return f'<html lang="en"><head>{head}</head><body><h1 id="top">T</h1>{body}</body></html>'


def test_a_site_without_faults_passes(tmp_path: Path) -> None:
    """Links with an anchor, to a file, and to another host are all good."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.html").write_text(page('<a href="index.html#top">up</a>'))
    body = '<a href="b.html#top">b</a><a href="a.json">a</a><a href="https://example.com">w</a>'
    (tmp_path / "index.html").write_text(page(body + '<a href="">here</a><a href=".">up</a>'))

    assert check.problems(tmp_path) == []


def test_the_page_of_errors_has_links_from_the_root_of_the_address(tmp_path: Path) -> None:
    """It is shown in place of any page, at any depth."""
    (tmp_path / "index.html").write_text(page('<a href="index.html">here</a>'))
    (tmp_path / "404.html").write_text(page('<a href="/docs/index.html">up</a>'))

    assert check.problems(tmp_path, "/docs/") == []
    assert check.problems(tmp_path) == ["404.html: dead link to /docs/index.html"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', "dead link to gone.html"),
        ('<a href="../outside.html">x</a>', "dead link to ../outside.html"),
        ('<a href="#gone">x</a>', "no such place: #gone"),
        ('<img src="https://example.com/a.png" alt="a">', "loads https://example.com/a.png"),
        ('<script src="//example.com/a.js"></script>', "loads //example.com/a.js"),
        ('<p style="background: url(https://example.com/a.png)">', "loads https://example.com/a"),
        ('<img src="index.html">', "picture without a description"),
        ('<p id="top">', "two elements have the id top"),
        ("<h1>Two</h1>", "2 headings of the first level"),
        ('<pre class="mermaid"></pre>', "asks another host because of pre"),
        ('<a data-md-component="source" href="">x</a>', "asks another host because of a"),
    ],
)
def test_each_fault_of_a_site_is_found(body: str, problem: str, tmp_path: Path) -> None:
    """Each has a line with its page."""
    (tmp_path / "index.html").write_text(page(body + '<a href="index.html">i</a>'))

    found = check.problems(tmp_path)

    assert [line for line in found if line.startswith("index.html: ") and problem in line]


def test_a_page_that_no_link_leads_to_and_a_style_from_elsewhere_are_found(tmp_path: Path) -> None:
    """An empty folder is a fault as well."""
    assert check.problems(tmp_path) == [f"{tmp_path} has no page"]
    (tmp_path / "index.html").write_text(page('<a href="index.html">i</a>'))
    (tmp_path / "lost.html").write_text(page(""))
    (tmp_path / "a.css").write_text('@import "https://fonts.example.com/a.css";')

    assert check.problems(tmp_path) == [
        "lost.html: no link leads here",
        "a.css: loads https://fonts.example.com/a.css",
    ]
