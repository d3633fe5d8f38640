"""Bundles: all that machines without any network need for a deploy, as one file."""
