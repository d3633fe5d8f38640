# shellcheck shell=sh
# Read by login shells: the container's own variables, and what there is to know about it.
if [ -r /run/environment ]; then
  # shellcheck source=/dev/null
  . /run/environment
fi
if [ -n "${SSH_TTY-}" ] && [ -r /run/dap/motd ]; then
  cat /run/dap/motd
fi
