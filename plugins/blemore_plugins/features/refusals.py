"""Errors for clips without features, clips that features cannot be extracted from, and features of another encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from blemore_harness.clips import Clips
from blemore_harness.errors import MediaError, first_and_count


def refuse_missing(clips: Clips, name: str, source: str, extracting: str) -> None:
    """Raise for clips without features in the dataset.

    Args:
        clips: all required clips.
        name: name of the released folder or the aggregated file, without suffix.
        source: `released` or `statistics`.
        extracting: name of the encoder if it can extract the features; else empty.

    Raises:
        MediaError: names the first clip and their number.
    """
    missing = [clip.id for clip in clips if name not in clip.feature_files]
    if missing:
        where = f"a row in {name}.npz" if source == "statistics" else f"a file <clip id> in {_places(name)}"
        instead = f", or use --set {extracting}.source=media to extract them from the clips" if extracting else ""
        raise MediaError(
            f"{first_and_count(missing, 'clip')} of {len(clips)} without features in '{name}': expected {where}; "
            f"download the missing features{instead}",
            missing[0],
        )


def refuse_unseen(clips: Clips, store: str) -> None:
    """Raise for clips without a video, before weights are downloaded.

    Args:
        clips: all required clips.
        store: name of the released feature set that can be used instead; empty for none.

    Raises:
        MediaError: names the first clip and their number.
    """
    unseen = [clip.id for clip in clips if clip.video_file is None]
    if unseen:
        instead = f", or released features in {_places(store)}" if store else ""
        raise MediaError(
            f"{first_and_count(unseen, 'clip')} of {len(clips)} without a video to extract features from: expected "
            f"<clip id>.mov or .mp4 at any depth in the dataset{instead}",
            unseen[0],
        )


def refuse_widths(widths: Mapping[str, int], name: str) -> None:
    """Raise for features of different widths within one feature set; the most frequent width is the expected one.

    Args:
        widths: D by clip id.
        name: name of the feature set.

    Raises:
        MediaError: names the first clip of another width and their number.
    """
    counts = Counter(widths.values()).most_common()
    if len(counts) < 2:
        return
    usual = counts[0][0]
    other: Sequence[str] = [clip for clip, width in widths.items() if width != usual]
    raise MediaError(
        f"expected the same D for all clips in '{name}', found {usual} in {counts[0][1]} clips and "
        f"{widths[other[0]]} in {first_and_count(other, 'clip')}: put files of one encoder there",
        other[0],
    )


def _places(store: str) -> str:
    return f"pre_extracted_train_data/{store}_train or pre_extracted_test_data/{store}_test"
