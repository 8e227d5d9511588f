"""How much faster the exhaustive weight search is than decoding every point at 400 pairs of thresholds.

    python benchmarks/weight_search.py [base models] [clips]
    python benchmarks/weight_search.py --folds [--together] [--fusion best-of] [base models] [clips]
    python benchmarks/weight_search.py --regressions [base models] [clips]

All ways run in this process on the same rows and give the same Scores, which is checked. The slow ones are timed on a
few points and projected to the whole grid of step 0.1; the compiled search then runs over the whole grid. Labels are
the real ones where the BLEMORE material lies beside this checkout (../shared/blemore), rows are made up.

With `--folds`, all that a run asks of a fusion is timed: the five folds and the final fit, one by one and together;
with `--together` only the latter.

With `--regressions`, both regressions of `structured` are fitted on all clips as the fusion does, and in the plainest
way (`tests/regression_cases.py`), which must choose the same strengths and find the same weights.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import add_json, write_figures

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.protocol.rules import decode, score
from blemore_plugins.best_of import BestOf
from blemore_plugins.late import LateFusion
from blemore_plugins.late.scorers import CompiledScorer, PlainScorer, allowed_threads
from blemore_plugins.late.space import bounded_grid
from blemore_plugins.logistic import fit
from blemore_plugins.means import log_rows, mean_rows
from blemore_plugins.regularisation import fit_regularised, strength_folds
from blemore_plugins.structured import StructuredOptions, make_problems

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import RecordingReporter, make_context
from golden import literal_protocol as literal
from real_material import REAL, real_labels
from regression_cases import choose_plainly

MEMBERS, CLIPS, PARTS, FOLDS = 12, 2456, 10, 5

FUSIONS = {"late": LateFusion, "best-of": BestOf}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` gives, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def make_rows(base_models: int, truth: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of base models that know a little each."""
    random = np.random.default_rng(0)
    noise = random.dirichlet(np.full(6, 0.7), size=(base_models, len(truth)))
    return 0.85 * noise + 0.15 * truth / 100


def make_truth(clips: int) -> np.ndarray[Any, Any]:
    """Real labels, as many as are asked for, or made-up ones of the same kind."""
    if REAL.is_dir():
        rows = list(real_labels().values())[:clips]
        return np.array(rows, dtype=np.int8)
    labels = literal.make_truth(literal.make_rows(clips))
    return np.array([literal.percentages(label) for label in labels], dtype=np.int8)


