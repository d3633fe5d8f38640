#!/bin/sh
# Lets the runner run as long as this host has room for jobs. With a full disk it would take one job after the other
# and fail them all, while other hosts have room.
#
# run.sh run ARGUMENT...   runs gitlab-runner with these arguments
# run.sh check             is the healthcheck; says why no jobs are taken
set -u

state="${STATE:-/tmp}" live="${LIVE:-/run/live}" pause="${PAUSE:-5}"
metrics=http://127.0.0.1:9252/metrics

# Writes what is wrong with the disk, if anything. The container's own file system lies where those of jobs do.
lacking() {
  read -r least <"${live}/free_mib"
  free=$(df -Pk / | { read -r _ && read -r _ _ _ kib _ && echo $((kib / 1024)); })
  if [ -n "${free}" ] && [ "${free}" -lt "${least}" ]; then
    echo "the disk is full: no jobs are taken with ${free} MiB free in Docker's folder, and again with ${least} MiB;" \
      "make room, for example with: dap runner clean"
  fi
}

# Succeeds if there is no room for jobs; keeps why for the healthcheck, and says it once.
full() {
  now=$(lacking)
  if [ -z "${now}" ]; then
    rm -f "${state}/full"
    return 1
  fi
  [ -e "${state}/full" ] || echo "${now}" >&2
  echo "${now}" >"${state}/full"
}

# The signal that this process got is the runner's.
pass_on() {
  asked=yes caught=yes
  [ -z "${runner}" ] || kill "-$1" "${runner}"
}

run() {
  asked='' runner=''
  trap 'pass_on QUIT' QUIT
  trap 'pass_on TERM' TERM
  trap 'pass_on INT' INT
  while :; do
    while [ -z "${asked}" ] && full; do
      sleep "${pause}" &
      wait $!
    done
    [ -z "${asked}" ] || exit 0
    gitlab-runner "$@" &
    runner=$!
    watch "${runner}" &
    watcher=$!
    code=127
    while :; do
      caught=''
      wait "${runner}"
      found=$?
      # Said of whom the shell has waited for already.
      [ "${found}" -eq 127 ] || code=${found}
      # A signal ends the waiting, not the runner.
      [ -n "${caught}" ] || break
    done
    runner=''
    kill "${watcher}" 2>/dev/null
    # One that ended by itself is started again by the engine.
    { [ -z "${asked}" ] && [ -e "${state}/full" ]; } || exit "${code}"
  done
}

# Lets a runner finish its jobs and end, once there is no room for more.
watch() {
  until full; do
    sleep "${pause}"
  done
  kill -QUIT "$1"
}

# As long as all is well it stays for half a minute: starting it costs the engine more than it does itself. After one
# that was broken off, as when the engine pauses the container, it does not: what the engine knew is forgotten then.
check() {
  stay=''
  [ ! -e "${state}/well" ] || stay=yes
  rm -f "${state}/well"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    if [ -e "${state}/full" ]; then
      cat "${state}/full"
      exit 1
    fi
    if ! wget -q -O /dev/null "${metrics}"; then
      echo "the runner does not answer at ${metrics}"
      exit 1
    fi
    [ -n "${stay}" ] || break
    sleep 2
  done
  : >"${state}/well"
}

"$@"
