#!/bin/sh
# Ends what runs in a development container that has been idle for DAP_IDLE_SECONDS: nobody is connected, JupyterLab
# has ended by its own such limit, and neither processors nor GPUs do anything. Its SSH server and the door to its
# page stay, so that it is ready when somebody comes.
set -eu

# How often to look, and from how many hundredths of a processor on it is at work.
LOOK_SECONDS=${DAP_IDLE_LOOK_SECONDS:-60}
AT_WORK=5
NOTE=/run/idle_note

# What /proc/*/stat says of all processes; a program's name may hold anything.
processes() {
  cat /proc/[0-9]*/stat 2>/dev/null | sed 's/(.*)//'
}

# An open connection to the SSH server's port, 2222, or a terminal that was opened from outside.
connected() {
  grep -qsE ':08AE [0-9A-F]+:[0-9A-F]+ 01 ' /proc/net/tcp /proc/net/tcp6 ||
    processes | awk '$1 != 1 && $3 == 0 && $6 != 0 { found = 1 } END { exit !found }'
}

# An open window of VS Code, which holds a connection to the socket of its server.
window() {
  grep -qs ' 03 [ 0-9]* /run/jupyter/code$' /proc/net/unix
}

command_of() {
  tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline"
}

# What belongs to the container itself: what the engine has started, such as the SSH server that listens and
# healthchecks, and the scripts of /etc/dap with what they have started. All else is a user's.
users_processes() {
  for folder in /proc/[0-9]*; do
    process=${folder#/proc/}
    parent=$(sed -n 's/^PPid:\t//p' "${folder}/status" 2>/dev/null) && [ "${parent:-0}" != 0 ] || continue
    case "$(command_of "${process}"):$(command_of "${parent}")" in
    # What the door has started, and has no such limit of its own.
    /opt/code-server/*) echo "${process}" ;;
    */etc/dap/* | :*) ;;
    *) echo "${process}" ;;
    esac
  done 2>/dev/null
}

# The processor time of all other processes and their children, in hundredths of a second.
worked() {
  processes | awk -v self="$$" '$1 != self { sum += $13 + $14 + $15 + $16 } END { print sum + 0 }'
}

# What the driver says of each of the container's GPUs: how many hundredths of the last second it has calculated. Their
# memory does not count: to give back what is held and not used is what all this is for. Where the driver does not
# answer, or with no number, as for a part of a GPU, nobody can tell, and that is not taken for rest.
gpus_at_work() {
  [ "${DAP_GPUS:-0}" != 0 ] || return 1
  told=$(timeout -k 1 5 nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits 2>/dev/null) || return 0
  [ -n "${told}" ] || return 0
  echo "${told}" | grep -qvx '0'
}

at_work() {
  now=$(worked)
  moved=$((now - before))
  before=${now}
  # What has ended takes its time along.
  [ "${moved#-}" -ge "$((LOOK_SECONDS * AT_WORK))" ]
}

seconds() {
  cut -d. -f1 /proc/uptime
}

before=$(worked)
since=$(seconds)
while :; do
  sleep "${LOOK_SECONDS}"
  if at_work || connected || window || pgrep -f jupyter-lab >/dev/null || gpus_at_work; then
    since=$(seconds)
    continue
  fi
  [ "$(($(seconds) - since))" -ge "${DAP_IDLE_SECONDS}" ] || continue
  since=$(seconds)
  ended=$(users_processes)
  [ -n "${ended}" ] || continue
  names=$(for process in ${ended}; do cat "/proc/${process}/comm" 2>/dev/null || true; done | sort -u | paste -sd ' ')
  # Each process is a word of its own.
  # shellcheck disable=SC2086
  kill ${ended} 2>/dev/null || true
  sleep 5
  # shellcheck disable=SC2086
  kill -KILL ${ended} 2>/dev/null || true
  echo "idle: ended ${names}"
  echo "On $(date '+%F %R') what ran here was ended, as nobody had used it for long: ${names}" >"${NOTE}"
done
