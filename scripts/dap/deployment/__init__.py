"""A deploy: its steps, what it looks at before it acts, and what it reports."""
