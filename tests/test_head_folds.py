"""Heads of several folds trained at once against the same heads trained one by one, and against torch's optimisers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.heads import fitting
from blemore_harness.heads.fitting import fit_head, fit_heads, fit_heads_together
from blemore_harness.heads.options import HeadOptions
from blemore_harness.heads.training import Task, train_heads
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import build_mlp, training_logits
from blemore_harness.predictions import Embeddings
from blemore_harness.protocol.thresholds import search_official
from fakes import LABELS, make_context, make_fold

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

SMALL = HeadOptions(hidden="16-8", epochs=6, patience=3, batch_size=8, learning_rate=1e-2)
SIZES = (40, 33, 25, 48, 41)
"""Different numbers of batches, last batches of one clip (33, 41 and 25) and none."""


def embed(clips: Clips) -> Embeddings:
    values = [np.random.default_rng([1, *clip.id.encode()]).normal(3, 2, size=12) for clip in clips]
    return Embeddings(clips.ids, np.array(values, dtype=np.float32).reshape(len(clips), 12))


def make_folds(sizes=SIZES) -> list[Fold]:
    folds = []
    for number, size in enumerate(sizes):
        whole = make_fold(size, 20)
        rename = [replace(clip, id=f"{clip.id}of{number}") for clip in whole.train]
        folds.append(Fold(number, Clips(tuple(rename), whole.train.actors, whole.train.labels), whole.held_out))
    return folds


def make_contexts(folder, folds, **changes):
    truth = LABELS[np.arange(20) % len(LABELS)].astype(np.int8)

    def score(rows):
        asked = rows.aligned([f"h{number}" for number in range(20)])
        return search_official(asked.values, truth).scores

    return [make_context(folder / str(k), seed=100 + k, score=score, **changes) for k in range(len(folds))]


@pytest.mark.parametrize(
    "options",
    [
        SMALL,
        replace(SMALL, refit=False),
        replace(SMALL, selection="held-out"),
        replace(SMALL, dropout=0.0, optimiser="adam"),
        HeadOptions(head="mlp-512", hidden="8", epochs=5, batch_size=8, learning_rate=1e-2, dropout=0.2),
        HeadOptions(head="linear", epochs=5, batch_size=8, learning_rate=1e-2, selection="held-out"),
    ],
)
def test_folds_trained_together_are_the_folds_trained_one_by_one(tmp_path, options):
    folds = make_folds()
    contexts, alone = make_contexts(tmp_path / "a", folds), make_contexts(tmp_path / "b", folds)
    together = fit_heads_together(lambda clips, _: embed(clips), folds, options, contexts)
    for fold, model, context, other in zip(folds, together, contexts, alone, strict=True):
        single = fit_head(embed, fold, options, other)
        assert single.epochs == model.epochs
        notes, others = dict(context.reporter.notes), dict(other.reporter.notes)
        assert notes.keys() == others.keys()
        assert notes.pop("epochs") == others.pop("epochs")
        for name, note in notes.items():
            assert len(note["curve"]["epochs"]) >= 1
            for axis, values in note["curve"].items():
                assert values == pytest.approx(others[name]["curve"][axis], abs=1e-4)
        expected = single.predict(fold.held_out, other)
        given = model.predict(fold.held_out, context)
        assert given.ids == expected.ids
        np.testing.assert_allclose(given.values, expected.values, rtol=0, atol=1e-5)
        np.testing.assert_allclose(model.scaler.mean, single.scaler.mean, rtol=0)


@pytest.mark.parametrize("options", [SMALL, replace(SMALL, selection="held-out", refit=False)])
@pytest.mark.parametrize("cores", [2, 3, 16])
def test_folds_on_threads_are_the_folds_trained_alone_bit_for_bit(tmp_path, monkeypatch, options, cores):
    monkeypatch.setattr(fitting, "_count_cores", lambda: cores)
    folds = make_folds()
    contexts, alone = make_contexts(tmp_path / "a", folds), make_contexts(tmp_path / "b", folds)
    threads = torch.get_num_threads()
    models = list(fit_heads(lambda clips, _: embed(clips), folds, options, contexts))
    assert torch.get_num_threads() == threads
    for fold, model, context, other in zip(folds, models, contexts, alone, strict=True):
        single = fit_head(embed, fold, options, other)
        assert context.reporter.notes == other.reporter.notes
        assert context.reporter.done == other.reporter.done
        expected = single.predict(fold.held_out, other).values
        np.testing.assert_array_equal(model.predict(fold.held_out, context).values, expected)


def test_on_threads_as_many_folds_are_begun_as_there_are_cores(tmp_path, monkeypatch):
    """Of five folds on two cores two are trained first; the other three share the cores, so that none is idle."""
    monkeypatch.setattr(fitting, "_count_cores", lambda: 2)
    folds = make_folds()
    contexts = make_contexts(tmp_path, folds)
    models = iter(fit_heads(lambda clips, _: embed(clips), folds, SMALL, contexts))
    begun = []
    for _ in folds:
        next(models)
        begun.append(sum(context.reporter.done > 0 for context in contexts))
    assert begun == [2, 2, 5, 5, 5]


def test_an_epoch_that_fails_on_a_thread_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_count_cores", lambda: 2)
    folds = make_folds()

    def refuse(rows):
        raise ValueError("no score")

    contexts = [replace(context, score=refuse) for context in make_contexts(tmp_path, folds)]
    with pytest.raises(ValueError, match="no score"):
        list(fit_heads(lambda clips, _: embed(clips), folds, replace(SMALL, selection="held-out"), contexts))


def test_a_final_fit_among_folds_chooses_inside_as_it_does_alone(tmp_path):
    options = replace(SMALL, selection="held-out")
    folds = make_folds()[:3]
    contexts = make_contexts(tmp_path, folds)
    contexts[1] = make_context(tmp_path, seed=101, final=True)
    models = fit_heads_together(lambda clips, _: embed(clips), folds, options, contexts)
    for fold, model, context in zip(folds, models, contexts, strict=True):
        single = fit_head(embed, fold, options, context)
        assert single.epochs == model.epochs
        np.testing.assert_allclose(
            model.predict(fold.held_out, context).values, single.predict(fold.held_out, context).values, atol=1e-5
        )


def test_each_fold_stops_by_its_own_patience_and_goes_no_further(tmp_path):
    """Fold 0 is best at once, fold 1 gets better and better, fold 2 is best in its second epoch."""
    answers = [[9, 1, 1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8], [1, 5, 2, 2, 2, 2, 2, 2]]
    folds, options = make_folds()[:3], replace(SMALL, epochs=8, patience=2, selection="held-out")
    asked = [[], [], []]

    def scorer(k):
        def score(rows):
            asked[k].append(rows.values)
            return SimpleNamespace(score=answers[k][len(asked[k]) - 1])

        return score

    contexts = [make_context(tmp_path / str(k), seed=k, score=scorer(k)) for k in range(3)]
    models = fit_heads_together(lambda clips, _: embed(clips), folds, options, contexts)
    assert [len(rows) for rows in asked] == [3, 8, 4]
    assert [model.epochs for model in models] == [1, 8, 2]
    assert [context.reporter.done for context in contexts] == [3, 8, 4]
    for k, (fold, model) in enumerate(zip(folds, models, strict=True)):
        rows = model.predict(fold.held_out, contexts[k]).values
        np.testing.assert_array_equal(rows, asked[k][model.epochs - 1])


def test_a_fold_without_a_batch_left_is_not_stepped(tmp_path):
    """Its weights, moments and step count are those of torch's own optimiser on its own batches."""
    rng = np.random.default_rng(0)
    counts, options = (8, 21, 30), HeadOptions(head="mlp-512", hidden="5", epochs=4, batch_size=8, learning_rate=1e-2)
    for optimiser in ("adam", "adamw"):
        settings = replace(options, optimiser=optimiser, weight_decay=0.1)
        tasks = [
            Task(
                torch.from_numpy(rng.normal(size=(count, 7)).astype(np.float32)),
                torch.from_numpy((LABELS[np.arange(count) % 5] / 100).astype(np.float32)),
                settings,
                make_context(tmp_path, seed=k),
                None,
            )
            for k, count in enumerate(counts)
        ]
        for k, (task, head) in enumerate(zip(tasks, train_heads(tasks), strict=True)):
            torch.manual_seed(k)
            network = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.ReLU(), torch.nn.Linear(5, 6))
            kind = torch.optim.Adam if optimiser == "adam" else torch.optim.AdamW
            literal = kind(network.parameters(), lr=1e-2, weight_decay=0.1)
            order = torch.Generator().manual_seed(k)
            for _ in range(4):
                for part in torch.randperm(counts[k], generator=order).split(8):
                    literal.zero_grad()
                    logs = network(task.inputs[part]).log_softmax(1)
                    torch.nn.functional.kl_div(logs, task.targets[part], reduction="batchmean").backward()
                    literal.step()
            for given, expected in zip(head.network.parameters(), network.parameters(), strict=True):
                torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_several_networks_at_once_are_torchs_own_layers(training):
    torch.manual_seed(0)
    networks = [build_mlp(7, (6, 5), batch_norm=True, dropout=0.0).double().train(training) for _ in range(3)]
    others = [build_mlp(7, (6, 5), batch_norm=True, dropout=0.0).double().train(training) for _ in range(3)]
    for network, other in zip(networks, others, strict=True):
        for value in (*network.parameters(), network[1].running_mean):
            value.data.normal_()
        other.load_state_dict(network.state_dict())
    inputs = torch.randn(3, 9, 7, dtype=torch.float64)
    given = training_logits(networks, inputs, [torch.Generator()] * 3)
    expected = torch.stack([other(rows) for other, rows in zip(others, inputs, strict=True)])
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-10)
    given.square().sum().backward()
    expected.square().sum().backward()
    for network, other in zip(networks, others, strict=True):
        for one, two in zip(network.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=1e-10)
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(network[1], name), getattr(other[1], name))


