"""What stands between the harness and a plugin during a call: what it says is kept, what it raises is named."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from blemore_harness.context import Progress, Reporter
from blemore_harness.data.views import View
from blemore_harness.errors import (
    BlemoreError,
    ExtraMissing,
    HarnessError,
    InvalidEmbeddings,
    InvalidProbabilities,
    PluginFailed,
    RunError,
    advise,
    is_disk_trouble,
)
from blemore_harness.systems.resolved import Entrant


@dataclass
class Notebook:
    """Keeps what a plugin says for the record, and says it to the user, with real clip names."""

    reporter: Reporter
    translate: Callable[[str], str]
    notes: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    asked: int = 0

    def log(self, message: str) -> None:
        """Say one line."""
        self.reporter.log(self.translate(message))

    def warn(self, message: str) -> None:
        """Say and keep one line."""
        self.warnings.append(self.translate(message))
        self.reporter.warn(self.warnings[-1])

    def note(self, name: str, value: object) -> None:
        """Keep a fact."""
        self.notes[name] = json.loads(self.translate(json.dumps(value)))


class PluginReporter:
    """The reporting side as a plugin holds it: a way to the desk, none to labels or real names."""

    def __init__(self, ask: Callable[..., Any], reporter: Reporter, part: str) -> None:
        self._open_bar, self._part = reporter.progress, part
        self.log = partial(ask, "log")
        self.warn = partial(ask, "warn")
        self.note = partial(ask, "note")

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Open a bar that says which fold it is for."""
        return self._open_bar(f"{label} ({self._part})", total)


class Crash(Exception):
    """What became of a plugin in another process.

    Args:
        what: what happened, to be read behind the system's name.
        trace: its traceback, or the last lines that it printed.
    """

    def __init__(self, what: str, trace: str) -> None:
        super().__init__(what)
        self.what = what
        self.trace = trace


@contextmanager
def guard(entrant: Entrant, view: View, part: str) -> Iterator[None]:
    """Turn whatever a plugin raises into an error that names it, with real clip names.

    What the user can fix stays so; rows that are no probabilities, vectors that are none and anything unforeseen are
    the plugin's failure.
    """
    where = f"{entrant.name} ({part})"
    try:
        yield
    except (InvalidProbabilities, InvalidEmbeddings) as error:
        raise PluginFailed(f"{where}: {view.translate(str(error))}", entrant.name) from error
    except BlemoreError as error:
        message = view.translate(f"{entrant.name}: {error}")
        error.args = (message,)  # the same error, so that what a subclass adds is kept
        if str(error) != message:
            raise BlemoreError(message) from error
        raise
    except HarnessError:
        raise
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{where} needs the package '{error.name}': pip install 'blemore-harness[encoders]' "
            "(or what the plugin's own documentation says)"
        ) from error
    except Crash as error:
        what = view.translate(f"{where} {error.what}")
        raise PluginFailed(what, entrant.name, view.translate(error.trace)) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and is_disk_trouble(error):
            raise RunError(f"{where}: {view.translate(advise(error))}") from error
        trace = view.translate(traceback.format_exc())
        brief = view.translate(traceback.format_exception_only(error)[-1].strip())
        raise PluginFailed(f"{where} crashed: {brief}", entrant.name, trace) from error