def decode_literally(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """The best Score of one point by the plain loop over clips and pairs of thresholds."""
    labels = [
        {name: int(share) for name, share in zip(literal.EMOTIONS, row, strict=True) if share} for row in truth.tolist()
    ]
    found = literal.search(mean_rows(rows, weights).tolist(), labels)
    return 0.5 * found["acc_presence"] + 0.5 * found["acc_salience"]


def decode_in_arrays(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> float:
    """The best Score of one point by 400 decodings of all clips at once."""
    fused = mean_rows(rows, weights)
    return max(score(truth, decode(fused, a, b)).score for a in OFFICIAL_GRID for b in OFFICIAL_GRID)


def search_whole(scorer: CompiledScorer, base_models: int, parts: int) -> np.ndarray[Any, Any]:
    """The best point of the grid of so many parts."""
    progress: list[int] = []
    return scorer.best_of(bounded_grid(base_models, parts), progress.append)[0]


Case = tuple[list[Fold], list[dict[str, Probabilities]]]


def make_folds(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> Case:
    """Five folds of 47 actors and the final fit, each with the base models' rows for its training clips."""
    ids = np.array([f"c{number}" for number in range(len(truth))])
    actor = np.arange(len(truth)) % 47
    folds, base_models = [], []
    for number in (*range(FOLDS), None):
        inside = np.ones(len(truth), bool) if number is None else actor % FOLDS != number
        train = Clips(tuple(map(Clip, ids[inside])), tuple(f"A{each}" for each in actor[inside]), truth[inside])
        held_out = (Clip("test"),) if number is None else tuple(map(Clip, ids[~inside]))
        folds.append(Fold(number, train, Clips(held_out)))
        base_models.append({f"m{m:02}": Probabilities(train.ids, values[inside]) for m, values in enumerate(rows)})
    return folds, base_models


def compare_folds(fusion: Fusion, case: Case, ways: tuple[str, ...]) -> dict[str, float]:
    """Time a fusion's fits one by one and together, in seconds and in work of all cores, and check that they agree.

    Returns:
        The figures.
    """
    folds, base_models = case
    told: dict[str, list[dict[str, object]]] = {}
    spent: dict[str, tuple[float, float]] = {}
    for way in ways:
        books = [RecordingReporter() for _ in folds]
        with tempfile.TemporaryDirectory() as folder:
            contexts = [make_context(Path(folder) / str(n), reporter=book) for n, book in enumerate(books)]
            for context in contexts:
                context.workspace.mkdir(parents=True)
            work = time.process_time()
            models, seconds = timed(lambda: fit_folds(fusion, way, folds, base_models, contexts))  # noqa: B023
            spent[way] = seconds, time.process_time() - work
        told[way] = [{**book.notes, "learnt": repr(model)} for book, model in zip(books, models, strict=True)]
    same = "" if len(ways) < 2 else f", the same: {told['one by one'] == told['together']}"
    what = f"{fusion.name}, {len(base_models[0])} base models, {len(folds)} fits"
    print(f"{what}, {len(folds[-1].train)} clips{same}")
    print(f"{allowed_threads()} threads of {os.cpu_count()} cores, load of the machine {os.getloadavg()[0]:.1f}")
    if fusion.name == "best-of":
        print(f"chosen: {', '.join(str(facts['chosen']) for facts in told['together'])}")
    for way, (seconds, work) in spent.items():
        print(f"{way:12} {seconds:8.1f} s {work:8.1f} s of processor time")
    if len(ways) > 1:
        ratio = [one / other for one, other in zip(spent["one by one"], spent["together"], strict=True)]
        print(f"together is {ratio[0]:.2f} times as fast, with {ratio[1]:.2f} times less processor time")
    return {f"{what} {way}, s of CPU": work for way, (_, work) in spent.items()}


def fit_folds(fusion: Fusion, way: str, folds: list[Fold], base_models: Any, contexts: Any) -> list[Any]:
    """Fit as a run does: at once where that is asked for and the fusion does it, else fold by fold."""
    own = fusion.fit_folds if way == "together" else partial(Fusion.fit_folds, fusion)
    return list(own(folds, base_models, fusion.Options(), contexts))


def compare_ways(rows: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, float]:
    """Time, compare, print, and return the figures."""
    base_models = len(rows)
    grid = bounded_grid(base_models, PARTS)
    points = grid.weights(grid.block(grid.size // 2, grid.size // 2 + 20))
    scorer = CompiledScorer(rows, truth)
    _, compiling = timed(lambda: (scorer.scores(points[:1]), search_whole(scorer, base_models, 1)))
    literal_score, loop = timed(lambda: decode_literally(rows, truth, points[0]))
    array_score, arrays = timed(lambda: decode_in_arrays(rows, truth, points[0]))
    plain_scores, plain = timed(lambda: PlainScorer(rows, truth).scores(points))
    compiled_scores = scorer.scores(points)
    same = bool((plain_scores == compiled_scores).all()) and literal_score == array_score == plain_scores[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = time.process_time()
    best, seconds = timed(lambda: search_whole(scorer, base_models, PARTS))
    work = time.process_time() - work
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    load = os.getloadavg()[0]
    print(
        f"{base_models} base models, {len(truth)} clips, {grid.size:,} points x 400 pairs of thresholds, "
        f"same Scores: {same}"
    )
    print(f"{allowed_threads()} threads of {os.cpu_count()} cores, load of the machine {load:.1f}")
    each = seconds / grid.size
    for name, spent in (
        ("literal loop", loop), ("400 decodings as arrays", arrays), ("counting, numpy", plain / len(points)),
        ("compiled search", each),
    ):  # fmt: skip
        whole = spent * grid.size
        print(f"{name:24} {spent * 1000:12.4f} ms a point {whole:14,.1f} s the whole grid   x {spent / each:,.0f}")
    print(f"compiling took {compiling:.1f} s, once per process; memory grew by {grown:.1f} MiB during the search")
    print(f"best weights {(best / PARTS).tolist()}, Score {scorer.scores(grid.weights(best)[None])[0]:.4f}")
    return {f"{base_models} base models, whole grid, s of CPU": work}


def compare_regressions(case: Case) -> dict[str, float]:
    """Time the regressions of `structured` on all clips, compare with the plain way, and return the figures."""
    fold, base_models = case[0][-1], case[1][-1]
    options, context = StructuredOptions(), make_context(Path(), reporter=RecordingReporter())
    problems = make_problems(fold.train.labels, log_rows(sorted(base_models), base_models, options.epsilon))
    held = strength_folds(fold.train, options, context)
    fit(problems["ratio"][0], 1.0)  # scipy is imported before anything is timed
    print(f"{len(base_models)} base models, {len(fold.train)} clips, {len(options.strengths)} strengths")
    total = 0.0
    for head, (problem, which) in problems.items():
        masks = [mask[which] for mask in held]
        start = time.process_time()
        strength, weights = choose_plainly(problem, masks, options.strengths)
        middle = time.process_time()
        fitted = fit_regularised(problem, masks, options.strengths, lambda _: None)
        plain, seconds = middle - start, time.process_time() - middle
        total += seconds
        apart = float(np.abs(fitted.weights - weights).max())
        print(
            f"{head:6} plain {plain:.2f} s of processor time, as fitted {seconds:.2f} s: {plain / seconds:.1f} x; "
            f"strength {fitted.strength:g}, the same: {fitted.strength == strength}, weights differ by {apart:.0e}"
        )
    return {f"regressions of structured, {len(base_models)} base models, s of CPU": total}


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base_models", nargs="?", type=int, default=MEMBERS)
    parser.add_argument("clips", nargs="?", type=int, default=CLIPS)
    parser.add_argument("--folds", action="store_true")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--regressions", action="store_true")
    parser.add_argument("--fusion", choices=FUSIONS, default="late")
    add_json(parser)
    asked = parser.parse_args()
    truth = make_truth(asked.clips)
    rows = make_rows(asked.base_models, truth)
    if asked.regressions:
        write_figures(asked.json, compare_regressions(make_folds(rows, truth)))
    elif asked.folds:
        scorer = CompiledScorer(rows, truth)  # compiled before anything is timed
        search_whole(scorer, asked.base_models, 1)
        scorer.scores(np.full((1, asked.base_models), 1 / asked.base_models))
        ways = ("together",) if asked.together else ("one by one", "together")
        write_figures(asked.json, compare_folds(FUSIONS[asked.fusion](), make_folds(rows, truth), ways))
    else:
        write_figures(asked.json, compare_ways(rows, truth))


if __name__ == "__main__":
    main()
