"""The published heads: their settings as options, and the organisers' training written out in plain torch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.heads.fitting import fit_head
from blemore_harness.heads.options import HEADS, HeadOptions
from blemore_harness.heads.scaling import fit_scaler
from blemore_harness.heads.subsampled import fit_head_on_rows
from blemore_harness.options import build_options, describe_options
from blemore_harness.predictions import Embeddings
from fakes import LABELS, make_context, make_fold
from golden import literal_protocol

PUBLISHED = {
    "mlp-512": ((512,), 200, 32),
    "mlp-256": ((256,), 200, 32),
    "linear": ((), 200, 32),
    "mlp-512-subsampled": ((512,), 300, 512),
    "mlp-1024-subsampled": ((1024,), 300, 512),
}

HELD_OUT = LABELS[np.arange(23) % len(LABELS)].astype(np.int8)


# Options


@pytest.mark.parametrize(("head", "expected"), PUBLISHED.items())
def test_the_organisers_heads_are_those_of_their_scripts(head, expected):
    options = HeadOptions(head=head)
    assert (options.widths, options.epochs, options.batch_size) == expected
    assert (options.batch_norm, options.dropout, options.patience) == (False, 0.0, expected[1])
    assert (options.optimiser, options.learning_rate, options.weight_decay) == ("adam", 5e-6, 1e-3)


def test_the_default_head_is_the_papers():
    options = HeadOptions()
    assert options == HeadOptions(head="mlp-1024-512")
    assert (options.widths, options.batch_norm, options.dropout) == ((1024, 512), True, 0.3)
    assert (options.epochs, options.patience) == (500, 80)
    assert set(HEADS) == {"mlp-1024-512", "attentive", *PUBLISHED}
    assert {name: value for name, value in HEADS["attentive"].items() if value != getattr(options, name)} == {
        "queries": 2
    }


def test_what_is_given_wins_over_the_head_even_where_it_looks_like_nothing():
    options = HeadOptions(head="mlp-512", hidden="", dropout=0.0, batch_norm=True, epochs=7)
    assert (options.widths, options.dropout, options.batch_norm, options.epochs) == ((), 0.0, True, 7)
    assert (options.learning_rate, options.batch_size) == (5e-6, 32)
    assert HeadOptions(weight_decay=0.0).weight_decay == 0


def test_a_head_that_trains_for_all_epochs_does_so_for_other_numbers_of_them():
    assert HeadOptions(head="linear", epochs=900).patience == 900
    assert HeadOptions(head="linear", epochs=900, patience=5).patience == 5
    assert HeadOptions(epochs=900).patience == 80


def test_replace_changes_what_it_names():
    options = replace(HeadOptions(head="mlp-256", dropout=0.1), epochs=3, selection="held-out")
    assert options == HeadOptions("mlp-256", dropout=0.1, epochs=3, patience=200, selection="held-out")


def test_options_are_read_from_text_and_told_in_full():
    options = build_options("x", HeadOptions, {"head": "mlp-512", "epochs": "3", "batch_norm": "yes", "hidden": 64})
    assert options == HeadOptions(head="mlp-512", epochs=3, batch_norm=True, hidden="64")
    assert build_options("x", HeadOptions, {"hidden": "", "refit": "no"}) == HeadOptions(hidden="", refit=False)
    told = describe_options(options)
    assert None not in told.values()
    assert build_options("x", HeadOptions, told) == options


@pytest.mark.parametrize(
    "wrong",
    [{"head": "mlp"}, {"optimiser": "sgd"}, {"selection": "test"}, {"hidden": "5-"}, {"epochs": 0}, {"dropout": -0.1}],
)
def test_bad_values_are_refused_by_name_directly_and_from_text(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(InvalidOption, match=name):
        HeadOptions(**wrong)
    with pytest.raises(InvalidOption, match=name):
        build_options("x", HeadOptions, {name: str(value)})


@pytest.mark.parametrize(("name", "value"), [("epochs", None), ("patience", "none"), ("dropout", "nan")])
def test_no_value_is_no_way_to_say_the_heads_own(name, value):
    with pytest.raises(InvalidOption, match=name):
        build_options("x", HeadOptions, {name: value})


# Standardisation


def strange_vectors(count: int, width: int = 12) -> np.ndarray:
    """Ordinary dimensions, and one that is constant, one of tiny numbers, one that varies little around much."""
    values = np.random.default_rng(0).normal(3, 2, size=(count, width)).astype(np.float32)
    values[:, 1] = 5.1
    values[:, 2] *= 1e-9
    values[:, 3] = 100 + values[:, 3] * 1e-3
    return values


def test_standardisation_is_sklearns():
    """On float64; for float32 its versions differ in whether the mean is rounded first, which ours is not."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train, others = strange_vectors(5000), strange_vectors(40)
    scaler, theirs = fit_scaler(train), preprocessing.StandardScaler().fit(train.astype(np.float64))
    assert scaler.scale[1] == theirs.scale_[1] == 1
    np.testing.assert_allclose(scaler.scale, theirs.scale_, rtol=1e-9)
    np.testing.assert_allclose(scaler.mean, theirs.mean_, rtol=1e-9)
    before = others.copy()
    given = scaler.apply(others)
    np.testing.assert_allclose(given, theirs.transform(others.astype(np.float64)), atol=1e-6)
    assert given.dtype == np.float32
    np.testing.assert_array_equal(others, before)


