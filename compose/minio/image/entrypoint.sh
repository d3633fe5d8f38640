#!/bin/sh
# Starts MinIO with the root user from files.
set -eu

# MinIO takes a missing or empty credential file for "not set" and then runs as minioadmin:minioadmin.
for file in "${MINIO_ROOT_USER_FILE}" "${MINIO_ROOT_PASSWORD_FILE}"; do
    if ! [ -r "${file}" ] || ! [ -s "${file}" ]; then
        echo "minio: ${file} is missing, empty or not readable by uid $(id -u); not starting with the default password" >&2
        exit 78
    fi
done

exec minio "$@"
