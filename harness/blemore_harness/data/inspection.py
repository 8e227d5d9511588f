"""Summary of a download: clips, actors, folds, labels, media and features, present and missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from blemore_harness.clips import EMOTIONS, Clip
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.errors import MediaError, printable
from blemore_harness.media.audio import decode_facts
from blemore_harness.media.frame_files import work_side_by_side
from blemore_harness.media.frames import video_info
from blemore_harness.networks import usable_cpus
from blemore_harness.protocol.rules import TEST_CLIPS, label_text, official_test_ids


def find_missing_test_clips(dataset: Dataset) -> list[str]:
    """Return the official test clips for which a dataset has neither video nor features, sorted.

    Codabench rejects a leaderboard file without these. The result is empty for the demo dataset, which has other test
    clips, and for other corpora.
    """
    there = set(dataset.test_ids)
    return [] if dataset.demo or dataset.corpus else [name for name in official_test_ids() if name not in there]


def inspect_dataset(dataset: Dataset) -> dict[str, Any]:
    """Return all counts that `blemore-harness data check` prints, as JSON types."""
    actors = {actor: int(fold) for actor, fold in zip(dataset.actors, dataset.folds, strict=True)}
    everything = (*dataset.ids, *dataset.test_ids)
    missing = [name for name in everything if name not in dataset.videos]
    unlabelled = find_missing_test_clips(dataset)
    singles = Counter(EMOTIONS[int(row.argmax())] for row in dataset.truth[~dataset.blends])
    blends = Counter(label_text(row) for row in dataset.truth[dataset.blends])
    return {
        "root": str(dataset.root),
        "demo": dataset.demo,
        "corpus": dataset.corpus,
        "clips": len(dataset.ids),
        "actors": len(actors),
        "singles": {name: singles[name] for name in EMOTIONS},
        "blends": dict(sorted(blends.items())),
        "fold_source": dataset.fold_source,
        "folds": {
            str(k): {
                "clips": int((dataset.folds == k).sum()),
                "blends": int((dataset.blends & (dataset.folds == k)).sum()),
                "actors": sorted(actor for actor, fold in actors.items() if fold == k),
            }
            for k in dataset.fold_numbers
        },
        "test_clips": len(dataset.test_ids),
        "test_clips_missing": {"missing": len(unlabelled), "first_missing": unlabelled[:1]},
        "videos": {"present": len(everything) - len(missing), "missing": len(missing), "first_missing": missing[:1]},
        "features": {
            store: {
                "train": sum(name in clips for name in dataset.ids),
                "test": sum(name in clips for name in dataset.test_ids),
            }
            for store, clips in sorted(dataset.feature_sets.items())
        },
        "warnings": list(dataset.warnings),
    }


def inspect_audio(dataset: Dataset) -> dict[str, Any]:
    """Decode the audio of all clips with a video; return the silent and the unusable clips with reasons, as JSON types.

    Raises:
        ExtraMissing: PyAV is not installed.
    """
    silent, unusable = [], {}
    for name in (*dataset.ids, *dataset.test_ids):
        if name in dataset.videos:
            try:
                if decode_facts(Clip(name, dataset.videos[name])).silent:
                    silent.append(name)
            except MediaError as error:
                unusable[name] = str(error)
    return {"silent": silent, "unusable": unusable}


def inspect_videos(dataset: Dataset, reporter: Reporter) -> dict[str, Any]:
    """Decode frames and audio of all clips with a video, in parallel; return the broken ones with reasons, as JSON
    types.

    Raises:
        ExtraMissing: PyAV is not installed.
    """
    names = [name for name in (*dataset.ids, *dataset.test_ids) if name in dataset.videos]
    broken: dict[str, str] = {}

    def decode(name: str) -> None:
        clip = Clip(name, dataset.videos[name])
        try:
            video_info(clip)
            decode_facts(clip)
        except MediaError as error:
            broken[name] = str(error)

    with reporter.progress("decoding clips", len(names)) as bar:
        work_side_by_side(decode, names, usable_cpus(), bar.advance)
    return {"clips": len(names), "broken": {name: broken[name] for name in names if name in broken}}


def render_inspection(found: dict[str, Any]) -> str:
    """Return the counts as text."""
    videos = found["videos"]
    source = {
        "official": "the official folds",
        "metadata": "from the metadata, NOT the official folds",
        "made": "made from a seed because the metadata has none, NOT the official folds",
    }
    if found["corpus"]:
        source = {"made": "made from a seed", "metadata": "those of the corpus"}
    blends = sum(found["blends"].values())
    lines = [
        f"dataset    {printable(found['root'])}" + (" (generated demo clips)" if found["demo"] else ""),
        f"clips      {found['clips']} training, {found['test_clips']} test",
        f"actors     {found['actors']} in training",
        f"labels     {found['clips'] - blends} single ({', '.join(f'{k} {v}' for k, v in found['singles'].items())}), "
        f"{blends} blends of {len(found['blends'])} kinds",
        f"folds      {len(found['folds'])}, {source[found['fold_source']]}",
    ]
    lines += [
        f"  fold {k}   {fold['clips']} clips, {fold['blends']} blends, {len(fold['actors'])} actors"
        for k, fold in found["folds"].items()
    ]
    gap = found["test_clips_missing"]
    if gap["missing"] and found["test_clips"]:
        lines.append(
            f"test clips {TEST_CLIPS - gap['missing']} of {TEST_CLIPS} official ones, {gap['missing']} missing (first: "
            f"{gap['first_missing'][0]}): Codabench rejects incomplete files; download the missing clips"
        )
    first = f" (first: {videos['first_missing'][0]})" if videos["missing"] else ""
    lines.append(f"videos     {videos['present']} present, {videos['missing']} missing{first}")
    for store, counts in found["features"].items():
        lines.append(f"features   {store}: {counts['train']} training, {counts['test']} test")
    if not found["features"]:
        lines.append("features   no released features found")
    if not found["features"] and not videos["present"]:
        lines.append(
            "usable for commands that need labels only, such as score and submit; to run encoders, put the videos or "
            "the released features into this folder"
        )
    if "decoded" in found:
        decoded = found["decoded"]
        lines.append(f"decoded    {decoded['clips']} clips, {len(decoded['broken'])} of them broken")
        lines += [f"  {printable(reason)}" for reason in decoded["broken"].values()]
    if "audio" in found:
        silent, unusable = found["audio"]["silent"], found["audio"]["unusable"]
        listed = f": {', '.join(silent)}" if silent else ""
        lines.append(f"audio      {len(silent)} silent{listed}; {len(unusable)} unusable")
        lines += [f"  {printable(reason)}" for reason in unusable.values()]
    return "\n".join([*lines, *(f"warning    {text}" for text in found["warnings"])])
