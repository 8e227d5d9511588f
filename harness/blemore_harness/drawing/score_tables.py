"""Draws scores of files, and rankings of files, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.errors import first_and_count, printable
from blemore_harness.scoring.intervals import FEWEST, UNDEFINED, say_minimum, short, show_p

TIES = (
    "group: submissions of one group cannot be told apart from its best (permutation test by actor of the decoded "
    "labels, p below .05 after correction for all pairs)."
)

P_FIRST = "p: of the difference from the first, corrected in the same way."


def describe_missing_actors(where: str) -> str:
    """Say why there are no intervals."""
    return f"No intervals and no tests: {where} names fewer than {FEWEST} actors (video_id)."


def render_score(result: Mapping[str, Any]) -> str:
    """Return a result (as of `scoring.ranking.score_file`) as text."""
    lines = [result["caveat"]] if result["caveat"] else []
    lines += [f"clips    {result['clips']} ({result['blends']} blends)"]
    if result["alpha"] is not None:
        how = "chosen on the scored clips: in-sample, optimistic" if result["chosen"] else "as given"
        lines.append(f"alpha    {result['alpha']:.6g}    beta {result['beta']:.6g}    ({how})")
    ends = result["intervals"]
    for measure, name, best in (
        ("acc_presence", "ACC_P", "best_presence"),
        ("acc_salience", "ACC_S", "best_salience"),
        ("score", "Score", None),
    ):
        if result[measure] is None:
            lines.append(f"{name}    {UNDEFINED}")
            continue
        interval = f" [{ends[measure][0]:.4f}, {ends[measure][1]:.4f}]" if ends else ""
        reach = f"    (best {name} on the grid: {result[best]:.4f})" if best and result["alpha"] is not None else ""
        lines.append(f"{name}    {result[measure]:.4f}{interval}{reach}")
    if ends:
        lines.append(f"[...]    95 % CI over the {result['actors']} actors; thresholds held fixed")
    return "\n".join(lines)


def draw_scores(rows: Sequence[Mapping[str, Any]], where: str, level: int) -> RenderableType:
    """Draw the scores of several files in the order given, then those that cannot be scored.

    Args:
        rows: per file: `file`, and either what `scoring.ranking.score_file` returns or `error`.
        where: names the scored clips.
        level: percentage of the intervals.
    """
    scored = [row for row in rows if "error" not in row]
    table = Table(title=f"scores by {where}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("file", overflow="fold")
    for name in ("ACC_P", "ACC_S", f"Score [{level} % CI]"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in scored:
        table.add_row(Text(printable(row["file"])), *_numbers(row))
    failed = [(row["file"], row["error"]) for row in rows if "error" in row]
    caveats = list_caveats(scored, "file")
    notes = [] if scored and scored[0]["intervals"] else [describe_missing_actors(where)] if scored else []
    return Group(*_warn(caveats), *([table] if scored else []), *_dim(notes), *_refused(failed))


def draw_ranking(found: Mapping[str, Any]) -> RenderableType:
    """Draw a ranking as of `scoring.ranking.rank_files`."""
    tested = any(row["group"] is not None for row in found["ranked"])
    count = f"{found['clips']} clips ({found['blends']} blends)"
    title = f"{len(found['ranked'])} submissions, {count} of {found['reference']}"
    table = Table(title=printable(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    if tested:
        table.add_column("group", justify="right")
    table.add_column("submission", overflow="fold")
    for name in ("ACC_P", "ACC_S", f"Score [{found['level']} % CI]", *(["p"] if tested else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["ranked"]:
        ties = [str(row["group"])] if tested else []
        p = [] if not tested else [show_p(row["p_first"]) if row["p_first"] is not None else ""]
        table.add_row(*ties, Text(printable(row["name"])), *_numbers(row), *p)
    caveats = list_caveats(found["ranked"], "name")
    notes = describe_ties(found)
    failed = [(row["name"], row["reason"]) for row in found["refused"]]
    ranking: list[RenderableType] = [table, *_dim(notes)] if found["ranked"] else []
    return Group(*_warn(caveats), *ranking, *_refused(failed))


def describe_ties(found: Mapping[str, Any]) -> list[str]:
    """Return what must be said about the ties of a ranking as of `scoring.ranking.rank_files`."""
    if all(row["group"] is None for row in found["ranked"]):
        return [describe_missing_actors(found["reference"])]
    return [TIES, P_FIRST, *(say_minimum(found["minimum"], found["actors"]) if found["ranked"][1:] else [])]


def list_caveats(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Return what must stand beside scores (rows as of `scoring.ranking.score_file`), each text once."""
    caveats = list(dict.fromkeys(row["caveat"] for row in rows if row["caveat"]))
    chosen = [row[key] for row in rows if row["chosen"]]
    if chosen:
        caveats.append(f"optimistic: thresholds chosen on the scored clips, for {first_and_count(chosen, 'file')}")
    return caveats


def _numbers(row: Mapping[str, Any]) -> list[str]:
    ends = row["intervals"]
    if row["score"] is None:
        interval = f" [{', '.join(map(short, ends['acc_presence']))}]" if ends else ""
        return [f"{short(row['acc_presence'])}{interval}", UNDEFINED, UNDEFINED]
    interval = f" [{short(ends['score'][0])}, {short(ends['score'][1])}]" if ends else ""
    return [short(row["acc_presence"]), short(row["acc_salience"]), f"{short(row['score'], 4)}{interval}"]


def _warn(texts: Sequence[str]) -> list[Text]:
    return [Text(printable(text), style="bold yellow") for text in texts]


def _dim(texts: Sequence[str]) -> list[Text]:
    return [Text(printable(text), style="dim") for text in texts]


def _refused(rows: Sequence[tuple[str, str]]) -> list[Text]:
    return [Text(printable(f"cannot be scored: {name}: {reason}"), style="red") for name, reason in rows]
