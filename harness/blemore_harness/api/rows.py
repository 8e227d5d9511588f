"""Tables that are returned: rows that work without pandas, and frames for those who have it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from blemore_harness.errors import ExtraMissing

if TYPE_CHECKING:
    import pandas as pd


class Rows(list[dict[str, Any]]):
    """Rows of JSON types with the same keys; a notebook shows them as a table.

    >>> Rows([{"name": "prosody", "kind": "encoder"}])[0]["kind"]
    'encoder'
    """

    def frame(self) -> pd.DataFrame:
        """Return the rows as a pandas frame.

        Raises:
            ExtraMissing: pandas is not installed.
        """
        return make_frame(self)

    def _repr_html_(self) -> str:
        heads = list(self[0]) if self else []
        return html_table(heads, ([row[head] for head in heads] for row in self)) if self else "<p>nothing</p>"


def make_frame(content: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return columns, or rows, as a pandas frame; whole numbers and truth values stay such where some are missing.

    Raises:
        ExtraMissing: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ExtraMissing(f"frames need pandas ({error}): pip install 'blemore-harness[notebook]'") from error
    if not isinstance(content, Mapping):
        content = {key: [row.get(key) for row in content] for key in (content[0] if content else ())}
    columns = {}
    for name, values in content.items():
        kinds = {type(value) for value in values if value is not None}
        kind = {frozenset([bool]): "boolean", frozenset([int]): "Int64"}.get(frozenset(kinds))
        gaps = any(value is None for value in values)
        columns[name] = pd.Series(list(values), dtype=kind) if kind and gaps else list(values)
    return pd.DataFrame(columns)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as HTML; None is an empty cell."""
    top = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return "" if value is None else html.escape(str(value))
