"""The preprocessing that weights come with, as a `PictureRule`: of transformers' processors and of timm.

Read from the files of the weights by the library itself, because it knows how older files are meant; then carried out
here like that of all other families. What cannot be carried out alike is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from blemore_harness.errors import DataError, InvalidOption
from blemore_plugins.hub import quiet_transformers
from blemore_plugins.vision.pictures import PictureRule

PROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""Names of the file with the preprocessing of images."""

VIDEO_PROCESSOR = ("video_preprocessor_config.json", *PROCESSOR)
"""Names of the file with the preprocessing of videos."""

FILTERS: Mapping[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that `pictures.fit` has."""

SQUASHED_FROM = 384
"""ConvNeXt's processor squashes frames from this size on, and crops smaller ones."""


def read_rule(folder: Path, kind: Literal["AutoImageProcessor", "AutoVideoProcessor"]) -> tuple[PictureRule, int]:
    """Read the preprocessing of a model in transformers' layout.

    Returns:
        The rule, and the side of the square in pixels.

    Raises:
        DataError: no processor that this version of transformers knows.
        InvalidOption: preprocessing that is not a resize, a crop and a normalisation.
    """
    import transformers

    try:
        with quiet_transformers():
            processor = getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever transformers makes of a file of another kind
        raise DataError(
            f"the preprocessing in {folder} cannot be read: expected {' or '.join(PROCESSOR)} of an image model that "
            "this version of transformers knows; fetch it again"
        ) from error
    return rule_of_processor(processor, folder)


def rule_of_processor(processor: Any, folder: Path) -> tuple[PictureRule, int]:
    """Convert the settings of a processor of transformers; see `read_rule`."""

    def get(name: str) -> Any:
        return getattr(processor, name, None)

    size, crop = get("size") or {}, (get("crop_size") or {}) if get("do_center_crop") else {}
    problems = {
        "no resizing": not get("do_resize"),
        "padding": bool(get("do_pad")),
        f"a scale of {get('rescale_factor')}": not get("do_rescale") or abs(get("rescale_factor") * 255 - 1) > 1e-6,
        "an offset": bool(get("rescale_offset") or get("do_rescale_offset")),
        f"the filter {get('resample')}": get("resample") not in FILTERS,
        f"the size {dict(size)}": False,
    }
    side, zoom = 0, None
    if size.get("shortest_edge") and not size.get("longest_edge"):
        short = int(size["shortest_edge"])
        side = int(crop.get("height") or short)
        zoom = (short, side)
        if get("crop_pct"):
            zoom = None if short >= SQUASHED_FROM else (int(short / get("crop_pct")), short)
        elif not crop or crop.get("height") != crop.get("width"):
            problems[f"the size {dict(size)}"] = True
    elif size.get("height") and size.get("height") == size.get("width"):
        side = int(size["height"])
        problems[f"the size {dict(size)}"] = bool(crop) and (crop.get("height"), crop.get("width")) != (side, side)
    else:
        problems[f"the size {dict(size)}"] = True
    refuse(problems, folder)
    normalised = bool(get("do_normalize"))
    mean, std = (tuple(get("image_mean")), tuple(get("image_std"))) if normalised else ((0.0,) * 3, (1.0,) * 3)
    return PictureRule(mean, std, FILTERS[int(get("resample"))], zoom), side


def rule_of_timm(settings: Mapping[str, Any], folder: Path) -> tuple[PictureRule, int]:
    """Convert timm's settings of a model, as `timm.data.resolve_model_data_config` gives them; see `read_rule`."""
    channels, height, width = settings["input_size"]
    squashed = settings["crop_mode"] == "squash"
    refuse(
        {
            f"the input size {settings['input_size']}": height != width or channels != 3,
            f"the filter {settings['interpolation']}": settings["interpolation"] not in FILTERS.values(),
            f"the crop mode {settings['crop_mode']}": not (
                settings["crop_mode"] == "center" or (squashed and settings["crop_pct"] == 1)
            ),
        },
        folder,
    )
    zoom = None if squashed else (math.floor(height / settings["crop_pct"]), height)
    rule = PictureRule(tuple(settings["mean"]), tuple(settings["std"]), settings["interpolation"], zoom, even=True)
    return rule, height


def refuse(problems: Mapping[str, bool], folder: Path) -> None:
    """Raise `InvalidOption` for the first setting that is true."""
    found = [what for what, wrong in problems.items() if wrong]
    if found:
        raise InvalidOption(
            f"model: the preprocessing in {folder} has {found[0]}: expected frames that are resized to a square, "
            "bilinear or bicubic, cropped in the centre and normalised; choose another model"
        )
