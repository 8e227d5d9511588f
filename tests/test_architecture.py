"""The shape of the code, as docs and house rules promise it: read from the sources, not from memory."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from blemore_harness.cli import cli
from source_tree import CORE, OURS, ROOT, core_graph, imports_of, name_of, sources, tree

BUNDLED = sorted(path.parent.name for path in OURS.glob("*/__init__.py"))

LAYERS: dict[str, tuple[str, ...]] = {
    "errors": ("errors",),
    "nouns, and files read and written": ("clips", "predictions", "cache", "disk", "options", "processes"),
    "the official rules": ("protocol", "decoding"),
    "contract and help for plugin authors": (
        "context", "record", "hookspecs", "executors", "pooling", "networks", "media", "heads", "training",
        "estimators",
    ),
    "data and files": ("data", "demo", "files"),
    "systems": ("systems",),
    "numbers": ("scoring",),
    "drawing": ("drawing",),
    "evaluation": ("running", "pipeline", "doctor"),
    "conformance": ("testing", "scaffold"),
    "Python": ("api", "blemore_harness"),
    "command line": ("cli", "__main__"),
}  # fmt: skip
"""Modules and packages import from their own layer and from layers above them in this list, down to `errors`."""

HEAVY = {
    "altair", "av", "boto3", "botocore", "facenet_pytorch", "google.genai", "huggingface_hub", "jinja2", "mlflow",
    "openai", "optuna", "pandas", "pyarrow", "ray", "safetensors", "sentence_transformers", "sqlalchemy", "submitit",
    "tensorboard", "timm", "torch", "torchaudio", "torchvision", "trackio", "transformers", "vl_convert", "wandb",
}  # fmt: skip
"""Packages that listing plugins must never load."""

ROOMS = 32
"""Modules and packages at the top of the core, at most: what a newcomer has to find a way through."""

LINES = 400
"""Of a module that holds one idea."""

CONTRACT_LINES = 450
"""Of `hookspecs`: everything that a plugin author must read stands in one module."""

FUNCTION_LINES = 60
"""Of the longest function of the main loop."""


def layer_of(module: str) -> int | None:
    short = module.removeprefix("blemore_harness.").partition(".")[0]
    return next((i for i, names in enumerate(LAYERS.values()) if short in names), None)


def test_core_imports_go_one_way() -> None:
    graph = core_graph()
    assert len(graph) > 30
    homeless = [module for module in graph if layer_of(module) is None]
    assert homeless == [], "give a new module a layer"
    upward = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if (layer_of(other) or 0) > (layer_of(module) or 0)
    ]
    assert upward == []


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same graph with every package of the core as one node."""
    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        room = room_of(module)
        found.setdefault(room, set()).update({room_of(other) for other in others} - {room, "blemore_harness"})
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("shape", [lambda graph: graph, rooms], ids=["modules", "packages"])
def test_core_imports_have_no_circle(shape: Callable[[dict[str, set[str]]], dict[str, set[str]]]) -> None:
    graph = shape(core_graph())
    done: set[str] = set()

    def visit(node: str, way: tuple[str, ...]) -> None:
        assert node not in way, " -> ".join((*way, node))
        if node not in done:
            for other in sorted(graph[node]):
                visit(other, (*way, node))
            done.add(node)

    for node in graph:
        visit(node, ())


