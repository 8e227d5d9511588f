"""The command `codabench`: a competition bundle whose scoring program gives the harness's numbers."""
