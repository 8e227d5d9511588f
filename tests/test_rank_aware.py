"""Rank-aware fusion: gate, losses and rows against literal formulas; what it may look at; what it learns."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.errors import DataError, InvalidOption
from blemore_harness.hookspecs import FusionModel
from blemore_harness.predictions import Embeddings
from blemore_plugins.rank_aware import TRANSDUCTIVE, RankAwareFusion, RankAwareOptions, blemore_fusions
from fakes import RecordingReporter, make_context
from fusion_cases import make_truth

pytestmark = pytest.mark.encoders
torch = pytest.importorskip("torch")

Array = np.ndarray[Any, Any]
SMALL = RankAwareOptions(
    width=16, top_n=2, epochs=4, patience=4, batch_size=32, learning_rate=1e-2, modality_dropout=0.0
)


def make_vectors(seed: int, truth: Array, sizes: tuple[int, ...] = (5, 9, 3)) -> dict[str, Array]:
    """The first base model's embeddings hold the saliences besides noise, the others' are noise alone."""
    random = np.random.default_rng(seed)
    vectors = {f"m{k}": random.normal(size=(len(truth), size)).astype(np.float32) for k, size in enumerate(sizes)}
    informative = np.column_stack([truth / 20, 0.3 * vectors["m0"]])
    return vectors | {"m0": informative.astype(np.float32)}


def make_case(train: int = 60, held_out: int = 20, seed: int = 0) -> tuple[Fold, dict[str, Embeddings], Array]:
    """A fold, base models' embeddings of both of its parts, and what is right for the held-out part."""
    truth = make_truth(seed, train + held_out)
    ids = tuple(f"c{i}" for i in range(len(truth)))
    names = tuple(f"A{i % 6}" for i in range(train))
    fold = Fold(0, Clips(tuple(map(Clip, ids[:train])), names, truth[:train]), Clips(tuple(map(Clip, ids[train:]))))
    base_models = {name: Embeddings(ids, values) for name, values in make_vectors(seed + 1, truth).items()}
    return fold, base_models, truth[train:]


def fit(
    fold: Fold, base_models: dict[str, Embeddings], options: RankAwareOptions = SMALL, seed: int = 7
) -> tuple[FusionModel, RecordingReporter]:
    book = RecordingReporter()
    return RankAwareFusion().fit(fold, base_models, options, make_context(Path(), reporter=book, seed=seed)), book


def rows_of(model: FusionModel, clips: Clips, base_models: dict[str, Embeddings]) -> Array:
    given = model.predict(
        clips, {name: part.pick(clips.ids) for name, part in base_models.items()}, make_context(Path())
    )
    assert given.ids == clips.ids
    return given.values


def changed(base_models: dict[str, Embeddings], fold: Fold) -> dict[str, Embeddings]:
    """The same base models, with other embeddings for the held-out clips."""
    count = len(fold.train)
    found = {}
    for name, part in base_models.items():
        values = part.values.copy()
        values[count:] = 3 * values[count:, ::-1] + 1
        found[name] = Embeddings(part.ids, values)
    return found


# What the network computes


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_top_members_are_kept_as_a_literal_loop_keeps_them(count: int) -> None:
    from blemore_plugins.rank_aware.network import keep_top

    scores = np.random.default_rng(3).normal(size=(40, 4)).astype(np.float32)
    scores[0] = 0.5  # all alike: the first are kept
    for row, found in zip(scores.tolist(), keep_top(torch.from_numpy(scores), count).tolist(), strict=True):
        kept: list[int] = []
        while len(kept) < count:
            kept.append(max((k for k in range(4) if k not in kept), key=lambda k: (row[k], -k)))
        total = sum(math.exp(row[k]) for k in kept)
        expected = [math.exp(row[k]) / total if k in kept else 0.0 for k in range(4)]
        assert found == pytest.approx(expected, rel=1e-5)
        assert [k for k in range(4) if found[k] > 0] == sorted(kept)


