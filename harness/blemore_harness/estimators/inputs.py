"""Arrays that a function computes from clips, checked and kept in the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing, MediaError, PluginFailed
from blemore_harness.estimators.code import describe
from blemore_harness.media.audio import audio_key
from blemore_harness.media.frames import decoder_versions


class ClipArrays:
    """The arrays of a function of a clip.

    Args:
        name: of the encoder, for messages.
        function: turns a clip into an array, the same each time.
        version: raised by the author when the arrays change for a reason that the code of `function` does not show.
        kept: whether arrays are kept in the cache, or computed whenever they are needed.
    """

    def __init__(self, name: str, function: Callable[[Clip], Any], version: int, kept: bool) -> None:
        self._name, self._function, self._version, self._kept = name, function, version, kept
        self._facts: dict[str, object] | None = None

    def identify(self) -> dict[str, object]:
        """Return what the arrays depend on, as JSON types.

        The cache is opened with what was returned last, so that a function which changes its own module's variables
        finds its arrays again.
        """
        self._facts = {"function": describe(self._function), "version": self._version}
        return self._facts

    def prepare(self, clips: Clips, context: Context) -> None:
        """Compute the arrays that are not in the cache yet; without a cache, all of them, to find clips without one.

        Raises:
            MediaError: an array with values that are not finite.
            PluginFailed: not an array of numbers.
        """
        store = self._open(context)
        missing = store.missing(clips) if self._kept else list(clips)
        with context.progress(f"{self._name}: features", len(missing)) as bar:
            for clip in missing:
                array = self.compute(clip)
                if self._kept:
                    store.save(clip, array)
                bar.advance()

    def read(self, context: Context) -> Callable[[Clip], NDArray[Any]]:
        """Return a function that gives the array of a clip, from the cache after `prepare`."""
        return self._open(context).load if self._kept else self.compute

    def compute(self, clip: Clip) -> NDArray[Any]:
        """Call the function and check the array; decimal numbers become float32. Errors as of `prepare`."""
        given = self._function(clip)
        if hasattr(given, "detach"):
            given = given.detach().cpu()
        array = np.asarray(given)
        if array.dtype.kind not in "biuf" or not array.size:
            found = f"{array.dtype} of shape {array.shape}"
            raise PluginFailed(f"{self._name}: expected an array of numbers for a clip, found {found}", self._name)
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):  # beyond the range of float32: infinite, an error below
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise MediaError(f"clip {clip.id}: {self._name} computed values that are not finite", clip.id)
        return array

    def _open(self, context: Context) -> Store:
        decoders: list[object] = []
        with contextlib.suppress(ExtraMissing):  # then the function decodes nothing
            decoders = [decoder_versions(), audio_key()]
        return context.cache.store(self._name, decoders=decoders, **(self._facts or self.identify()))
