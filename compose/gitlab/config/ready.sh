#!/bin/bash
# ready.sh HOST: whether this start of GitLab has come to its end and GitLab works.
set -eu
host=$1

ask() { # PATH: the status that it is answered with
    /opt/gitlab/embedded/bin/curl --silent --output /dev/null --write-out '%{http_code}' --max-time 12 \
        --header "Host: ${host}" "http://127.0.0.1$1" || true
}

# At a later start the services run before the configuration and the database are brought up to date.
[[ -e /tmp/dap-configured ]] || { echo "GitLab is still being configured" >&2; exit 1; }
readiness=$(ask '/-/readiness?all=1')
[[ "${readiness}" = 200 ]] || { echo "/-/readiness answered ${readiness}" >&2; exit 1; }
# Ready by its own account, it may still answer its API with 502.
api=$(ask /api/v4/version)
[[ "${api}" = 401 ]] || { echo "/api/v4/version answered ${api}, not 401" >&2; exit 1; }
