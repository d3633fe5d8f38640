#!/bin/sh
# Starts the registry without the images of earlier deploys: they are on the hosts by now, and would only pile up.
set -eu
rm -rf /var/lib/registry/docker
exec docker-registry serve /etc/dap/config.yml
