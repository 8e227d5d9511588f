"""What the shell completes: plugins, options and their choices, submissions, runs.

Nothing that goes wrong in here is shown: a shell that completes has nobody to tell.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class, split_arg_string

if TYPE_CHECKING:
    from blemore_harness.systems.plugins import Plugins

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _quietly(find: Callable[[click.Context, str], Iterable[str]]) -> Completer:
    """Return a completer of what a function finds; none where it fails, and nothing that plugins print."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with (
            contextlib.suppress(Exception, SystemExit),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            return [CompletionItem(text) for text in find(context, incomplete) if text.startswith(incomplete)]
        return []

    return complete


def _load() -> Plugins:
    from blemore_harness.systems.plugins import load_plugins

    return load_plugins()


def _encoders(_context: click.Context, incomplete: str) -> Iterator[str]:
    """Complete the last of several names: `wavlm,s4`, `imagebind+wav`."""
    from blemore_harness.hookspecs import Encoder

    cut = max(incomplete.rfind(","), incomplete.rfind("+")) + 1
    for name, offers in sorted(_load().offers.items()):
        if isinstance(offers[0].system, Encoder):
            yield incomplete[:cut] + name


def _fusions(_context: click.Context, _incomplete: str) -> Iterator[str]:
    from blemore_harness.hookspecs import Fusion

    return (name for name, offers in sorted(_load().offers.items()) if isinstance(offers[0].system, Fusion))


def _systems(_context: click.Context, _incomplete: str) -> list[str]:
    return sorted(_load().offers)


def _trackers(_context: click.Context, incomplete: str) -> list[str]:
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in sorted(_load().trackers)]


def _settings(_context: click.Context, incomplete: str) -> Iterator[str]:
    """Complete `NAME.`, then `NAME.option=`, then what the option can be."""
    from blemore_harness.options import list_options
    from blemore_harness.systems.submission import plain_name

    offers = _load().offers
    name, dot, _ = incomplete.partition(".")
    if not dot:
        yield from (f"{known}." for known in sorted(offers))
        return
    for option in list_options(offers[plain_name(name)][0].system.Options):
        left = f"{name}.{option.name}="
        if incomplete.startswith(left):
            yield from (left + choice for choice in option.choices)
        else:
            yield left


def _submissions(_context: click.Context, _incomplete: str) -> list[str]:
    from blemore_harness.systems.submission import shipped_folder

    folders = (shipped_folder(), Path(), Path("submissions"))
    found = {path.stem for folder in folders for path in folder.glob("*.toml")}
    return sorted(found - {"blemore", "pyproject"})


def _runs(context: click.Context, _incomplete: str) -> list[str]:
    """Complete folders of runs below `--runs`, the environment's, the configuration's or the default one."""
    from blemore_harness.cli.defaults import config_files, read_defaults

    given = context.get_parameter_source("runs") in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    root = context.params["runs"] if given else read_defaults(config_files()).get("runs", "blemore-runs")
    root = Path(root[0] if isinstance(root, tuple) else root)
    return sorted(path.parent.name for path in root.glob("*/record.json"))


complete_encoders = _quietly(_encoders)
complete_fusions = _quietly(_fusions)
complete_systems = _quietly(_systems)
complete_settings = _quietly(_settings)
complete_submissions = _quietly(_submissions)
complete_runs = _quietly(_runs)
complete_trackers = _quietly(_trackers)


class EqualsBash(BashComplete):
    """Completion for bash, which takes `=` for the end of a word.

    Words around an equals sign are put together again, only what stands behind it is given back, and no space is added
    behind what goes on.
    """

    source_template = BashComplete.source_template.replace(
        "    return 0\n",
        "    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=.] ]]; then compopt -o nospace; fi\n    return 0\n",
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and that one, words around an equals sign as one."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        place = int(os.environ["COMP_CWORD"])
        words = [*words[:place], words[place] if place < len(words) else ""]
        joined: list[str] = []
        for word in words:
            if joined and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[1:-1], joined[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return one line for the shell, without what stands before the equals sign."""
        _, equals, value = str(item.value).partition("=")
        _, incomplete = self.get_completion_args()
        return f"{item.type},{value if equals and '=' in incomplete else item.value}"


class OpenZsh(ZshComplete):
    """Completion for zsh that adds no space behind what goes on."""

    source_template = ZshComplete.source_template.replace(
        "        compadd -U -V unsorted -a completions\n",
        "        local suffix=(-S ' ')\n"
        "        [[ ${completions[1]} == *[=.] ]] && suffix=(-S '')\n"
        "        compadd -U $suffix -V unsorted -a completions\n",
    )


def install() -> None:
    """Use these classes for bash and zsh; fish needs no other one."""
    add_completion_class(EqualsBash)
    add_completion_class(OpenZsh)
