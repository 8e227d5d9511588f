"""Other corpora: what is read of them and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import EMOTIONS
from blemore_harness.data.download import Dataset
from blemore_harness.data.inspection import inspect_dataset, render_inspection
from blemore_harness.errors import BlemoreError, ConfigError, DataError, MetadataError, UnknownName
from blemore_harness.systems.datasets import read_data
from builders import put, write_download
from corpus_files import write_crema, write_ravdess


def label_of(dataset: Dataset, name: str) -> str:
    row = dataset.truth[dataset.ids.index(name)]
    assert sorted(row.tolist()) == [0, 0, 0, 0, 0, 100]
    return EMOTIONS[int(row.argmax())]


def test_crema_d(tmp_path: Path) -> None:
    """Six classes by name; the video is used where there is one, and the audio file where there is none."""
    folder = write_crema(tmp_path / "CREMA-D")
    (folder / "VideoFlash" / "1001_DFA_SAD_XX.flv").unlink()
    put(folder / "AudioWAV" / "1001_ITH_SAD_X.wav")  # one released name is short of a letter
    dataset = read_data(f"crema-d:{folder}")
    assert len(dataset.ids) == 37
    assert dataset.corpus == "crema-d"
    labels = {"ANG": "ang", "DIS": "disg", "FEA": "fea", "HAP": "hap", "NEU": "neu", "SAD": "sad"}
    for code, emotion in labels.items():
        assert label_of(dataset, f"1003_DFA_{code}_XX") == emotion
    assert dataset.actors[dataset.ids.index("1003_DFA_SAD_XX")] == "1003"
    assert dataset.videos["1002_DFA_SAD_XX"].name == "1002_DFA_SAD_XX.flv"
    assert dataset.videos["1001_DFA_SAD_XX"].name == "1001_DFA_SAD_XX.wav"
    assert not any("more than once" in text for text in dataset.warnings)
    assert any("37 of the 7442 clips" in text for text in dataset.warnings)
    assert not dataset.blends.any()
    # The folder of one kind of file will do.
    assert len(read_data(f"crema-d:{folder / 'VideoFlash'}").ids) == 35


def test_ravdess(tmp_path: Path) -> None:
    """Calm and surprised have no class: they are counted, named and left out. One file of a performance is used."""
    folder = write_ravdess(tmp_path / "ravdess")
    home = folder / "Actor_01"
    (home / "01-01-05-01-02-01-01.mp4").rename(home / "03-01-05-01-02-01-01.wav")
    dataset = read_data(f"ravdess:{folder}")
    assert len(dataset.ids) == 6 * 6
    labels = {"01": "neu", "03": "hap", "04": "sad", "05": "ang", "06": "fea", "07": "disg"}
    for code, emotion in labels.items():
        assert label_of(dataset, f"01-{code}-01-02-01-04") == emotion
    assert set(dataset.actors) == {f"{number:02d}" for number in range(1, 7)}
    assert dataset.videos["01-05-01-02-01-02"].name == "01-01-05-01-02-01-02.mp4"
    assert dataset.videos["01-05-01-02-01-01"].name == "03-01-05-01-02-01-01.wav"
    assert any("calm (6 clips), surprised (6 clips)" in text for text in dataset.warnings)


def test_folds_are_actor_disjoint_and_follow_the_seed(tmp_path: Path) -> None:
    folder = write_crema(tmp_path, actors=15)
    one, two, three = (read_data(f"crema-d:{folder}", seed) for seed in (0, 0, 1))
    assert one.fold_source == "made"
    assert (one.folds == two.folds).all()
    assert (one.folds != three.folds).any()
    fold_of: dict[str, int] = {}
    for actor, fold in zip(one.actors, one.folds.tolist(), strict=True):
        assert fold_of.setdefault(actor, fold) == fold
    assert np.bincount(one.folds).tolist() == [18] * 5


def test_strange_files_are_named(tmp_path: Path) -> None:
    folder = write_crema(tmp_path)
    put(folder / "VideoFlash" / "1001_DFA_ANG_XX.mp4")
    put(folder / "VideoFlash" / "1099_DFA_ANG_XX.flv")
    put(folder / "VideoFlash" / "._1001_DFA_ANG_XX.flv")
    put(folder / "VideoFlash" / "1002_IEO_ANG_HI.flv").write_bytes(b"")
    warnings = "\n".join(read_data(f"crema-d:{folder}").warnings)
    assert "1099_DFA_ANG_XX.flv" in warnings
    assert "1002_IEO_ANG_HI.flv" in warnings
    assert "1001_DFA_ANG_XX.flv and" in warnings
    assert "._1001" not in warnings


@pytest.mark.parametrize(
    ("said", "error", "found"),
    [
        ("crema:{}", UnknownName, "crema-d"),
        ("crema-d:", ConfigError, "crema-d:FOLDER"),
        ("crema-d:{}/gone", DataError, "does not exist"),
        ("crema-d:{}/empty", DataError, "1001_DFA_ANG_XX.flv"),
        ("ravdess:{}", DataError, "24 media files"),
        ("crema-d:{}/few", MetadataError, "found 2"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, said: str, error: type[BlemoreError], found: str) -> None:
    write_crema(tmp_path / "few", actors=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=found):
        read_data(said.format(tmp_path))


def test_inspection(tmp_path: Path) -> None:
    dataset = read_data(f"ravdess:{write_ravdess(tmp_path)}")
    found = inspect_dataset(dataset)
    text = render_inspection(found)
    assert found["corpus"] == "ravdess"
    assert "36" in text
    assert "calm (6 clips)" in text
    assert "metadata" not in text
    assert found["test_clips_missing"]["missing"] == 0


def test_extra_train_is_refused_where_it_would_leak(tmp_path: Path) -> None:
    data, crema = write_download(tmp_path / "data"), f"crema-d:{write_crema(tmp_path / 'crema')}"
    assert [each.corpus for each in read_data(data, extra=[crema]).extra] == ["crema-d"]
    with pytest.raises(ConfigError, match="held-out clips would be trained on"):
        read_data(crema, extra=[crema])
    with pytest.raises(ConfigError, match="more than once"):
        read_data(data, extra=[crema, crema])
    with pytest.raises(ConfigError, match="NAME:FOLDER"):
        read_data(data, extra=[data])


def test_a_corpus_that_is_only_trained_on_may_have_fewer_actors_than_folds(tmp_path: Path) -> None:
    few = f"crema-d:{write_crema(tmp_path / 'few', actors=2)}"
    with pytest.raises(MetadataError, match="at least 5 actors, found 2"):
        read_data(few)
    scored = f"ravdess:{write_ravdess(tmp_path / 'scored')}"
    assert len(read_data(scored, extra=[few]).extra[0].ids) == 12
