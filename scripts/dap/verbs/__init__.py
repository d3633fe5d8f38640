"""Groups of verbs, each in a module of its own; the verbs on the platform as a whole are in `dap.cli`."""
