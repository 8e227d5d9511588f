"""Encoders that break while they work, each in its own way, from fold 1 on."""

import os
import signal
import sys
import time

import numpy as np

from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_harness.predictions import Probabilities


class Model:
    """Gives even rows."""

    def predict(self, clips, context):
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


class Breaking(Encoder):
    """Works at fold 0 and then breaks."""

    summary = "breaks from fold 1 on"
    modality = "audio"

    def fit(self, fold, options, context):
        sys.stderr.write(f"{self.name} was here\n")
        if fold.index != 0:
            self.break_down()
        return Model()

    def break_down(self):
        raise RuntimeError("as announced")


class Raises(Breaking):
    name = "broken-raises"


class Hangs(Breaking):
    name = "broken-hangs"

    def break_down(self):
        while True:
            time.sleep(1)


class Killed(Breaking):
    name = "broken-killed"

    def break_down(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Crashes(Breaking):
    name = "broken-segfault"

    def break_down(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class Leaves(Breaking):
    name = "broken-exits"

    def break_down(self):
        os._exit(7)


class Exits(Breaking):
    name = "broken-sys-exit"

    def break_down(self):
        sys.exit(0)


class Nan(Breaking):
    name = "broken-nan"

    def fit(self, fold, options, context):
        return self

    def predict(self, clips, context):
        return Probabilities(clips.ids, np.full((len(clips), 6), np.nan))


class Nothing(Breaking):
    name = "broken-nothing"

    def fit(self, fold, options, context):
        return self

    def predict(self, clips, context):
        return None


@hookimpl
def blemore_encoders():
    return [Raises(), Hangs(), Killed(), Crashes(), Leaves(), Exits(), Nan(), Nothing()]
