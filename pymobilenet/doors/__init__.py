"""Doors: models of other projects and other file formats, in and out."""
