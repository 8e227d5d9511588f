"""Frozen speech models: frame-level features of a clip's audio with a classification head."""

from __future__ import annotations

from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_plugins.speech.encoder import (
    AudeeringEncoder,
    AudioEncoder,
    Voc2vecEncoder,
    Wav2Vec2Encoder,
    Wav2Vec2NarrowEncoder,
)
from blemore_plugins.speech.outputs import (
    ClapEncoder,
    EmpathicVoiceEncoder,
    ImageBindAudioEncoder,
    Qwen2AudioEncoder,
    WhisperEncoder,
)
from blemore_plugins.speech.released import HubertEncoder, WavLMEncoder


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the frozen audio encoders."""
    return [
        AudioEncoder(),
        AudeeringEncoder(),
        HubertEncoder(),
        Voc2vecEncoder(),
        Wav2Vec2Encoder(),
        Wav2Vec2NarrowEncoder(),
        WavLMEncoder(),
        ClapEncoder(),
        EmpathicVoiceEncoder(),
        ImageBindAudioEncoder(),
        Qwen2AudioEncoder(),
        WhisperEncoder(),
    ]
