"""The evaluation harness for the BLEMORE challenge: blended emotions with relative salience, from video and sound."""