def test_gate_fusion_and_heads_are_the_literal_ones() -> None:
    from blemore_plugins.rank_aware.network import RankAwareNetwork

    torch.manual_seed(0)
    network = RankAwareNetwork((3, 5, 2), width=4, top_n=2, dropout=0.5).eval()
    network.liking.data = torch.tensor([0.3, -0.2, 0.1])
    weight = {name: value.double().numpy() for name, value in network.state_dict().items()}
    vectors = np.random.default_rng(1).normal(size=(7, 10)).astype(np.float32)
    with torch.no_grad():
        found = network(torch.from_numpy(vectors)).numpy()
    for row, given in zip(vectors.astype(float), found, strict=True):
        latents = []
        for k, part in enumerate((row[:3], row[3:8], row[8:])):
            raw = weight[f"projections.{k}.0.weight"] @ part + weight[f"projections.{k}.0.bias"]
            normed = (raw - raw.mean()) / np.sqrt(raw.var() + 1e-5)
            latents.append([x / 2 * (1 + math.erf(x / math.sqrt(2))) for x in normed])
        mean = np.mean(latents, axis=0)
        query = weight["query.weight"] @ mean + weight["query.bias"]
        scores = [
            sum(query * (weight["key.weight"] @ latent)) / 2 + liking
            for latent, liking in zip(latents, weight["liking"], strict=True)
        ]
        best = sorted(range(3), key=lambda k: -scores[k])[:2]
        powers = [math.exp(scores[k]) if k in best else 0.0 for k in range(3)]
        shares = [power / sum(powers) for power in powers]
        fused = sum(share * np.array(latent) for share, latent in zip(shares, latents, strict=True))
        presence = weight["presence.weight"] @ fused + weight["presence.bias"]
        salience = weight["salience.weight"] @ fused + weight["salience.bias"]
        np.testing.assert_allclose(given, [*presence, *salience, *shares], rtol=1e-4, atol=1e-5)


def test_a_member_that_is_not_kept_can_still_learn() -> None:
    from blemore_plugins.rank_aware.network import RankAwareNetwork

    torch.manual_seed(0)
    network = RankAwareNetwork((3, 3), width=4, top_n=1, dropout=0.0)
    network.liking.data = torch.tensor([9.0, 0.0])
    vectors = torch.randn(6, 6)
    fused, weights = network.fuse(vectors)
    assert weights.tolist() == [[1.0, 0.0]] * 6
    np.testing.assert_array_equal(fused.detach(), network.eval().fuse(vectors)[0].detach())
    fused.square().sum().backward()
    assert network.projections[1][0].weight.grad.abs().sum() > 0
    assert network.liking.grad[1] != 0


def test_rows_bring_both_heads_together_as_probabilities() -> None:
    from blemore_plugins.rank_aware.network import reconcile, reconcile_logs

    presence, salience = np.random.default_rng(2).normal(scale=4, size=(2, 5, 6))
    presence[0] = -900.0, 3.0, 3.0, -900.0, -900.0, -900.0  # two emotions are there: salience shares out among them
    found = reconcile(presence, salience)
    for there, shares, row in zip(presence[1:], salience[1:], found[1:], strict=True):
        products = [math.exp(b) / (1 + math.exp(-a)) for a, b in zip(there, shares, strict=True)]
        np.testing.assert_allclose(row, np.array(products) / sum(products), rtol=1e-9)
    ratio = math.exp(salience[0, 1] - salience[0, 2])
    np.testing.assert_allclose(found[0, 1:3], [ratio / (1 + ratio), 1 / (1 + ratio)], rtol=1e-9)
    logs = reconcile_logs(torch.from_numpy(presence[1:]), torch.from_numpy(salience[1:]))
    np.testing.assert_allclose(logs.exp(), found[1:], rtol=1e-9)


# What it is trained to


