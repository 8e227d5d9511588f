"""A BLEMORE download on disk: read with its real names, inspected, and shown to plugins without them."""