def test_dropout_is_the_same_in_any_company():
    networks = [build_mlp(7, (64,), batch_norm=False, dropout=0.4).train() for _ in range(3)]
    inputs = torch.randn(3, 9, 7)

    def chances():
        return [torch.Generator().manual_seed(k) for k in range(3)]

    together = training_logits(networks, inputs, chances())
    for k, chance in enumerate(chances()):
        torch.testing.assert_close(training_logits([networks[k]], inputs[k : k + 1], [chance])[0], together[k])
    again = training_logits(networks, inputs, [torch.Generator().manual_seed(9)] * 3)
    assert not torch.equal(again, together)


def test_the_global_state_is_left_alone_and_the_bits_are_the_same_again(tmp_path):
    folds = make_folds()[:2]
    torch.manual_seed(99)
    before = torch.get_rng_state()

    def rows():
        models = fit_heads_together(lambda clips, _: embed(clips), folds, SMALL, make_contexts(tmp_path, folds))
        return [model.predict(fold.held_out, None).values for model, fold in zip(models, folds, strict=True)]

    first = rows()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(100)
    np.testing.assert_array_equal(first, rows())


# Where it is chosen


class Vectors(Encoder):
    """An encoder that has embeddings only, and remembers with which contexts it was asked."""

    name, summary, modality, Options = "vectors", "noise", "video", HeadOptions

    def embed(self, clips, options, context):
        return embed(clips)