def test_the_losses_are_the_literal_ones() -> None:
    from blemore_plugins.rank_aware.training import ranking, supervised

    presence, salience = np.random.default_rng(4).normal(size=(2, 3, 6))
    targets = np.array([[1, 0, 0, 0, 0, 0], [0.7, 0, 0.3, 0, 0, 0], [0, 0.5, 0, 0, 0.5, 0]])
    order, there, shares, aligned = [], [], [], []
    for p, s, t in zip(presence, salience, targets, strict=True):
        pairs = [(i, j) for i in range(6) for j in range(6) if t[i] > t[j]]
        order.append(sum(math.log1p(math.exp(s[j] - s[i])) for i, j in pairs) / len(pairs))
        sigmoid = 1 / (1 + np.exp(-p))
        there += [-math.log(x if y else 1 - x) for x, y in zip(sigmoid, t > 0, strict=True)]
        for kept, row in ((shares, np.exp(s)), (aligned, sigmoid * np.exp(s))):
            kept.append(sum(y * math.log(y / x) for x, y in zip(row / row.sum(), t, strict=True) if y))
    given = [torch.from_numpy(part) for part in (presence, salience, targets)]
    assert float(ranking(given[1], given[2])) == pytest.approx(np.mean(order))
    options = RankAwareOptions(presence_loss=0.5, salience_loss=2.0, rank_loss=3.0)
    expected = np.mean(aligned) + 0.5 * np.mean(there) + 2 * np.mean(shares) + 3 * np.mean(order)
    assert float(supervised(*given, options)) == pytest.approx(expected)


def test_coral_is_the_literal_one() -> None:
    from blemore_plugins.rank_aware.training import coral

    random = np.random.default_rng(5)
    source, target = random.normal(size=(9, 4)), random.normal(size=(6, 4)) @ random.normal(size=(4, 4)) + 2
    difference = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    expected = np.linalg.norm(difference, "fro") ** 2 / (4 * 4**2)
    assert float(coral(torch.from_numpy(source), torch.from_numpy(target))) == pytest.approx(expected)
    shifted = torch.from_numpy(source) + 5
    assert float(coral(torch.from_numpy(source), shifted)) == pytest.approx(0, abs=1e-12)


def test_mmd_is_the_literal_one() -> None:
    from blemore_plugins.rank_aware.training import mmd

    random = np.random.default_rng(6)
    source, target = random.normal(size=(5, 3)), random.normal(size=(4, 3)) + 1
    both = [*source, *target]
    unit = np.mean([((a - b) ** 2).sum() for i, a in enumerate(both) for j, b in enumerate(both) if i != j])

    def kernel(one: Array, two: Array) -> float:
        widths = (0.25, 0.5, 1, 2, 4)
        return float(
            np.mean([math.exp(-((a - b) ** 2).sum() / (scale * unit)) for a in one for b in two for scale in widths])
        )

    expected = kernel(source, source) + kernel(target, target) - 2 * kernel(source, target)
    assert float(mmd(torch.from_numpy(source), torch.from_numpy(target))) == pytest.approx(expected)
    same = torch.ones(3, 2, requires_grad=True)
    loss = mmd(same, torch.ones(4, 2))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(same.grad).all()


# What it may look at


@pytest.mark.slow
def test_without_adapting_held_out_vectors_change_nothing_and_with_it_they_do() -> None:
    fold, base_models, _ = make_case()
    others = changed(base_models, fold)
    for adapt in ("none", "coral", "mmd"):
        options = dataclasses.replace(SMALL, adapt=adapt)
        (one, first), (two, second) = fit(fold, base_models, options), fit(fold, others, options)
        same = np.array_equal(rows_of(one, fold.held_out, base_models), rows_of(two, fold.held_out, base_models))
        assert same is (adapt == "none")
        assert (first.notes == second.notes) is (adapt == "none")
        assert first.notes.get("adapted on clips") == (None if adapt == "none" else 20)
        assert RankAwareFusion().caveat(options) == (None if adapt == "none" else TRANSDUCTIVE)


