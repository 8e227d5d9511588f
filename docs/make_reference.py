"""Writes docs/reference/api.md and record.md from docstrings: what a plugin may use, and what a record holds.

python docs/make_reference.py            # write them
python docs/make_reference.py --check    # exit 1 where one is not up to date
"""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "harness" / "blemore_harness"
PAGES = ROOT / "docs" / "reference"

MODULES = (
    "hookspecs", "executors", "context", "clips", "predictions", "cache", "disk", "processes", "options", "errors",
    "heads.options", "heads.fitting", "heads.frames", "heads.subsampled", "heads.judging", "heads.scaling",
    "training.options", "training.fitting", "training.epochs", "training.batches", "training.predicting",
    "estimators.classifier",
    "estimators.network", "pooling", "media.ahead", "media.audio", "media.frames", "media.frame_cache",
    "media.frame_files", "media.opening", "networks", "protocol.rules", "protocol.grid", "protocol.thresholds",
    "cli.root", "cli.terminal", "data.download", "decoding.strategies", "systems.plugins", "systems.datasets",
    "systems.submission", "demo.plan", "files.runs", "files.leaderboard", "record.types", "record.folds",
    "record.scores", "scoring.reading", "scoring.analysis", "scoring.breakdown", "scoring.calibration",
    "scoring.sensitivity", "scoring.intervals", "scoring.caveats", "scoring.measures", "scoring.published",
    "files.scoring", "scoring.ranking", "drawing.score_tables", "drawing.plugin_details", "decoding.choosing",
    "cli.completion", "drawing.result_text", "decoding.decoders", "scoring.seeds", "cli.evaluation", "data.opening",
    "running.run", "running.nested", "running.worker", "scoring.results", "api.opening", "api.reporting",
    "api.submissions",
)  # fmt: skip
"""In the order in which an author meets them; what only commands use stands last."""

PARTS = {
    "api.evaluation": {"diagnose", "prepare", "run"},
    "api.listing": {
        "check_data", "check_plugin", "check_submissions", "clean_runs", "new_plugin", "plugin", "plugins",
        "remove_runs", "submissions", "write_demo",
    },
    "api.opening": {"data_folder", "load_dataset", "open_dataset", "runs_folder"},
    "api.reporting": {"keep_stdout", "open_reporter"},
    "api.rows": {"Rows"},
    "api.run": {"Run", "StoredRuns", "load_run", "predict", "runs"},
    "api.scores": {"compare", "score"},
    "api.seeds": {"SeedRuns", "run_seeds"},
    "api.submissions": {"open_evaluation", "open_submission", "with_settings"},
    "api.watching": {"watch_run"},
    "cli.completion": {"complete_encoders", "complete_fusions", "complete_runs", "complete_submissions"},
    "cli.evaluation": {"open_named_run"},
    "cli.root": {
        "Command", "data_option", "device_option", "json_option", "keeping_stdout", "open_reporter",
        "plugin_option", "runs_option", "seed_option", "set_option",
    },
    "cli.terminal": {"answer_console"},
    "data.download": {"Dataset", "read_dataset"},
    "data.opening": {"open_blinded"},
    "decoding.decoders": {"Decoder"},
    "demo.plan": {"Plan", "make_plan"},
    "disk": {
        "atomic_file", "cache_root", "digest_of", "hold", "read_json", "read_tail", "write_atomically", "write_json",
    },
    "drawing.plugin_details": {"UNDECLARED", "describe_card"},
    "drawing.result_text": {"Form", "escape_latex", "escape_markdown", "format_results"},
    "drawing.score_tables": {"describe_ties", "draw_ranking", "list_caveats"},
    "estimators.classifier": {"SklearnEncoder"},
    "estimators.network": {"TorchEncoder"},
    "files.leaderboard": {"INNER_NAME", "KEY_ENDING", "read_submission", "write_submission"},
    "files.runs": {"Runs", "StoredRun", "read_record"},
    "files.scoring": {"Reference", "read_reference"},
    "heads.frames": {"FrameSource"},
    "media.frame_files": {"work_side_by_side"},
    "media.opening": {"OPTIONS", "check_media", "find_stream", "open_file"},
    "record.folds": {"Curve"},
    "record.scores": {"Interval", "Mean", "Means"},
    "record.types": {"CardFacts", "Curve", "DataFacts", "FailedSystem", "FinishedSystem", "Record"},
    "running.nested": {"cross_fitted_score", "fit_submission", "open_inner", "prepare_all"},
    "running.run": {"Run", "open_run"},
    "running.worker": {"connect"},
    "scoring.analysis": {
        "DEFAULT_STRATEGY", "analyse_system", "compare_all_systems", "compare_systems", "compare_with_best",
    },
    "scoring.breakdown": {"Answers", "break_down", "count_errors", "find_kinds"},
    "scoring.calibration": {"measure_calibration"},
    "scoring.caveats": {
        "describe_data", "describe_folds", "describe_help", "describe_selection", "describe_system",
        "describe_tuning",
    },
    "scoring.intervals": {"LEVEL", "say_minimum", "short", "show_p"},
    "scoring.measures": {"show_mean"},
    "scoring.published": {"MEASURES"},
    "scoring.ranking": {"Sent", "find_sent", "rank_files"},
    "scoring.reading": {"LoadedSystem", "load_run", "load_system"},
    "scoring.results": {"ScoredSystem", "SystemPredictions", "score_system"},
    "scoring.sensitivity": {"measure_sensitivity", "ranked_surfaces"},
    "systems.datasets": {"read_data"},
    "systems.plugins": {"Offer", "Plugins", "load_plugins"},
    "systems.submission": {"DEFAULT_FUSION", "Submission", "find_submission", "list_submissions", "read_submission"},
}  # fmt: skip
"""All that is public of modules that are otherwise the harness's own."""

