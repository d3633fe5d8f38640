# shellcheck shell=sh
# Read by login shells: the container's own variables, and what there is to know about it.
if [ -r /run/environment ]; then
  # shellcheck source=/dev/null
  . /run/environment
fi
if [ -n "${SSH_TTY-}" ] && [ -r /run/dap/motd ]; then
  cat /run/dap/motd
  df --output=target,avail "${HOME}" /scratch 2>/dev/null | awk '
    NR > 1 && $2 < 102400 { print "WARNING: " $1 " is nearly full: " int($2 / 1024) " MB are left. Make room before you work on." }'
  cat /run/dap/home_limit "${HOME}/.cache/dap/home_size" 2>/dev/null | awk -v home="${HOME}" '
    NR == 1 { limit = $1 }
    NR == 2 && $1 > limit { printf "WARNING: %s holds %d MB, and is to hold %d MB at most. Make room.\n", home, $1 / 1024, limit / 1024 }'
  cat /run/idle_note 2>/dev/null && rm -f /run/idle_note
fi