@pytest.mark.parametrize("adapt", ["coral", "mmd"])
def test_adapting_brings_the_domains_nearer(adapt: str) -> None:
    from blemore_plugins.rank_aware import training as losses

    fold, base_models, _ = make_case(80, 60)
    others = changed(base_models, fold)
    apart = []
    for options in (SMALL, dataclasses.replace(SMALL, adapt=adapt, adapt_weight=10.0)):
        model: Any = fit(fold, others, dataclasses.replace(options, epochs=15, patience=15))[0]
        with torch.no_grad():
            domains = [
                model.network.fuse(model.inputs.join(others, clips.ids))[0] for clips in (fold.train, fold.held_out)
            ]
        apart.append(float(getattr(losses, adapt)(*domains)))
    assert apart[1] < 0.7 * apart[0]


def test_the_gate_learns_faster_by_its_rate_and_everything_learns() -> None:
    fold, base_models, _ = make_case()
    options = dataclasses.replace(SMALL, epochs=1, batch_size=64, weight_decay=0.0)
    moved = []
    for rate in (1e-9, 1.0, 2.0):
        model: Any = fit(fold, base_models, dataclasses.replace(options, gate_rate=rate))[0]
        moved.append({name: value.detach().clone() for name, value in model.network.named_parameters()})
    still, slow, fast = moved
    for name in still:
        if name == "liking" or name.startswith(
            ("query", "key")
        ):  # Adam's first step is the rate, whatever the gradient
            assert not torch.equal(slow[name], still[name])
            torch.testing.assert_close(fast[name] - still[name], 2 * (slow[name] - still[name]), rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(slow[name], fast[name])


def test_without_clips_to_adapt_to_it_says_so_and_one_is_too_few() -> None:
    fold, base_models, _ = make_case()
    options = dataclasses.replace(SMALL, adapt="mmd")
    alone = Fold(None, fold.train, Clips(()))
    model, book = fit(alone, base_models, options)
    assert book.notes["adapted on clips"] == 0
    assert any("no held-out clips" in line for line in book.warnings)
    assert rows_of(model, Clips(()), base_models).shape == (0, 6)
    with pytest.raises(DataError, match=r"at least 2 .*found 1.*rank-aware\.adapt=none"):
        fit(Fold(0, fold.train, fold.held_out.take([0])), base_models, options)


def test_a_row_does_not_depend_on_its_company_or_on_the_order_of_members() -> None:
    fold, base_models, _ = make_case()
    model, _ = fit(fold, base_models)
    whole = rows_of(model, fold.held_out, base_models)
    for i in range(20):
        np.testing.assert_array_equal(rows_of(model, fold.held_out.take([i]), base_models)[0], whole[i])
    turned = dict(reversed(base_models.items()))
    np.testing.assert_array_equal(rows_of(fit(fold, turned)[0], fold.held_out, turned), whole)


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_as_it_was() -> None:
    fold, base_models, _ = make_case()
    options = dataclasses.replace(SMALL, adapt="coral")
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    first, book = fit(fold, base_models, options)
    one = rows_of(first, fold.held_out, base_models)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    torch.rand(3)
    again, other = fit(fold, base_models, options)
    np.testing.assert_array_equal(rows_of(again, fold.held_out, base_models), one)
    assert book.notes == other.notes
    assert not np.array_equal(rows_of(fit(fold, base_models, options, seed=8)[0], fold.held_out, base_models), one)


# What it learns


@pytest.mark.slow
def test_it_learns_and_keeps_the_member_that_knows_something() -> None:
    fold, base_models, truth = make_case(240, 60)
    options = RankAwareOptions(
        width=16, top_n=1, epochs=40, patience=40, batch_size=32, learning_rate=5e-3, modality_dropout=0.0
    )
    model, book = fit(fold, base_models, options)
    rows = rows_of(model, fold.held_out, base_models)
    assert (rows.argmax(axis=1) == truth.argmax(axis=1))[truth.max(axis=1) != 50].mean() > 0.9
    assert np.abs(rows - truth / 100).mean() < 0.06
    kept, weights = book.notes["kept"], book.notes["weights"]
    assert isinstance(kept, dict)
    assert kept["m0"] > 0.9
    assert sum(kept.values()) == pytest.approx(1, abs=1e-5)
    assert weights == kept, "of one kept base model the weight is 1"
    assert 1 <= int(str(book.notes["epochs"])) <= 40
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-9)


