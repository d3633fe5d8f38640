#!/bin/sh
# Prints the SSH keys that a user has in GitLab: keys.sh ADDRESS. The SSH server asks for them at each attempt
# with a key that is not one of the configuration. Where GitLab does not answer, the keys that it named last count:
# nobody is to be locked out by an outage, or by a start of the host, and so they are in the home, too.
set -u
# The server hands on nothing: here are the certificates to trust and a proxy.
# shellcheck source=/dev/null
. /run/environment
now=/run/gitlab_keys
last=${HOME}/.cache/dap/gitlab_keys

ask() {
  # Of an answer without any key curl writes nothing.
  : >"${now}.new"
  # Where curl takes the platform's names for this container, it is told better.
  grep -s '^resolve' /run/curl/.curlrc | curl -q --config - --silent --max-time 3 --max-filesize 100000 \
    --output "${now}.new" --write-out '%{http_code} %{content_type}' "$1"
}

exec 9>>"${now}.lock"
flock 9
# A client offers several keys, one after the other.
if [ -z "$(find "${now}.asked" -newermt '-3 seconds' 2>/dev/null)" ]; then
  # Nothing else is GitLab's answer: not a page to log in, and not one that says that it is down.
  if answer=$(ask "$1") && case ${answer} in "200 text/plain"*) true ;; *) false ;; esac; then
    mv "${now}.new" "${now}"
    if ! cmp -s "${now}" "${last}"; then
      { mkdir -p "${last%/*}" && cp "${now}" "${last}.new" && mv "${last}.new" "${last}"; } ||
        echo "GitLab's keys cannot be kept in the home" >&2
    fi
  else
    echo "GitLab does not answer with keys (${answer%% *}); those that it named last count" >&2
  fi
  touch "${now}.asked"
fi
if [ -e "${now}" ]; then
  cat "${now}"
elif [ -e "${last}" ]; then
  cat "${last}"
fi