# Training


def standardised(train: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 0) of the training part; one that is zero counts as 1."""
    mean = train.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(((train - mean) ** 2).mean(axis=0))
    spread[train.min(axis=0) == train.max(axis=0)] = 1
    return ((train - mean) / spread).astype(np.float32), ((others - mean) / spread).astype(np.float32)


def official_score(rows: np.ndarray) -> float:
    """The official search by the literal loops."""
    truth = [{EMOTIONS[k]: int(v) for k, v in enumerate(label) if v} for label in HELD_OUT]
    found = literal_protocol.search(rows.tolist(), truth)
    return 0.5 * found["acc_presence"] + 0.5 * found["acc_salience"]


def train_as_they_do(inputs, targets, judge, *, hidden, rate, batch, epochs, seed):
    """The organisers' trainer in plain torch: gives what `judge` gives for the first network and after every epoch."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    width = inputs.shape[1]
    network = torch.nn.Linear(width, 6)
    if hidden:
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 6))
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=1e-3)
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)
    shuffle = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        found = [judge(network)]
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=shuffle)
        for start in range(0, len(inputs), batch):
            part = order[start : start + batch]
            optimiser.zero_grad()
            rows = torch.softmax(network(inputs[part]), dim=1).clamp(min=1e-8).log()
            torch.nn.functional.kl_div(rows, targets[part], reduction="batchmean").backward()
            optimiser.step()
        with torch.no_grad():
            found.append(judge(network))
    return found


@pytest.mark.encoders
@pytest.mark.parametrize("rate", [5e-6, 0.01])
@pytest.mark.parametrize(("head", "hidden"), [("mlp-512", 512), ("mlp-256", 256), ("linear", 0)])
def test_the_organisers_heads_are_their_training_loop(tmp_path, head, hidden, rate):
    """65 clips in batches of 32: the last batch is one clip. The best of three epochs on the held-out fold is kept."""
    torch = pytest.importorskip("torch")
    fold = make_fold(65, len(HELD_OUT))
    values = strange_vectors(65 + len(HELD_OUT), 84)
    position = {name: k for k, name in enumerate((*fold.train.ids, *fold.held_out.ids))}
    inputs, shown = standardised(values[:65], values[65:])
    epochs = train_as_they_do(
        inputs, fold.train.targets, lambda network: torch.softmax(network(torch.from_numpy(shown)), dim=1).numpy(),
        hidden=hidden, rate=rate, batch=32, epochs=3, seed=7,
    )  # fmt: skip
    asked = []

    def score(rows):
        asked.append(rows.aligned(fold.held_out.ids).values)
        return SimpleNamespace(score=official_score(asked[-1]))

    def embed(clips: Clips) -> Embeddings:
        return Embeddings(clips.ids, values[[position[name] for name in clips.ids]])

    settings = {"head": head, "epochs": "3", "selection": "held-out", "learning_rate": str(rate)}
    context = make_context(tmp_path, score=score)
    model = fit_head(embed, fold, build_options("x", HeadOptions, settings), context)
    assert len(asked) == 3
    for given, expected in zip(asked, epochs[1:], strict=True):
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 if rate == 0.01 else 1e-6)
    assert np.abs(epochs[3] - epochs[0]).max() > 10 * rate
    scores = [official_score(rows.astype(np.float64)) for rows in epochs[1:]]
    assert model.epochs == 1 + int(np.argmax(scores))
    kept = model.predict(fold.held_out, context).aligned(fold.held_out.ids).values
    np.testing.assert_allclose(kept, epochs[model.epochs], rtol=0, atol=1e-5)


