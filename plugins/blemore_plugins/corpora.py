"""Other corpora of acted emotions, read by the names of their files; both hold single emotions only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from blemore_harness.clips import Corpus, CorpusClip
from blemore_harness.hookspecs import hookimpl

VIDEO_ENDINGS = (".flv", ".mp4", ".mov")
AUDIO_ENDINGS = (".wav", ".mp3")


class CremaD(Corpus):
    """CREMA-D (Cao et al., 2014): 91 actors (1001 to 1091) speak 12 sentences in six emotions, which are BLEMORE's.

    A name is actor, sentence, emotion and level, as in `1001_DFA_ANG_XX.flv`. Videos lie in `VideoFlash` and have sound
    of their own; the sound alone lies in `AudioWAV` and `AudioMP3`, and is used where a clip has no video.
    """

    name: ClassVar[str] = "crema-d"
    summary: ClassVar[str] = "CREMA-D: 7,442 clips of 91 actors, six emotions, sentences"
    endings: ClassVar[tuple[str, ...]] = (*VIDEO_ENDINGS, *AUDIO_ENDINGS)
    example: ClassVar[str] = "1001_DFA_ANG_XX.flv"
    size: ClassVar[int] = 7442

    _NAME = re.compile(r"(10(?:0[1-9]|[1-8][0-9]|9[01]))_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
    _CLASSES: ClassVar = {"ANG": "ang", "DIS": "disg", "FEA": "fea", "HAP": "hap", "NEU": "neu", "SAD": "sad"}

    def read(self, folder: Path, files: Sequence[Path]) -> Iterator[CorpusClip]:
        """Return the clips by the names of their files."""
        for file in files:
            if found := self._NAME.fullmatch(file.stem):
                rank = 1 + AUDIO_ENDINGS.index(file.suffix.lower()) if _is_audio(file) else 0
                yield CorpusClip(file.stem, found[1], {self._CLASSES[found[3]]: 100}, file, rank=rank)


class Ravdess(Corpus):
    """RAVDESS (Livingstone and Russo, 2018): 24 actors speak and sing two sentences in eight emotions.

    A name is seven numbers: modality, vocal channel, emotion, intensity, statement, repetition, actor. A performance is
    there as audio with video (01), video only (02) and audio only (03): one file of it is used, in the order 01, 03,
    02. The challenge has no class for calm and surprised.
    """

    name: ClassVar[str] = "ravdess"
    summary: ClassVar[str] = "RAVDESS: 24 actors, six of its eight emotions, speech and song"
    endings: ClassVar[tuple[str, ...]] = (*VIDEO_ENDINGS, *AUDIO_ENDINGS)
    example: ClassVar[str] = "Actor_01/01-01-03-01-02-01-01.mp4"
    size: ClassVar[int] = 1056  # of speech: 44 with a class of each actor

    _NAME = re.compile(r"(0[123])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1[0-9]|2[0-4]))")
    _CLASSES: ClassVar = {"01": "neu", "03": "hap", "04": "sad", "05": "ang", "06": "fea", "07": "disg"}
    _OTHERS: ClassVar = {"02": "calm", "08": "surprised"}
    _RANKS: ClassVar = {"01": 0, "03": 1, "02": 2}

    def read(self, folder: Path, files: Sequence[Path]) -> Iterator[CorpusClip]:
        """Return the clips by the names of their files."""
        for file in files:
            if found := self._NAME.fullmatch(file.stem):
                emotions = {self._CLASSES[found[4]]: 100} if found[4] in self._CLASSES else {}
                other = self._OTHERS.get(found[4], "")
                yield CorpusClip(found[2], found[8], emotions, file, other=other, rank=self._RANKS[found[1]])


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in AUDIO_ENDINGS


@hookimpl
def blemore_corpora() -> list[Corpus]:
    """Offer both."""
    return [CremaD(), Ravdess()]