def test_notes_tell_what_the_kept_members_weigh() -> None:
    fold, base_models, _ = make_case()
    model, book = fit(fold, base_models)
    weights: Any = book.notes["weights"]
    kept: Any = book.notes["kept"]
    literal = model.weigh(fold.train, base_models)  # type: ignore[attr-defined]
    assert list(weights) == list(kept) == ["m0", "m1", "m2"]
    assert list(weights.values()) == pytest.approx(literal.mean(axis=0), abs=1e-6)
    assert list(kept.values()) == pytest.approx((literal > 0).mean(axis=0), abs=1e-6)
    assert sum(kept.values()) == pytest.approx(2, abs=1e-5)


def test_one_member_and_more_to_keep_than_there_are() -> None:
    fold, base_models, _ = make_case()
    for some in ({"m1": base_models["m1"]}, base_models):
        model, book = fit(fold, some, dataclasses.replace(SMALL, top_n=9))
        assert book.notes["kept"] == dict.fromkeys(some, 1.0)
        assert rows_of(model, fold.held_out, some).shape == (20, 6)


def test_a_constant_dimension_and_far_vectors_give_valid_rows() -> None:
    fold, base_models, _ = make_case()
    values = base_models["m1"].values.copy()
    values[:60, 0], values[:60, 1], values[60:] = 4.0, 1e-9 * values[:60, 1], 1e38
    odd = base_models | {"m1": Embeddings(base_models["m1"].ids, values)}
    assert np.isfinite(rows_of(fit(fold, odd)[0], fold.held_out, odd)).all()


# Base models that are missing


def test_without_a_base_model_the_gate_chooses_among_the_others_as_a_literal_loop_does() -> None:
    fold, base_models, _ = make_case()
    model: Any = fit(fold, base_models, dataclasses.replace(SMALL, modality_dropout=0.3))[0]
    network, ids = model.network, fold.held_out.ids
    some = {name: base_models[name] for name in ("m0", "m2")}
    rows, weights = rows_of(model, fold.held_out, some), model.weigh(fold.held_out, some)
    parts = model.inputs.join(base_models, ids).split(network.sizes, dim=1)
    with torch.no_grad():
        for i in range(len(ids)):
            latents = [network.projections[k](parts[k][i : i + 1])[0] for k in (0, 2)]
            query = network.query((latents[0] + latents[1]) / 2)
            scores = [
                (query * network.key(latent)).sum() / 4 + network.liking[k]
                for k, latent in zip((0, 2), latents, strict=True)
            ]
            shares = torch.softmax(torch.stack(scores), dim=0)
            fused = shares[0] * latents[0] + shares[1] * latents[1]
            presence, salience = network.presence(fused), network.salience(fused)
            expected = torch.sigmoid(presence) * torch.softmax(salience, dim=0)
            np.testing.assert_allclose(weights[i], [shares[0], 0, shares[1]], atol=1e-5)
            np.testing.assert_allclose(rows[i], expected / expected.sum(), atol=1e-5)


def test_a_row_without_a_base_model_does_not_depend_on_its_company_and_one_is_enough() -> None:
    fold, base_models, _ = make_case()
    model, _ = fit(fold, base_models)
    for names in (("m0", "m1"), ("m2",)):
        some = {name: base_models[name] for name in names}
        whole = rows_of(model, fold.held_out, some)
        for i in (0, 19):
            np.testing.assert_array_equal(rows_of(model, fold.held_out.take([i]), some)[0], whole[i])
        assert (whole != rows_of(model, fold.held_out, base_models)).any()


def test_training_leaves_out_base_models_as_often_as_asked_and_never_all() -> None:
    from blemore_plugins.rank_aware.training import _draw_base_models

    fold, base_models, _ = make_case()
    inputs: Any = fit(fold, base_models)[0].inputs  # type: ignore[attr-defined]
    assert _draw_base_models(8, inputs, 0.0, torch.Generator()) is None
    there = _draw_base_models(20_000, inputs, 0.4, torch.Generator().manual_seed(0))
    assert there is not None
    assert there.any(dim=1).all()
    # A clip that would have none has all: 1 - .4 + .4^3.
    assert there.float().mean(dim=0).tolist() == pytest.approx([0.6 + 0.4**3] * 3, abs=0.015)
    rows = [
        rows_of(
            fit(fold, base_models, dataclasses.replace(SMALL, modality_dropout=share))[0], fold.held_out, base_models
        )
        for share in (0.0, 0.4, 0.4)
    ]
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(rows[1], rows[2])