@pytest.mark.encoders
def test_a_probability_below_the_clamp_teaches_nothing(tmp_path):
    """Their clamp at 1e-8 cuts the gradient of hopelessly wrong rows; so does ours."""
    torch = pytest.importorskip("torch")
    fold = make_fold(33, len(HELD_OUT))
    values = np.random.default_rng(3).normal(size=(33 + len(HELD_OUT), 6)).astype(np.float32)
    values[:33] += 30 * (np.arange(33) % 7 == 0)[:, None]
    position = {name: k for k, name in enumerate((*fold.train.ids, *fold.held_out.ids))}
    inputs, shown = standardised(values[:33], values[33:])
    expected = train_as_they_do(
        inputs, fold.train.targets, lambda network: torch.softmax(network(torch.from_numpy(shown)), dim=1).numpy(),
        hidden=0, rate=5.0, batch=32, epochs=4, seed=7,
    )  # fmt: skip
    asked = []

    def score(rows):
        asked.append(rows.aligned(fold.held_out.ids).values)
        return SimpleNamespace(score=len(asked))

    fit_head(
        lambda clips: Embeddings(clips.ids, values[[position[name] for name in clips.ids]]), fold,
        HeadOptions("linear", epochs=4, learning_rate=5.0, selection="held-out"), make_context(tmp_path, score=score),
    )  # fmt: skip
    assert min(rows.min() for rows in expected) < 1e-9
    for given, rows in zip(asked, expected[1:], strict=True):
        np.testing.assert_allclose(given, rows, rtol=0, atol=1e-5)


# Every embedding a row


def make_sequences(*parts: Clips, width: int = 12) -> dict[str, np.ndarray]:
    """Sequences of 1 to 9 embeddings by clip id."""
    clips = [clip.id for part in parts for clip in part]
    lengths = [1 + (5 * k) % 9 for k in range(len(clips))]
    rows = strange_vectors(sum(lengths), width)
    return dict(zip(clips, np.split(rows, np.cumsum(lengths)[:-1]), strict=True))


@pytest.mark.encoders
@pytest.mark.parametrize(("rate", "batch"), [(5e-6, 512), (0.01, 32)])
def test_the_subsampled_head_is_their_training_loop(tmp_path, rate, batch):
    torch = pytest.importorskip("torch")
    fold = make_fold(65, len(HELD_OUT))
    frame_features = make_sequences(fold.train, fold.held_out)
    train = np.concatenate([frame_features[name] for name in fold.train.ids])
    targets = np.concatenate(
        [[row] * len(frame_features[name]) for name, row in zip(fold.train.ids, fold.train.targets, strict=True)]
    )
    inputs, shown = standardised(train, np.concatenate([frame_features[name] for name in fold.held_out.ids]))
    lengths = [len(frame_features[name]) for name in fold.held_out.ids]

    def judge(network):
        clips = torch.split(network(torch.from_numpy(shown)), lengths)
        return torch.stack([torch.softmax(logits.mean(dim=0), dim=0) for logits in clips]).numpy()

    epochs = train_as_they_do(inputs, targets, judge, hidden=1024, rate=rate, batch=batch, epochs=3, seed=7)
    asked = []

    def score(rows):
        asked.append(rows.aligned(fold.held_out.ids).values)
        return SimpleNamespace(score=official_score(asked[-1]))

    options = HeadOptions("mlp-1024-subsampled", epochs=3, learning_rate=rate, batch_size=batch, selection="held-out")
    context = make_context(tmp_path, score=score)
    model = fit_head_on_rows(lambda clip: frame_features[clip.id], fold, options, context)
    for given, expected in zip(asked, epochs[1:], strict=True):
        np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5 if rate == 0.01 else 1e-6)
    assert np.abs(epochs[3] - epochs[0]).max() > 10 * rate
    kept = model.predict(fold.held_out, context).aligned(fold.held_out.ids).values
    np.testing.assert_array_equal(kept, asked[model.epochs - 1])