def names_of(path: Path) -> set[str]:
    """What a module defines at its top level, in its classes or in its functions."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_names_are_imported_from_where_they_are_defined() -> None:
    """A package may offer names of its modules; a module offers its own."""
    modules = {name_of(path): path for path in sources(CORE, OURS) if path.name != "__init__.py"}
    defined = {module: names_of(path) for module, path in modules.items()}
    wrong = [
        f"{path.name}: {alias.name} from {node.module}"
        for path in sources(CORE, OURS, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module in modules
        for alias in node.names
        if alias.name not in defined[str(node.module)]
    ]
    assert wrong == []


def test_core_does_not_know_our_plugins() -> None:
    own = {*BUNDLED, "simulate"}
    assert {"blemore_plugins", "blemore_lab", "blemore_pages", "blemore_tuning"} <= own
    for path in sources(CORE):
        text = path.read_text(encoding="utf-8")
        assert {name for name in own if re.search(rf"\b{name}\b", text)} == set(), path


def documented() -> dict[str, set[str]]:
    """What the reference documents: public names by module."""
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return {f"blemore_harness.{name}": reference.offered_names(name) for name in reference.MODULES}


def test_bundled_plugins_import_only_what_the_reference_documents() -> None:
    known = documented()
    wrong = []
    for path in sources(OURS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                wrong += [f"{path}: {a.name}" for a in node.names if a.name.startswith("blemore_harness")]
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("blemore_harness"):
                allowed = known.get(str(node.module), set())
                wrong += [f"{path}: {node.module}.{alias.name}" for alias in node.names if alias.name not in allowed]
    assert wrong == []


def test_what_the_reference_documents_is_there() -> None:
    for module, names in documented().items():
        assert {name for name in names if not hasattr(importlib.import_module(module), name)} == set(), module


def test_the_top_level_is_what_plugin_authors_import_and_the_pipeline() -> None:
    top = {path.stem for path in CORE.glob("*.py")} - {"__init__", "__main__"}
    public = {module.removeprefix("blemore_harness.") for module in documented()}
    assert top - public == {"pipeline"}
    packages = {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert len(top | packages) <= ROOMS


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_core_and_plugins_loads_nothing_heavy() -> None:
    modules = [name_of(path) for path in sources(CORE)]
    modules += [name_of(path) for path in sources(OURS) if path.parent.parent == OURS or path.name == "__init__.py"]
    code = (
        "import importlib, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[2:]:\n"
        "    importlib.import_module(name)\n"
        "    for heavy in json.loads(sys.argv[1]):\n"
        "        if heavy in sys.modules: found.setdefault(heavy, name)\n"
        "print(json.dumps(found))\n"
    )
    assert json.loads(run_python(code, json.dumps(sorted(HEAVY)), *sorted(modules))) == {}


def commands(group: click.Group = cli, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*way, name))
        else:
            yield (*way, name)


@pytest.mark.parametrize("way", [(), ("data",), *commands()], ids=" ".join)
def test_help_loads_neither_arrays_nor_plugins(way: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from blemore_harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*{'numpy', 'pluggy', 'rich', 'blemore_plugins', 'torch'} & set(sys.modules))\n"
    )
    *text, loaded = run_python(code, *way, "--help").splitlines()
    assert text[0].startswith("Usage:")
    assert loaded == ""


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield f"raise {ast.unparse(node.exc).partition('(')[0]}"


PROCESSES = {"worker.py", "launch.py", "slurm_job.py"}
"""Modules whose functions are the main program of a worker or a job, which ends by itself."""


def test_only_the_command_line_prints_and_exits() -> None:
    forbidden = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "raise SystemExit", "os.abort"}
    for path in sources(CORE, OURS):
        if CORE / "cli" not in path.parents and path.name != "commands.py":
            wrong = {call for call in calls(path) if call in forbidden or call.startswith(("click.", "sys.stdout"))}
            assert wrong - ({"os._exit", "print", "sys.exit"} if path.name in PROCESSES else set()) == set(), path
            assert "click" not in {name.partition(".")[0] for name in imports_of(path, set())}, path


def test_modules_fit_in_a_head() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources(CORE, OURS)
        if (count := len(path.read_text(encoding="utf-8").splitlines()))
        >= (CONTRACT_LINES if path == CORE / "hookspecs.py" else LINES)
    }
    assert long == {}


def functions_of(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("path", [CORE / "pipeline.py", *sources(CORE / "running")], ids=lambda path: path.stem)
def test_a_function_of_the_main_loop_fits_on_a_screen(path: Path) -> None:
    long = {
        node.name: lines
        for node in functions_of(path)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    }
    assert long == {}


def test_the_pipeline_draws_nothing_and_names_its_steps_on_top() -> None:
    path = CORE / "pipeline.py"
    known = {name_of(other) for other in sources(CORE)}
    rooms_used = {room_of(name) for name in imports_of(path, known)}
    assert rooms_used & {"blemore_harness.drawing", "blemore_harness.cli", "rich"} == set()
    functions = {node.name: node for node in functions_of(path)}
    body = functions["evaluate"].body
    called = [node.func.id for step in body for node in ast.walk(step) if is_call_by_name(node)]  # type: ignore[attr-defined]
    steps = [name for name in called if name in functions and name != "_looks_at_other_test_clips"]
    assert len(steps) >= 5
    text = ast.get_docstring(tree(path)) or ""
    places = [text.find(f"`{name}`") for name in steps]
    assert -1 not in places, dict(zip(steps, places, strict=True))
    assert places == sorted(places), "the docstring names the steps in their order"


def is_call_by_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


MUTABLE_CALLS = {"list", "dict", "set", "defaultdict", "Counter", "OrderedDict", "deque", "bytearray"}


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE_CALLS
    return isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def test_no_state_at_module_level() -> None:
    """Module-level lists, dicts and sets are constants in upper case; nothing rebinds, fills or remembers."""
    changers = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear", "remove"}
    for path in sources(CORE, OURS):
        module = tree(path)
        names = set()
        for node in module.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and is_mutable(getattr(node, "value", None)):
                    assert target.id.isupper() or target.id == "__all__", f"{path}: {target.id}"
                    names.add(target.id)
        for inner in ast.walk(module):
            assert not isinstance(inner, ast.Global), f"{path}: global {getattr(inner, 'names', '')}"
            if isinstance(inner, ast.Attribute) and inner.attr in changers and isinstance(inner.value, ast.Name):
                assert inner.value.id not in names, f"{path}: {ast.unparse(inner)}"
            if isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store | ast.Del):
                assert ast.unparse(inner.value) not in names, f"{path}: {ast.unparse(inner)}"
        remembering = {"cache", "lru_cache", "cached_property"}
        imported = {
            alias.name
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom) and node.module == "functools"
            for alias in node.names
        }
        assert not imported & remembering, f"{path}: caches are files named by digests"


def test_no_work_at_import() -> None:
    """At module level stand definitions, constants and docstrings; no loops, no `with`, no bare calls."""
    allowed = (
        ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If, ast.Expr,
    )  # fmt: skip
    for path in sources(CORE, OURS):
        for node in tree(path).body:
            where = f"{path}:{node.lineno}"
            assert isinstance(node, allowed), where
            if isinstance(node, ast.If):
                assert ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"), where
            if isinstance(node, ast.Expr):
                freezes = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith(".setflags")
                assert isinstance(node.value, ast.Constant) or freezes, where


def undocumented(node: ast.AST, where: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
        if not ast.get_docstring(child) and not any(name.endswith((".setter", "overload")) for name in decorators):
            yield f"{where}: {child.name}"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{where}: {child.name}")


def test_everything_public_says_what_it_is_for() -> None:
    missing = []
    for path in sources(CORE, OURS):
        module = tree(path)
        where = str(path.relative_to(ROOT))
        if not ast.get_docstring(module):
            missing.append(where)
        missing += undocumented(module, where)
    assert missing == []


def test_every_command_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [" ".join(way) for way in commands() if f"blemore-harness {' '.join(way)}" not in text]
    assert missing == []


def test_sources_hold_no_unfinished_business() -> None:
    for path in [*sources(CORE, OURS), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]:
        text = path.read_text(encoding="utf-8")
        for word in ("TODO", "FIXME", "XXX", "NotImplementedError", "\N{EM DASH}"):
            assert word not in text, f"{path}: {word}"
