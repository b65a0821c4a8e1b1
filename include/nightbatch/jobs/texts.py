"""Checks of bytes that were meant as text."""

from __future__ import annotations


def why_no_utf_8(error: UnicodeDecodeError) -> str:
    """Return why bytes are refused as text, and what they look like; never the bytes themselves."""
    if error.reason == "unexpected end of data" and error.end == len(error.object):
        return "it ends in the middle of a character: the file was cut short"
    try:
        error.object.decode("cp1252")
    except UnicodeDecodeError:
        return "not UTF-8: save the file as UTF-8"
    return "not UTF-8, looks like Windows-1252: save the file as UTF-8"
