"""From numbers to the terminal: tables and what stands below them."""
