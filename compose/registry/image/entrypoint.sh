#!/bin/sh
# Starts the registry with the images that users may pull, and without those of earlier deploys: they are on the hosts
# by now, and would only pile up.
set -eu
repositories=/var/lib/registry/docker/registry/v2/repositories
kept=/etc/dap/kept

# A repository, such as dap/base, is a folder with a folder for each of its tags.
forget_others() {
  found=0
  for tag in "$1"/_manifests/tags/*; do
    if grep -qxF "${1#"${repositories}"/}:${tag##*/}" "${kept}"; then
      found=1
    else
      rm -rf "${tag}"
    fi
  done
  # Without a tag nothing in it can be had; what an upload that was broken off has left, neither.
  [ "${found}" = 1 ] || rm -rf "$1"
  rm -rf "$1/_uploads"
}

if [ -s "${kept}" ] && [ -d "${repositories}" ]; then
  find "${repositories}" -type d -name _layers -prune | while read -r layers; do
    forget_others "${layers%/_layers}"
  done
  # It is about room only: a registry that cannot make any serves as well.
  docker-registry garbage-collect --delete-untagged /etc/dap/config.yml > /dev/null 2>&1 || true
else
  rm -rf /var/lib/registry/docker
fi
exec docker-registry serve /etc/dap/config.yml
