#!/bin/sh
# Starts the SSH server of a development container. Sessions get the variables that the container has, those of its
# image included, whether or not they read a profile: by one SetEnv line, as only the first of them counts.
set -eu
umask 077

variables() {
  env | sed -E '/^(HOSTNAME|OLDPWD|PWD|SHLVL|_)=/d'
}

# A login shell begins with a PATH of its own.
variables | sed -E "s/'/'\\\\''/g; s/^([A-Za-z_][A-Za-z0-9_]*)=(.*)\$/export \\1='\\2'/" >/run/environment
{
  cat /etc/dap/sshd_config
  printf 'SetEnv'
  variables | sed -E 's/[\\"]/\\&/g; s/^(.*)$/ "\1"/' | tr -d '\n'
  echo
} >/run/sshd_config

umask 022
# A new home gets what new homes get. A disk that is full is no reason not to let anybody in.
if [ ! -e "${HOME}/.profile" ] && ! cp -R /etc/skel/. "${HOME}"; then
  echo "the home is left as it is: it cannot be written" >&2
  # At the next start there may be room.
  rm -f "${HOME}/.profile"
fi
sh /etc/dap/names.sh
# The page's door comes back whatever ends it. Python's own modules are all that it has: what a user installs
# does not change it.
if [ -n "${DAP_PAGE-}" ] && [ -x /usr/bin/python3 ]; then
  while :; do
    /usr/bin/python3 -I -S /etc/dap/door.py || true
    sleep 1
  done &
fi
if [ -n "${DAP_IDLE_SECONDS-}" ]; then
  sh /etc/dap/idle.sh &
fi
exec /usr/sbin/sshd -D -e -f /run/sshd_config
