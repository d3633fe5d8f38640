"""Data Analysis Platform: turns a team's own Linux machines into a place to do data analysis."""

__version__ = "0.1.0"
