"""What is computed from frames and kept names the decoder: none of it is taken for what another decoder gives."""

from __future__ import annotations

from pathlib import Path

import pytest

for package in ("torch", "transformers", "facenet_pytorch", "torchaudio", "timm", "av"):
    pytest.importorskip(package)

from blemore_harness.clips import Clips  # noqa: E402
from blemore_harness.hookspecs import Encoder  # noqa: E402
from blemore_harness.media import frames as media  # noqa: E402
from blemore_harness.options import build_options  # noqa: E402
from blemore_harness.systems.plugins import load_plugins  # noqa: E402
from fakes import make_context  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODERS = {
    name: offers[0].system
    for name, offers in load_plugins().offers.items()
    if isinstance(offers[0].system, Encoder) and offers[0].distribution.name == "blemore-harness"
}
FRAMELESS = {"openface", "gemini", "nova", "trivial-single", "trivial-blend"}
"""Encoders that are not called audio and decode no frames: they read released files, or send the file itself."""


def folders_of(name: str, root: Path) -> set[Path]:
    """The folders that an encoder opens in an empty cache, as it does before it computes anything."""
    encoder, context = ENCODERS[name], make_context(root)
    options = encoder.resolve_options(build_options(name, encoder.Options, encoder.demo_options), frozenset())
    encoder.prepare(Clips(()), options, context)
    return {path.parent.relative_to(context.cache.root) for path in context.cache.root.rglob("settings.json")}


@pytest.mark.parametrize("name", sorted(name for name in ENCODERS if name not in FRAMELESS))
def test_another_decoder_means_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    now = folders_of(name, tmp_path / "now")
    monkeypatch.setattr(media, "DECODER_VERSION", media.DECODER_VERSION + 1)
    later = folders_of(name, tmp_path / "later")
    assert now
    if ENCODERS[name].modality == "audio":
        assert later == now
    else:
        assert not later & now
