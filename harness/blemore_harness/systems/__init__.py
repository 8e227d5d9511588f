"""What takes part in a run: plugins found, systems looked up, joined, and made ready with their identity."""