SMALL = HeadOptions("mlp-1024-subsampled", hidden="8", epochs=3, batch_size=64, learning_rate=1e-2)


@pytest.mark.encoders
def test_a_subsampled_clips_row_does_not_depend_on_its_company(tmp_path):
    pytest.importorskip("torch")
    fold = make_fold(30, 300)
    frame_features = make_sequences(fold.train, fold.held_out)
    model = fit_head_on_rows(lambda clip: frame_features[clip.id], fold, SMALL, make_context(tmp_path))
    rows = model.predict(fold.held_out, None).values
    for number in (0, 7, 255, 256, 299):
        np.testing.assert_array_equal(model.predict(fold.held_out.take([number]), None).values[0], rows[number])
    np.testing.assert_array_equal(model.predict(fold.held_out.take([299, 7]), None).values, rows[[299, 7]])
    assert model.predict(fold.held_out.take([]), None).values.shape == (0, 6)


@pytest.mark.encoders
def test_subsampled_training_keeps_checked_actors_apart_changes_no_sequence_and_says_its_epoch(tmp_path):
    pytest.importorskip("torch")
    fold, context = make_fold(30, 4), make_context(tmp_path)
    frame_features = make_sequences(fold.train, fold.held_out)
    before = {name: rows.copy() for name, rows in frame_features.items()}
    for rows in frame_features.values():
        rows.setflags(write=False)
    model = fit_head_on_rows(lambda clip: frame_features[clip.id], fold, replace(SMALL, refit=False), context)
    learn, _ = fold.train.inner_split(context.seed)
    learnt = np.concatenate([frame_features[name] for name in learn.ids]).astype(float)
    np.testing.assert_allclose(model.scaler.mean, learnt.mean(axis=0), rtol=1e-12)
    notes = context.reporter.notes
    assert notes.keys() == {"epochs", "training loss", "validation Score"}
    assert notes["epochs"] == model.epochs
    scores = notes["validation Score"]["curve"]["values"]
    assert scores[model.epochs - 1] == max(scores)
    refitted = fit_head_on_rows(lambda clip: frame_features[clip.id], fold, SMALL, make_context(tmp_path))
    assert refitted.epochs == model.epochs
    whole = np.concatenate([frame_features[name] for name in fold.train.ids]).astype(float)
    np.testing.assert_allclose(refitted.scaler.mean, whole.mean(axis=0), rtol=1e-12)
    assert all((rows == before[name]).all() for name, rows in frame_features.items())


@pytest.mark.encoders
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (np.zeros((0, 4), dtype=np.float32), r"found \(0, 4\)"),
        (np.zeros(4, dtype=np.float32), r"found \(4,\)"),
        (np.zeros((2, 5), dtype=np.float32), "as of the first clip, found 5"),
        (np.full((2, 4), np.nan, dtype=np.float32), "NaN or infinite"),
    ],
)
def test_a_sequence_of_another_shape_is_refused_with_its_clip(tmp_path, wrong, found):
    pytest.importorskip("torch")
    labels = LABELS[:3].astype(np.int8)
    fold = Fold(0, Clips((Clip("a"), Clip("b"), Clip("c")), ("A1", "A2", "A3"), labels), Clips((Clip("d"),)))
    context = make_context(tmp_path, final=True)

    def frame_features(clip):
        return wrong if clip.id == "c" else np.ones((3, 4), dtype=np.float32)

    with pytest.raises(DataError, match=rf"clip c: .*{found}"):
        fit_head_on_rows(frame_features, fold, replace(SMALL, selection="held-out"), replace(context, final=False))
