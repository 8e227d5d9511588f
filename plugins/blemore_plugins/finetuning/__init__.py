"""Networks that are trained whole on the blends: video transformers and wav2vec2."""