@pytest.mark.slow
def test_modality_dropout_makes_up_for_a_missing_base_model() -> None:
    """Two base models know the emotions, one better: alone, the other is of use if training did without the first."""
    truth = make_truth(0, 300)
    random, ids = np.random.default_rng(1), tuple(f"c{i}" for i in range(300))
    train = Clips(tuple(map(Clip, ids[:240])), tuple(f"A{i % 6}" for i in range(240)), truth[:240])
    fold = Fold(0, train, Clips(tuple(map(Clip, ids[240:]))))
    base_models = {
        name: Embeddings(ids, (truth / 20 + noise * random.normal(size=truth.shape)).astype(np.float32))
        for name, noise in (("better", 0.2), ("worse", 1.0))
    }
    options = RankAwareOptions(width=16, top_n=1, epochs=30, patience=30, batch_size=32, learning_rate=5e-3)
    found = {}
    for share in (0.0, 0.4):
        model, _ = fit(fold, base_models, dataclasses.replace(options, modality_dropout=share))
        rows = rows_of(model, fold.held_out, {"worse": base_models["worse"]})
        found[share] = np.abs(rows - truth[240:] / 100).mean()
    assert found[0.4] < 0.9 * found[0.0]


# What it refuses


def test_vectors_that_do_not_fit_are_named() -> None:
    fold, base_models, _ = make_case()
    model, _ = fit(fold, base_models)
    for none in ({}, {"other": base_models["m0"]}):
        with pytest.raises(DataError, match=r"m0, m1, m2.*none of them"):
            rows_of(model, fold.held_out, none)
    wide = base_models | {"m2": Embeddings(base_models["m2"].ids, np.zeros((80, 4), dtype=np.float32))}
    with pytest.raises(DataError, match=r" 3 .*'m2'.* 4"):
        rows_of(model, fold.held_out, wide)
    without = tuple(name for name in fold.train.ids if name not in ("c10", "c11"))
    with pytest.raises(DataError, match=r"'m1'.* 2 clips \(first: 'c10'\)"):
        fit(fold, base_models | {"m1": base_models["m1"].pick(without)})
    with pytest.raises(DataError, match="'m2'"):
        fit(fold, base_models | {"m2": Embeddings(base_models["m2"].ids, np.zeros((80, 0), dtype=np.float32))})
    with pytest.raises(DataError, match="0 base models and 60 clips"):
        fit(fold, {})
    with pytest.raises(DataError, match="2 actors"):
        fit(Fold(0, Clips(fold.train.items, ("A1",) * 60, fold.train.labels), fold.held_out), base_models)


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapt": "tent"}, {"width": 0}, {"width": 24}, {"top_n": 0}, {"epochs": 0}, {"patience": 0}, {"batch_size": 0},
        {"dropout": 1.0}, {"dropout": math.nan}, {"presence_loss": -1.0}, {"salience_loss": math.inf},
        {"rank_loss": math.nan}, {"weight_decay": -0.1}, {"learning_rate": 0.0}, {"gate_rate": 0.0},
        {"adapt_weight": 0.0}, {"modality_dropout": 1.0}, {"modality_dropout": -0.1}, {"adapt": "mmd", "batch_size": 1},
    ],
)  # fmt: skip
def test_wrong_options_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=rf"^{list(wrong)[-1]}: "):
        RankAwareOptions(**wrong)


def test_it_is_offered_with_options_that_can_be_built() -> None:
    (fusion,) = blemore_fusions()
    assert fusion.name == "rank-aware"
    assert fusion.takes == "embeddings"
    assert fusion.Options(**fusion.demo_options).adapts is False
