"""The report: one page that shows finished runs, with everything that it needs inside the file."""