CONSTANTS = {
    "clips": {"EMOTIONS", "LabelArray"},
    "decoding.strategies": {"HONEST", "STRATEGIES"},
    "executors": {"WAITING_FILE", "State"},
    "hookspecs": {"Modality", "hookimpl"},
    "media.frames": {"BATCH"},
    "pooling": {"STATISTICS"},
    "predictions": {"FloatArray"},
    "protocol.grid": {"OFFICIAL_GRID"},
    "protocol.rules": {"BLENDS", "EQUAL", "MAJOR", "MINOR", "NEUTRAL", "SINGLE"},
    "training.epochs": {"Judge", "Quality"},
    "training.fitting": {"Make"},
    "training.options": {"Precision"},
    "training.predicting": {"Predict"},
}
"""Constants and types without a class that are public of the other modules."""

LEFT_OUT = {
    "context": {"ScoringService"},
    "networks": {"resolve_device", "describe_device"},
}
"""What is public for the harness's own sake."""

SECTIONS = ("Args", "Attributes", "Returns", "Raises")
"""Parts of docstrings with entries."""

HEAD = """# Reference

What a plugin author may use: made from the docstrings by `python docs/make_reference.py`, and held to them by a test.
How it fits together is in [write-a-plugin.md](../tutorial/write-a-plugin.md).
"""

RECORD_MODULES = ("record.types", "record.scores", "record.folds")
"""Every key of `record.json`, from the outside in."""

RECORD_HEAD = """# The record of a run

`record.json` in a run's folder holds every number of the run; `run --json` and `table --json` print it. Its keys are
the fields of the dataclasses below, nested as their types say, beginning with `Record`. All keys are always there. A
tuple is a list, `None` is null. Accuracies and Scores are shares from 0 to 1, times are seconds, `digest` and
`identity` are hashes. Made from the docstrings by `python docs/make_reference.py`.

The JSON schema is [record.schema.json](../../harness/blemore_harness/record/record.schema.json). `schema` counts
changes of the keys: a record of another schema is refused, and the same command, given again, writes it anew from the
finished folds. In Python, `files.runs.read_record(folder)` reads one as a `Record`.
"""


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with what would be written."""
    found = 0
    for name, text in (
        ("api.md", render(HEAD, MODULES)),
        ("record.md", render(RECORD_HEAD, RECORD_MODULES, whole=True)),
    ):
        page = PAGES / name
        if arguments != ["--check"]:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            sys.stderr.write(f"docs/reference/{name} is not up to date: run python docs/make_reference.py\n")
            found = 1
    return found


def render(head: str, modules: Sequence[str], whole: bool = False) -> str:
    """Return the text of a page; `whole` shows every class of the modules, not only what plugin authors may use."""
    links = "\n".join(f"- [`{name}`](#{name.replace('.', '')}): {first_sentence(parse(name))}" for name in modules)
    parts = [head, links + "\n", *(render_module(name, whole) for name in modules)]
    return "\n".join(parts).rstrip() + "\n"


def parse(name: str) -> ast.Module:
    """Read a module's source."""
    return ast.parse((SOURCES / path_of(name)).read_text(encoding="utf-8"))


