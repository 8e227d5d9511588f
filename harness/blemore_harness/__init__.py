"""The evaluation harness for the BLEMORE challenge: blended emotions with relative salience, from video and audio."""

__version__ = "0.1.0"
