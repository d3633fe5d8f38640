#!/bin/bash
# healthcheck http://HOST:PORT/PATH: exits 0 when the answer is 200.
# In bash: the image has no curl, and starting an interpreter at every probe costs more than the probe.
set -u
[[ ${1-} =~ ^http://([^/:]+):([0-9]+)(/.*)$ ]] || { echo "usage: healthcheck http://HOST:PORT/PATH" >&2; exit 2; }
host=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]} path=${BASH_REMATCH[3]}

exec 3<> "/dev/tcp/$host/$port" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: healthcheck\r\nConnection: close\r\n\r\n' "$path" "$host" "$port" >&3
read -r -t 4 -u 3 _ status _ || status=none
[ "$status" = 200 ] || { echo "$1 answered ${status:-nothing}" >&2; exit 1; }
