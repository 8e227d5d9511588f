"""Released features as embeddings: against literal statistics; every damage named, over all clips, before training."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import DataError, InvalidOption, MediaError
from blemore_plugins.features.encoder import FeatureEncoder
from blemore_plugins.features.options import FeatureOptions
from fakes import RecordingReporter, make_context
from released_files import (
    feature_path,
    literal_statistics,
    put_features,
    write_aggregate,
    write_released,
    write_store,
)

WIDTH = 4


class Family(FeatureEncoder):
    """A family of the base class alone."""

    name = "family"
    summary = "released features"
    modality = "audio"
    store = "WavLM_large"
    statistics_store = "wavlm_static_features"
    width = WIDTH


class Extracting:
    """An extractor that counts."""

    def caveat(self, options: Any) -> str | None:
        return "untrained small encoders"

    def identify(self, options: Any) -> Mapping[str, object]:
        return {"model": "small"}

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        store = self.open_store(options, context)
        for clip in store.missing(clips):
            store.save(clip, np.full((2, 3), 5, dtype=np.float32))

    def open_store(self, options: Any, context: Context) -> Store:
        return context.cache.store("extracted")


class Extractable(Family):
    """The same family where its features can be made."""

    extractor = Extracting()


RELEASED = FeatureOptions(source="released")
STATISTICS = FeatureOptions(source="statistics")
MEDIA = FeatureOptions(source="media")
FIRST = "A1_ang_int1_ver1"


def view_of(data: Path) -> BlindedDataset:
    """The view, with all released features in their places."""
    blinded = blind_dataset(read_dataset(data), data.parent / "cache")
    for store in blinded.feature_sets:
        blinded.publish_feature_set(store)
    return blinded


def complaint(data: Path, encoder: FeatureEncoder, options: Any = RELEASED) -> str:
    """What `prepare` says, with real names."""
    blinded = view_of(data)
    with pytest.raises(MediaError) as caught:
        encoder.prepare(blinded.everything(), options, make_context(data.parent))
    assert caught.value.clip in blinded.real
    return blinded.translate(str(caught.value))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_released(tmp_path / "data", {"WavLM_large": WIDTH})
    return tmp_path / "data"


def save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def test_vectors_are_the_literal_statistics_of_what_was_released(tmp_path: Path) -> None:
    arrays = write_released(tmp_path / "data", {"WavLM_large": WIDTH})["WavLM_large"]
    names = sorted(arrays)
    kinds = {
        names[0]: arrays[names[0]][:, None],  # VideoMAEv2's (T, 1, D)
        names[1]: arrays[names[1]].astype(np.float64),
        names[2]: arrays[names[2]].astype(np.float16),
        names[3]: (arrays[names[3]] * 10).astype(np.int32),
        names[4]: np.asfortranarray(arrays[names[4]]),
        names[5]: arrays[names[5]][:1],
    }
    write_store(tmp_path / "data", "WavLM_large", kinds)
    blinded = view_of(tmp_path / "data")
    context = make_context(tmp_path)
    family = Family()
    family.prepare(blinded.everything(), RELEASED, context)
    given = family.embed(blinded.everything(), RELEASED, context)
    assert given.ids == blinded.everything().ids
    for name, vector in zip(given.ids, given.values, strict=True):
        frames = kinds.get(blinded.real[name], arrays[blinded.real[name]])
        frames = frames[:, 0] if frames.ndim == 3 else frames
        np.testing.assert_allclose(vector, literal_statistics(frames.astype(np.float64)), rtol=1e-5, atol=1e-6)
    clip = next(clip for clip in blinded.everything() if blinded.real[clip.id] == names[0])
    assert np.array_equal(family.frame_features(clip, RELEASED, context), arrays[names[0]])
    assert family.embed(Clips(()), RELEASED, context).values.shape[0] == 0


def test_a_clip_without_features_is_named_and_counted(data: Path) -> None:
    for name in (FIRST, "A1_disg_int1_ver1", "test_0002"):
        feature_path(data, "WavLM_large", name).unlink()
    # Known from its video alone.
    (data / "test_0002.mov").write_bytes(b"video")
    text = complaint(data, Family())
    assert "3 clips (first: '" in text
    assert "of 32 without features in 'WavLM_large': expected a file <clip id> in pre_extracted_train_data/" in text
    assert "media" not in text
    assert "--set family.source=media to extract them" in complaint(data, Extractable())


def archive(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.savez(held, X=array)
    return held.getvalue()


def saved(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


GOOD = saved(np.zeros((3, WIDTH), dtype=np.float32))

DAMAGES = {
    "width": (saved(np.zeros((3, 5))), r"expected features \(T, 4\) with T at least 1 .* found \(3, 5\)"),
    "flat": (saved(np.zeros(WIDTH)), r"expected features \(T, 4\) .* found \(4,\)"),
    "number": (saved(np.float32(1)), r"expected features .* found \(\)"),
    "cube": (saved(np.zeros((3, 2, WIDTH))), r"expected features .* found \(3, 2, 4\)"),
    "rows": (saved(np.zeros((0, WIDTH))), r"found \(0, 4\)"),
    "columns": (saved(np.zeros((3, 0))), r"found \(3, 0\)"),
    "nan": (saved(np.array([[0, np.nan, 0, np.inf]])), "hold 2 NaN or infinite of 4 values"),
    "overflow": (saved(np.full((1, WIDTH), 1e300)), "hold 4 NaN or infinite of 4 values"),
    "complex": (saved(np.zeros((1, WIDTH), dtype=complex)), "complex128"),
    "text": (saved(np.array([["a"] * WIDTH])), "<U1"),
    "fields": (saved(np.zeros(3, dtype=[("å", "f4")])), "real numbers"),
    "objects": (saved(np.array([{"a": 1}], dtype=object)), "hold Python objects, which are not read because"),
    "pickle": (pickle.dumps([[0.0] * WIDTH]), "a pickle"),
    "archive": (archive(np.zeros((3, WIDTH))), "an archive"),
    "empty": (b"", "an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "else": (b"not found", "another file type"),
    "cut": (GOOD[:-4], "are damaged"),
    "header": (GOOD[:40], "are damaged"),
    "version": (GOOD[:6] + b"\x09\x00" + GOOD[8:], "are damaged"),
    "promise": (
        GOOD.replace(b"(3, 4), }       ", b"(33333333, 4), }"),
        r"are damaged \(mmap length is greater than file size\)",
    ),
    "negative": (GOOD.replace(b"(3, 4)", b"(3,-4)"), "are damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_has_its_reason(tmp_path: Path, damage: str) -> None:
    content, reason = DAMAGES[damage]
    path = put_features(tmp_path, "WavLM_large", "x", content) if content else feature_path(tmp_path, "s", "x")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    clip = Clip("c1", None, {"WavLM_large": path}, "1")
    with pytest.raises(MediaError, match=reason) as caught:
        Family().frame_features(clip, RELEASED, make_context(tmp_path))
    assert caught.value.clip == "c1"
    assert str(caught.value).startswith("clip c1: ")
    assert "in 'WavLM_large'" in str(caught.value)


def test_all_clips_are_looked_at_before_anything_is_said(data: Path, tmp_path: Path) -> None:
    for name in (FIRST, "A2_sad_int1_ver1", "test_0001"):
        put_features(data, "WavLM_large", name, GOOD[:-4])
    text = complaint(data, Family())
    assert text.endswith("(3 of 32 clips cannot be used)")
    assert sum(1 for path in (tmp_path / "cache" / "statistics").rglob("*.npy")) == 29


def test_widths_must_agree_where_none_is_documented(data: Path) -> None:
    class Unknown(Family):
        width = None

    write_store(data, "WavLM_large", {FIRST: np.zeros((3, 5)), "test_0001": np.ones((2, 6))})
    text = complaint(data, Unknown())
    assert text.startswith("expected the same D for all clips in 'WavLM_large', found 4 in 30 clips and ")
    assert "in 2 clips (first: '" in text


def test_statistics_are_taken_once_and_again_when_the_file_changes(data: Path, tmp_path: Path) -> None:
    class Counting(Family):
        def __init__(self) -> None:
            self.reads: list[str] = []

        def read(self, clip: Clip, options: Any) -> np.ndarray:
            self.reads.append(clip.id)
            return super().read(clip, options)

    family, blinded, context = Counting(), view_of(data), make_context(tmp_path)
    clips = blinded.everything()
    family.prepare(clips, RELEASED, context)
    before = family.embed(clips, RELEASED, context)
    assert sorted(family.reads) == sorted(clips.ids)
    write_store(data, "WavLM_large", {FIRST: np.full((9, WIDTH), 3.0)})
    changed = view_of(data)
    after = family.embed(changed.everything(), RELEASED, make_context(tmp_path))
    [number] = np.flatnonzero((after.values != before.values).any(axis=1))
    assert blinded.real[clips.ids[number]] == FIRST
    np.testing.assert_array_equal(after.values[number], literal_statistics(np.full((9, WIDTH), 3.0)))
    assert len(family.reads) == len(clips) + 1


def test_auto_takes_the_first_source_that_there_is() -> None:
    auto = FeatureOptions()
    embeddings = replace(auto, rows="embeddings")
    for feature_sets, family, options, expected in (
        ({"WavLM_large", "wavlm_static_features"}, Family(), auto, "released"),
        ({"wavlm_static_features"}, Family(), auto, "statistics"),
        ({"wavlm_static_features"}, Extractable(), auto, "statistics"),
        ({"wavlm_static_features"}, Extractable(), embeddings, "media"),
        ({"WavLM_large"}, Extractable(), embeddings, "released"),
        (set(), Extractable(), auto, "media"),
        (set(), Family(), auto, "released"),
        ({"HiCMAE"}, Family(), embeddings, "released"),
        ({"WavLM_large"}, Extractable(), MEDIA, "media"),
        (set(), Family(), STATISTICS, "statistics"),
    ):
        settled = family.resolve_options(options, frozenset(feature_sets))
        assert settled == replace(options, source=expected), (feature_sets, expected)
        asked = {"released": ("WavLM_large",), "statistics": ("wavlm_static_features",), "media": ()}[expected]
        assert family.feature_sets(settled) == asked
        marked = expected == "media"
        assert family.caveat(settled) == ("untrained small encoders" if marked else None)
        assert family.identify(settled) == ({"model": "small"} if marked else {})


def test_sources_and_rows_that_cannot_be_had() -> None:
    class Private(Extractable):
        store = statistics_store = ""

    with pytest.raises(InvalidOption, match=r"'family'.*'media'.*auto, released, stat"):
        Family().resolve_options(MEDIA, frozenset())
    for source in ("released", "statistics"):
        with pytest.raises(InvalidOption, match=f"'{source}'.*auto, media"):
            Private().resolve_options(FeatureOptions(source=source), frozenset())
    assert Private().resolve_options(FeatureOptions(), frozenset({"WavLM_large"})).source == "media"
    with pytest.raises(InvalidOption, match="rows: 'embeddings'"):
        FeatureOptions(source="statistics", rows="embeddings")
    with pytest.raises(InvalidOption, match=r"'WavLM_large'.*'wavlm_static_features'"):
        Family().resolve_options(FeatureOptions(rows="embeddings"), frozenset({"wavlm_static_features"}))


def seen(clips: Clips) -> Clips:
    """The same clips, each with a video."""
    return replace(clips, items=tuple(replace(clip, video_file=Path("film.mov")) for clip in clips))


def test_extracted_features_are_described_like_released_ones(data: Path, tmp_path: Path) -> None:
    family, clips, context = Extractable(), seen(view_of(data).everything()), make_context(tmp_path)
    family.prepare(clips, MEDIA, context)
    (line,) = context.reporter.lines
    assert line.startswith("family: ")
    assert "'WavLM_large'" in line
    given = family.embed(clips, MEDIA, context)
    expected = literal_statistics(np.full((2, 3), 5.0))
    np.testing.assert_array_equal(given.values, np.tile(expected, (32, 1)))
    assert family.frame_features(clips.items[0], MEDIA, context).shape == (2, 3)
    with pytest.raises(DataError, match=r"family.*'WavLM_large'"):
        Family().prepare(clips, MEDIA, context)


def test_clips_without_a_video_are_refused_before_weights_are_fetched(data: Path, tmp_path: Path) -> None:
    class Fetching(Extracting):
        def prepare(self, clips: Clips, options: Any, context: Context) -> None:
            raise AssertionError("weights of some gigabytes")

    class Large(Family):
        extractor = Fetching()

    clips = view_of(data).everything()
    some = replace(clips, items=(*seen(clips).items[:30], *clips.items[30:]))
    said = (
        rf"2 clips \(first: '{clips.ids[30]}'\) of 32 .*\.mov or \.mp4"
        ".*, or released features in pre_extracted_train_data/WavLM_large_train"
    )
    with pytest.raises(MediaError, match=said):
        Large().prepare(some, MEDIA, make_context(tmp_path))


def test_aggregated_files_give_the_vectors_as_they_stand(tmp_path: Path) -> None:
    data = tmp_path / "data"
    frame_features = write_released(data, {"WavLM_large": WIDTH})["WavLM_large"]
    vectors = {name: literal_statistics(frames) for name, frames in frame_features.items()}
    write_aggregate(data / "wavlm_static_features.npz", vectors)
    blinded = view_of(data)
    family, context = Family(), make_context(tmp_path, reporter=RecordingReporter())
    clips = blinded.everything()
    assert family.resolve_options(STATISTICS, blinded.feature_sets) == STATISTICS
    family.prepare(clips, STATISTICS, context)
    given = family.embed(clips, STATISTICS, context)
    released = family.embed(clips, RELEASED, context)
    for name, vector in zip(given.ids, given.values, strict=True):
        np.testing.assert_array_equal(vector, vectors[blinded.real[name]].astype(np.float32))
    np.testing.assert_allclose(given.values, released.values, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"'wavlm_static_features'.*frame-level features"):
        family.frame_features(clips.items[0], STATISTICS, context)


def test_aggregated_rows_that_cannot_be_used(data: Path) -> None:
    names = [*read_dataset(data).ids, *read_dataset(data).test_ids]
    vectors = {name: np.ones(7 * WIDTH) for name in names[2:]}
    path = data / "wavlm_static_features.npz"

    def say(changed: Mapping[str, np.ndarray], encoder: FeatureEncoder) -> str:
        write_aggregate(path, changed)
        return complaint(data, encoder, STATISTICS)

    text = say(vectors, Family())
    assert "2 clips (first: '" in text
    assert "wavlm_static_features.npz" in text
    whole = {name: np.ones(7 * WIDTH) for name in names}
    text = say(whole | {FIRST: np.full(7 * WIDTH, np.nan)}, Family())
    assert text.startswith(f"clip {FIRST}: the features in 'wavlm_static_features' hold 28 NaN or infinite of 28")
    text = say({name: np.ones(7 * 5) for name in names}, Family())
    assert "expected 28 numbers in 'wavlm_static_features', found (35,)" in text
    assert "(32 of 32 clips cannot be used)" in text
