"""What one replicate of `simulate` takes at its default size, and which part of it is whose.

    OMP_NUM_THREADS=1 python benchmarks/replicate.py [--world logits] [--number 0] [--json FILE] [--results FILE]

CPU seconds of this process: calibrating the encoders (once for a world), drawing, and each method with the decoding of
what it fuses. Labels are the real ones where the BLEMORE material lies beside this checkout (../shared/blemore), else
made-up ones of the challenge's size. `--results` writes what the replicate came to, which two versions of the code can
be compared by: SIMULATION, no result on BLEMORE.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from figures import add_json, write_figures

from blemore_harness.data.download import read_dataset
from blemore_harness.systems.plugins import load_plugins
from blemore_lab.calibration import calibrate, calibrate_embeddings
from blemore_lab.encoders import Setting
from blemore_lab.labels import LabelTable, table_of
from blemore_lab.replicates import draw_replicate, score_replicate
from blemore_lab.results import merge
from blemore_lab.study import Study
from blemore_lab.worlds import WORLDS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders import label_of
from real_material import REAL
from report_runs import challenge_rows


def make_table() -> LabelTable:
    """Return the real label table, or one of its size."""
    if REAL.is_dir():
        return table_of(read_dataset(REAL))
    rows = challenge_rows()
    actors = np.unique([row["video_id"] for row in rows], return_inverse=True)[1].astype(np.int64)
    truth = np.array([label_of(row) for row in rows], dtype=np.int8)
    return LabelTable(truth, actors, np.array([int(row["fold"]) for row in rows]), "made-up labels")


def main() -> None:
    """Measure a replicate step by step, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=WORLDS, default="logits")
    parser.add_argument("--number", type=int, default=0, help="number of the replicate [default: 0]")
    parser.add_argument("--results", type=Path, help="file for what the replicate came to")
    add_json(parser)
    given = parser.parse_args()
    study, table, plugins = Study(world=WORLDS[given.world]), make_table(), load_plugins()
    methods, setting, names = study.methods(plugins), study.world.setting, study.world.encoders
    spent: dict[str, float] = {}
    last = time.process_time()

    def note(what: str) -> None:
        nonlocal last
        now = time.process_time()
        spent[what], last = now - last, now
        print(f"{what:24} {spent[what]:7.2f} s", flush=True)

    if isinstance(setting, Setting):
        encoders = calibrate(names, table, setting)
    else:
        assert study.heads is not None
        encoders = calibrate_embeddings(names, table, setting, study.heads)
    note("calibrating")
    material, new = draw_replicate(encoders, table, setting, study.test_actors, (study.seed, given.number), study.heads)
    note("drawing")
    result = None
    for method in methods:
        result = merge(result, score_replicate([method], material, table, new, study.seed))
        note(method.name)
    assert result is not None
    total = sum(spent.values()) - spent["calibrating"]
    print(f"one replicate of {given.world}, {len(names)} encoders, {len(table.truth)} clips: {total:.1f} s of CPU")
    if given.results:
        found = asdict(result)
        found["outcomes"] = [[*key, value] for key, value in found["outcomes"].items()]
        given.results.write_text(json.dumps(found, indent=1) + "\n")
    figures = {f"one replicate of {given.world}, s of CPU": total, "calibrating, once, s of CPU": spent["calibrating"]}
    write_figures(given.json, {**figures, "of it best-of, s of CPU": spent["best-of"]})


if __name__ == "__main__":
    main()
