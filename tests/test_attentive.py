"""Attentive pooling and the weighted sum of layers, against torch's attention, literal loops and numpy's statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.errors import ConfigError, DataError, InvalidOption
from blemore_harness.heads.fitting import fit_head, fit_heads, fit_heads_together, load_head
from blemore_harness.heads.frames import ClipFrames, FrameReader, FrameSource
from blemore_harness.heads.options import HeadOptions
from blemore_harness.pooling import pool_statistics
from blemore_harness.predictions import Embeddings
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.resolved import find_systems
from blemore_harness.systems.submission import Submission
from blemore_harness.testing import Session, Subject, check_subject
from blemore_plugins.features.options import FeatureOptions
from fakes import LABELS, make_context, make_fold

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

from blemore_harness.heads.attention import attend, build_pool, centre, describe, pool_frames  # noqa: E402

WIDTH, LAYERS, PARTS = 12, 3, 3
SMALL = HeadOptions("attentive", hidden="16-8", epochs=5, patience=5, batch_size=8, learning_rate=1e-2)
LENGTHS = (1, 2, 3, 7, 20)


def ragged(*shape: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(3, 2, size=(length, *shape)).astype(np.float32) for length in LENGTHS]


def padded(clips: list[np.ndarray], filling: float = 0.0, more: int = 0) -> torch.Tensor:
    frames = torch.full((len(clips), max(map(len, clips)) + more, *clips[0].shape[1:]), filling)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return frames


def centred(clips: list[np.ndarray]) -> list[np.ndarray]:
    return [clip - clip.mean(axis=0) for clip in clips]


# The pool


def test_attention_is_that_of_torch():
    clips, rng = ragged(WIDTH), np.random.default_rng(1)
    queries = torch.from_numpy(rng.normal(size=(2, WIDTH)).astype(np.float32))
    scale = torch.from_numpy(rng.uniform(0.5, 2, WIDTH).astype(np.float32))
    theirs = torch.nn.MultiheadAttention(WIDTH, 1, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(WIDTH).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(WIDTH))
        frames = padded(clips) / scale
        away = torch.arange(frames.shape[1]) >= torch.tensor(LENGTHS)[:, None]
        attended = theirs(queries.expand(len(clips), -1, -1), frames, frames, key_padding_mask=away)[0]
        found = attend(padded(centred(clips)), torch.tensor(LENGTHS), queries, scale)
    means = torch.stack([torch.from_numpy(clip.mean(axis=0)) for clip in clips]) / scale
    torch.testing.assert_close(found, (attended - means[:, None]).flatten(1), rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_a_literal_loop():
    clips, rng = ragged(WIDTH), np.random.default_rng(1)
    queries, scale = rng.normal(size=(2, WIDTH)), rng.uniform(0.5, 2, WIDTH)
    found = attend(
        padded(centred(clips)), torch.tensor(LENGTHS), *(torch.from_numpy(x).float() for x in (queries, scale))
    )
    for clip, row in zip(clips, found, strict=True):
        expected = []
        for query in queries:
            scores = [np.exp(sum(frame / scale * query) / np.sqrt(WIDTH)) for frame in clip.astype(float)]
            mean = sum(score * frame for score, frame in zip(scores, clip, strict=True)) / sum(scores)
            expected.append((mean - clip.mean(axis=0)) / scale)
        np.testing.assert_allclose(row, np.concatenate(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("parts", [1, PARTS])
def test_statistics_with_gradients_are_those_of_the_encoders(parts):
    clips = ragged(LAYERS, WIDTH)
    pool = build_pool(0, (LAYERS, WIDTH), parts, 0.0)
    found = pool_frames(pool, [torch.from_numpy(clip) for clip in clips]).detach()
    expected = np.stack([pool_statistics(clip.mean(axis=1), parts) for clip in clips])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("filling", [1e9, float("nan"), float("inf")])
def test_padding_changes_nothing(filling):
    clips = ragged(WIDTH)
    lengths = torch.tensor(LENGTHS)
    for more in (0, 5):
        other = padded(clips, filling, more)
        assert (centre(other, lengths)[:, max(LENGTHS) :] == 0).all()
        torch.testing.assert_close(centre(other, lengths)[:, : max(LENGTHS)], padded(centred(clips)))
        torch.testing.assert_close(describe(other, lengths), describe(padded(clips), lengths), rtol=1e-5, atol=1e-6)


def test_attention_of_a_clip_is_the_same_beside_longer_ones():
    clips = [torch.from_numpy(clip) for clip in centred(ragged(WIDTH))]
    pool = build_pool(2, (WIDTH,), 1)
    torch.nn.init.normal_(pool.queries, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        single = torch.cat([pool_frames(pool, [clip]) for clip in clips])
        torch.testing.assert_close(pool_frames(pool, clips), single, rtol=1e-5, atol=1e-6)
    assert (single[1:] != 0).all()


def test_training_starts_at_the_statistics_and_every_parameter_has_a_gradient():
    """Also from a clip of one frame, and features that do not vary."""
    clips = ragged(LAYERS, WIDTH)
    clips[2][:, :, 0] = 1.0
    pool = build_pool(2, (LAYERS, WIDTH), 1, 0.5)
    given = pool_frames(pool, [torch.from_numpy(clip) for clip in clips], torch.Generator().manual_seed(0))
    assert given.shape == (len(LENGTHS), pool.width) == (len(LENGTHS), 9 * WIDTH)
    np.testing.assert_allclose(given[:, 7 * WIDTH :].detach(), 0, atol=1e-6)
    (given * torch.randn(given.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for parameter in (pool.queries, pool.layer_weights):
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad != 0).all()


def test_dropout_leaves_out_differences_and_makes_up_for_them():
    clips = [torch.from_numpy(clip) for clip in ragged(WIDTH)[1:]]
    pool = build_pool(50, (WIDTH,), 1, 0.4)
    torch.nn.init.normal_(pool.queries, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, dropped = pool_frames(pool, clips), pool_frames(pool, clips, torch.Generator().manual_seed(0))
    left = dropped != 0
    assert left.float().mean().item() == pytest.approx(0.6, abs=0.03)
    torch.testing.assert_close(dropped[left], (whole / 0.6)[left])


# Heads with a pool


def labelled(fold: Fold) -> dict[str, np.ndarray]:
    """The label of every clip by its id, as `make_fold` numbers them."""
    return {clip.id: LABELS[int(clip.id[1:].split("o")[0]) % len(LABELS)] for clip in (*fold.train, *fold.held_out)}


def hidden_in_time(fold: Fold) -> FrameSource:
    """Frames of which one says the emotions, and is marked; the others, which are not, say any."""
    labels = labelled(fold)

    def read(clip: Clip) -> np.ndarray:
        rng = np.random.default_rng(list(clip.id.encode()))
        frames = np.zeros((int(rng.integers(6, 14)), 7), dtype=np.float32)
        frames[:, :6] = LABELS[rng.integers(len(LABELS), size=len(frames))] / 50
        marked = rng.integers(len(frames))
        frames[marked] = [*labels[clip.id] / 50, 3]
        return frames + rng.normal(0, 0.05, frames.shape).astype(np.float32)

    return FrameSource(read)


def hidden_in_layers(fold: Fold) -> FrameSource:
    """Four layers of frames, of which the second says the emotions and the others are noise."""
    labels = labelled(fold)

    def read(clip: Clip) -> np.ndarray:
        rng = np.random.default_rng(list(clip.id.encode()))
        frames = rng.normal(0, 2, (int(rng.integers(4, 9)), 4, 6))
        frames[:, 1] = labels[clip.id] / 100 + rng.normal(0, 0.1, (len(frames), 6))
        return frames.astype(np.float16)

    return FrameSource(read, layers=True, parts=2)


def embedder(source: FrameSource):
    def embed(clips: Clips) -> Embeddings:
        found = [source.read(clip).astype(np.float32) for clip in clips]
        found = [frames.mean(axis=1) if source.layers else frames for frames in found]
        rows = [pool_statistics(frames, source.parts) for frames in found]
        return Embeddings(clips.ids, np.stack(rows))

    return embed


def right(model, fold: Fold, context) -> float:
    """Share of held-out clips whose largest probability is a largest share of their label."""
    rows, labels = model.predict(fold.held_out, context).values, labelled(fold)
    hits = [labels[name][row.argmax()] == labels[name].max() for name, row in zip(fold.held_out.ids, rows, strict=True)]
    return float(np.mean(hits))


LEARNS = HeadOptions("attentive", hidden="32", epochs=40, patience=40, batch_size=32, learning_rate=1e-2)


def test_attention_finds_the_frame_that_matters(tmp_path):
    fold, context = make_fold(250, 50, actors=10), make_context(tmp_path)
    source = hidden_in_time(fold)
    embed = embedder(source)
    attentive = right(fit_head(embed, fold, LEARNS, context, source), fold, context)
    statistics = right(fit_head(embed, fold, replace(LEARNS, queries=0), context), fold, context)
    assert attentive >= 0.9 > statistics + 0.15


def test_the_weighted_sum_finds_the_layer_that_matters(tmp_path):
    fold, context = make_fold(150, 50, actors=10), make_context(tmp_path)
    source = hidden_in_layers(fold)
    model = fit_head(embedder(source), fold, replace(LEARNS, queries=0), context, source)
    weights = model.network.pool.layer_weights.softmax(dim=0)
    assert weights.argmax().item() == 1
    assert right(model, fold, context) >= 0.9


@pytest.fixture(params=["frames", "layers"])
def source(request):
    return {"frames": hidden_in_time, "layers": hidden_in_layers}[request.param](make_fold(40, 12))


@pytest.fixture
def always(monkeypatch):
    """Attention is used whether it is of use or not."""
    monkeypatch.setattr("blemore_harness.heads.models.measure_gain", lambda *given: (1.0, 0.0))


def folds_of(*sizes: int) -> list[Fold]:
    folds = []
    for number, size in enumerate(sizes):
        whole = make_fold(size, 12)
        rename = [replace(clip, id=f"{clip.id}of{number}") for clip in whole.train]
        folds.append(Fold(number, Clips(tuple(rename), whole.train.actors, whole.train.labels), whole.held_out))
    return folds


def test_folds_trained_together_are_those_trained_one_by_one(tmp_path, always):
    folds = folds_of(40, 33, 25)
    for make in (hidden_in_time, hidden_in_layers):
        source = make(Fold(0, Clips(sum((fold.train.items for fold in folds), ())), folds[0].held_out))
        embed = embedder(source)
        contexts = [make_context(tmp_path / str(k), seed=100 + k) for k in range(len(folds))]
        together = fit_heads_together(lambda clips, _, e=embed: e(clips), folds, SMALL, contexts, lambda _, s=source: s)
        single = fit_heads(lambda clips, _, e=embed: e(clips), folds, SMALL, contexts, lambda _, s=source: s)
        for fold, one, other, context in zip(folds, together, single, contexts, strict=True):
            assert one.epochs == other.epochs
            rows = (model.predict(fold.held_out, context).values for model in (one, other))
            np.testing.assert_allclose(*rows, rtol=0, atol=1e-4)


def test_predictions_depend_on_the_own_clip_only_and_a_kept_head_gives_the_same_bits(tmp_path, source, always):
    fold, context = make_fold(40, 12), make_context(tmp_path)
    embed = embedder(source)
    model = fit_head(embed, fold, SMALL, context, source)
    whole = model.predict(fold.held_out, context).values
    for k in (0, 5, 11):
        assert (model.predict(fold.held_out.take([k]), context).values == whole[k]).all()
    assert (model.predict(fold.held_out.take([7, 3]), context).values == whole[[7, 3]]).all()
    folder = tmp_path / "kept"
    folder.mkdir()
    model.save(folder)
    assert (load_head(folder, embed, context, source).predict(fold.held_out, context).values == whole).all()


def test_the_seed_decides_and_what_is_kept_in_memory_does_not(tmp_path, source, monkeypatch, always):
    fold = make_fold(40, 12)
    embed = embedder(source)

    def fit(seed: int) -> np.ndarray:
        context = make_context(tmp_path, seed=seed)
        return fit_head(embed, fold, SMALL, context, source).predict(fold.held_out, context).values

    first = fit(3)
    assert (fit(3) == first).all()
    assert (fit(4) != first).any()
    monkeypatch.setattr("blemore_harness.heads.fitting.FrameReader", lambda *given, **_: FrameReader(*given, room=5000))
    assert (fit(3) == first).all()


def test_the_epoch_is_chosen_by_the_harness_where_the_papers_way_is_asked_for(tmp_path, source):
    fold, asked = make_fold(40, 12), []

    class Answer:
        score = 0.5

    def score(rows):
        asked.append(rows.values)
        return Answer

    context = make_context(tmp_path, score=score)
    options = replace(SMALL, selection="held-out")
    model = fit_head(embedder(source), fold, options, context, source)
    assert len(asked) == SMALL.epochs
    np.testing.assert_array_equal(model.predict(fold.held_out, context).values, asked[0])


@pytest.mark.parametrize(("gain", "error", "used"), [(0.02, 0.01, True), (0.01, 0.01, False), (0.1, np.inf, False)])
def test_attention_that_gains_no_standard_error_on_other_actors_is_left_out(tmp_path, monkeypatch, gain, error, used):
    fold, asked = make_fold(40, 12, actors=10), []
    source = hidden_in_time(fold)
    embed = embedder(source)

    def measure(clips, rows, others):
        asked.append((clips, rows, others))
        return gain, error

    monkeypatch.setattr("blemore_harness.heads.models.measure_gain", measure)
    context, plain = make_context(tmp_path), make_context(tmp_path)
    model = fit_head(embed, fold, SMALL, context, source)
    statistics = fit_head(embed, fold, replace(SMALL, queries=0), plain)
    [(clips, rows, others)] = asked
    assert set(clips.actors) < set(fold.train.actors)
    assert (rows != others).any()
    noted = context.reporter.notes["attention"]
    assert noted == {"gain": gain, "standard error": error if np.isfinite(error) else None, "used": used}
    found, expected = (each.predict(fold.held_out, context).values for each in (model, statistics))
    assert (found == expected).all() == (not used)
    assert context.reporter.notes["epochs"] == (model if used else statistics).epochs
    folder = tmp_path / "kept"
    folder.mkdir()
    model.save(folder)
    assert (load_head(folder, embed, context, source).predict(fold.held_out, context).values == found).all()


def test_folds_with_attention_and_without_are_trained_together(tmp_path, monkeypatch):
    """Whether one of them uses it depends on the fold alone."""
    folds = folds_of(40, 33, 25)
    source = hidden_in_time(Fold(0, Clips(sum((fold.train.items for fold in folds), ())), folds[0].held_out))
    embed = embedder(source)
    monkeypatch.setattr("blemore_harness.heads.models.measure_gain", lambda clips, *_: (len(clips) - 5.5, 0.0))
    contexts = [make_context(tmp_path / str(k), seed=100 + k) for k in range(len(folds))]
    together = fit_heads_together(lambda clips, _: embed(clips), folds, SMALL, contexts, lambda _: source)
    single = [fit_head(embed, fold, SMALL, context, source) for fold, context in zip(folds, contexts, strict=True)]
    assert [hasattr(model.network, "pool") for model in together] == [True, True, False]
    for fold, one, other, context in zip(folds, together, single, contexts, strict=True):
        rows = (model.predict(fold.held_out, context).values for model in (one, other))
        np.testing.assert_allclose(*rows, rtol=0, atol=1e-4)


# Reading


def read_all(folder, *arrays: np.ndarray, layers: bool = False) -> ClipFrames:
    clips = Clips(tuple(Clip(f"c{number}") for number in range(len(arrays))))
    by_id = dict(zip(clips.ids, arrays, strict=True))
    return ClipFrames(FrameReader(FrameSource(lambda clip: by_id[clip.id], layers), "cpu"), clips)


def test_the_scale_is_the_standard_deviation_over_all_frames(tmp_path):
    clips = ragged(WIDTH)
    for clip in clips:
        clip[:, 0] = 1e6
    shape, scale = read_all(tmp_path, *clips).measure()
    expected = np.concatenate(clips).astype(float).std(axis=0)
    assert shape == (WIDTH,)
    assert scale[0] == 1
    np.testing.assert_allclose(scale[1:], expected[1:], rtol=1e-6)
    clips = [clip.astype(np.float16) for clip in ragged(LAYERS, WIDTH)]
    shape, scale = read_all(tmp_path, *clips, layers=True).measure()
    assert shape == (LAYERS, WIDTH)
    np.testing.assert_allclose(scale, np.concatenate(clips).astype(float).mean(axis=1).std(axis=0), rtol=1e-6)


def test_frames_are_read_once_as_far_as_they_fit_and_let_go_of(tmp_path, always):
    fold, read = make_fold(40, 12), []
    source = hidden_in_time(fold)
    counted = FrameSource(lambda clip: read.append(clip.id) or source.read(clip))
    model = fit_head(embedder(source), fold, SMALL, make_context(tmp_path), counted)
    assert sorted(read) == sorted(fold.train.ids), "one reading for choosing the epoch, training, and training again"
    model.predict(fold.held_out, make_context(tmp_path))
    model.predict(fold.held_out, make_context(tmp_path))
    assert len(read) == len(fold.train) + 2 * len(fold.held_out)


@pytest.mark.parametrize(
    ("arrays", "layers", "words"),
    [
        ([np.ones((3, 4)), np.ones((3, 5))], False, r"c1.*\(4,\).*\(5,\)"),
        ([np.ones((3, 4)), np.ones((0, 4))], False, r"c1.*\(0, 4\)"),
        ([np.ones((3, 4))], True, r"c0.*\(T, L, D\).*\(3, 4\)"),
        ([np.ones((3, 2, 4))], False, r"c0.*\(T, D\).*\(3, 2, 4\)"),
        ([np.full((3, 4), np.nan)], False, "c0.*NaN"),
    ],
)
def test_frames_that_cannot_be_used_are_named(tmp_path, arrays, layers, words):
    with pytest.raises(DataError, match=words):
        read_all(tmp_path, *(array.astype(np.float32) for array in arrays), layers=layers).measure()


# Options


def test_queries_come_with_the_head_and_can_be_set(tmp_path):
    assert (HeadOptions().queries, HeadOptions("attentive").queries, HeadOptions("mlp-512", queries=1).queries) == (
        0, 2, 1
    )  # fmt: skip
    with pytest.raises(InvalidOption, match=r"queries.*-1"):
        HeadOptions(queries=-1)
    for wrong in ({"source": "statistics"}, {"rows": "embeddings"}):
        with pytest.raises(InvalidOption, match=r"queries: 2"):
            FeatureOptions("attentive", **wrong)
    with pytest.raises(DataError, match="queries: 2"):
        fit_head(lambda clips: None, make_fold(40, 0), SMALL, make_context(tmp_path))


@pytest.mark.parametrize("name", ["gemini", "prosody+wav2vec2"])
def test_an_encoder_without_frames_is_told_of_those_that_have_some(name):
    submission = Submission("x", encoders=(name,), fusion=None, options={name: {"head": "attentive"}})
    with pytest.raises(
        ConfigError, match=f"'{name.replace('+', '[+]')}' has no frame-level features.*prosody, .*wavlm"
    ):
        find_systems(submission, load_plugins({}), demo=False)


@pytest.mark.slow
def test_an_encoder_with_an_attentive_head_keeps_the_contract(tmp_path):
    pytest.importorskip("librosa")
    pytest.importorskip("av")
    system = load_plugins({}).encoder("prosody").system
    options = {"head": "attentive", "hidden": "64", "epochs": 25, "patience": 10}
    verdicts = list(check_subject(Subject(system, options), Session(tmp_path)))
    assert [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if not verdict.good] == []
    assert sum(verdict.status == "passed" for verdict in verdicts) >= 15
