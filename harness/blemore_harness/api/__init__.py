"""The functions behind `import blemore_harness as bh` and behind the commands: they return, and never print or exit."""
