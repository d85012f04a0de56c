"""Parsers of the data sets' formats, one module each, and what they share (SPEC D2)."""
