"""GPUs of hosts: who wants which, who is promised which, and what hosts have."""