class Own(Vectors):
    """One that fits by itself."""

    def fit(self, fold, options, context):
        return super().fit(fold, options, context)


def test_on_a_cpu_folds_are_trained_one_by_one(tmp_path):
    folds = make_folds()
    contexts = make_contexts(tmp_path, folds)
    for models in (
        fit_heads(lambda clips, _: embed(clips), folds, SMALL, contexts),
        Vectors().fit_folds(folds, SMALL, contexts),
        Own().fit_folds(folds, SMALL, contexts),
    ):
        assert isinstance(models, Iterator), "each is trained when it is taken"
        for fold, context, model in zip(folds, contexts, models, strict=True):
            alone = Vectors().fit(fold, SMALL, context).predict(fold.held_out, context)
            assert (model.predict(fold.held_out, context).values == alone.values).all()


def test_on_a_gpu_the_default_fit_trains_together_and_others_do_not(tmp_path, monkeypatch):
    """Which device is asked for decides; that there is none here is hidden from torch."""
    folds = make_folds()
    contexts = [replace(context, device="cuda") for context in make_contexts(tmp_path, folds)]
    given = []

    def together(embed_with, *rest):
        given.append((embed_with(folds[0].held_out, contexts[0]).ids, *rest))
        return ["models"]

    monkeypatch.setattr("blemore_harness.heads.fitting.fit_heads_together", together)
    assert Vectors().fit_folds(folds, SMALL, contexts) == ["models"]
    assert [each[:-1] for each in given] == [(folds[0].held_out.ids, folds, SMALL, contexts)]
    assert given[0][-1](contexts[0]) is None, "no frames for a head without queries"
    assert isinstance(Vectors().fit_folds(folds[:1], SMALL, contexts[:1]), Iterator)
    assert isinstance(Own().fit_folds(folds, SMALL, contexts), Iterator)
