"""OpenFace 3: the released action units, gaze and emotion index per frame, and a head."""
