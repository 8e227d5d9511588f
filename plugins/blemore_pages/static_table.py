"""Pages of tables that need nothing else: one file of HTML with its style inside, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from blemore_pages.extra import load_package, show_text


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        label: its head.
        number: whether its cells are numbers, which stand to the right.
    """

    label: str
    number: bool = False


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        cells: a text per column.
        style: `best` in bold, `quiet` for what is only there to compare with; empty for any other.
    """

    cells: Sequence[str]
    style: Literal["", "best", "quiet"] = ""


@dataclass(frozen=True)
class PageTable:
    """A table with what must be said of it.

    Attributes:
        heading: of its section; also the label of the table for screen readers.
        columns, rows: its content.
        header: number of the column whose cells name their rows.
        caption: one line above the table.
        caveats: in plain sight above the table.
        notes: below it.
    """

    heading: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    header: int = 0
    caption: str = ""
    caveats: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page of tables.

    Attributes:
        title: its heading.
        tables: in order.
        caveats: in plain sight below the title.
        lead: paragraphs before the tables.
        footer: lines at the end.
    """

    title: str
    tables: Sequence[PageTable]
    caveats: Sequence[str] = ()
    lead: Sequence[str] = ()
    footer: Sequence[str] = ()


def render_page(page: Page) -> str:
    """Return the page as HTML; all texts are escaped, and what no screen shows as well.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    jinja2 = load_package("jinja2", "pages of HTML")
    template = files(__package__).joinpath("static_table.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=show_text)
    return str(environment.from_string(template).render(page=page)) + "\n"