def path_of(name: str) -> str:
    """Return a module's file below the sources."""
    return f"{name.replace('.', '/')}.py"


def render_module(name: str, whole: bool = False) -> str:
    """Return the section of one module."""
    module = parse(name)
    source = f"../../harness/blemore_harness/{path_of(name)}"
    lines = [f"## {name}", "", f"[`blemore_harness.{name}`]({source})", "", prose(module)]
    constants = list(render_constants(module, name))
    lines += [*constants, ""] if constants else []
    for node in module.body:
        shown = whole and isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if shown or (isinstance(node, ast.ClassDef | ast.FunctionDef) and is_offered(node.name, name)):
            lines += render_node(node, 3)
    return "\n".join(lines)


def render_node(node: ast.ClassDef | ast.FunctionDef, level: int) -> Iterator[str]:
    """Return the lines of a class with its methods, or of a function."""
    yield f"{'#' * level} `{signature(node)}`\n"
    text = prose(node)
    if text:
        yield text
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign) and is_open(part)]
        if fields:
            yield "\n".join(["```text", *fields, "```", ""])
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                yield from render_node(part, level + 1)


def render_constants(module: ast.Module, name: str) -> Iterator[str]:
    """Return an item for every public constant: its docstring, or its value where it has none."""
    for node, after in itertools.zip_longest(module.body, module.body[1:]):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            names = ast.unparse(target).strip("()").split(", ")
            if any(each in PARTS.get(name, CONSTANTS.get(name, ())) for each in names):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                text = " ".join(after.value.value.split()) if told else f"`{ast.unparse(node.value)}`"
                yield f"- `{', '.join(names)}`: {text}"


def is_offered(name: str, module: str) -> bool:
    """Whether the name of a class or a function is for plugin authors."""
    if module in PARTS:
        return name in PARTS[module]
    return not name.startswith("_") and name not in LEFT_OUT.get(module, ())


def offered_names(module: str) -> set[str]:
    """Return all public names of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    defined = {node.name for node in parse(module).body if isinstance(node, kinds) and is_offered(node.name, module)}
    return defined | PARTS.get(module, CONSTANTS.get(module, set()))


def is_open(field: ast.AnnAssign) -> bool:
    """Whether a field of a class is public."""
    return isinstance(field.target, ast.Name) and not field.target.id.startswith("_")


def signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return a heading: a class with its bases, a function with its arguments and what it gives."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        return f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
    gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){gives}"


def prose(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    """Return a docstring as Markdown: sections in bold, their entries as a list, the rest as it stands."""
    text = dedent(ast.get_docstring(node) or "")
    lines: list[str] = []
    section = ""
    for line in text.splitlines():
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            section = line.rstrip(":")
            lines += [f"**{section}**", ""]
        elif section and line.startswith("    "):
            lines.append(entry(line) if section != "Returns" else line.strip())
        else:
            section = section if not line.strip() else ""
            lines.append(line)
    return "\n".join(lines).rstrip() + "\n" if text else ""


def entry(line: str) -> str:
    """Return a line below a section as an item of a list, or as the next line of one."""
    if line.startswith("        "):
        return "  " + line.strip()
    name, colon, rest = line.strip().partition(": ")
    return f"- `{name}`: {rest}" if colon else f"- {line.strip()}"


def first_sentence(node: ast.Module) -> str:
    """Return the first line of a docstring."""
    return (ast.get_docstring(node) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
