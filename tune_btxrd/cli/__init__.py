"""Command line: text in, text out."""
