#!/bin/sh
# Makes the cluster if there is none, writes the generated configuration to memory, and becomes the server.
set -eu
umask 0077

MAJOR=17
RUN=/run/postgresql
PASSWORD_FILE=/run/secrets/admin_password
TLS_CERTIFICATE=/run/tls/tls.crt
TLS_KEY=/run/tls/tls.key
OPERATOR_CONF=/etc/dap/postgresql.conf

refuse() {
    echo "postgres: $*" >&2
    exit 78 # EX_CONFIG: starting again will not help
}

check_cluster() { # is there a cluster? refuses what must not be touched
    if [ -e "${PGDATA}/PG_VERSION" ]; then
        read -r found < "${PGDATA}/PG_VERSION"
        [ "${found}" = "${MAJOR}" ] ||
            refuse "${PGDATA} holds a PostgreSQL ${found} cluster, this image runs ${MAJOR}: dump with the old image and restore, or go back to it"
        return 0
    fi
    # An empty folder is one that somebody made for us; anything else is somebody's data.
    if [ -d "${PGDATA}" ] && ! rmdir "${PGDATA}" 2> /dev/null; then
        refuse "${PGDATA} is not empty and no PostgreSQL cluster (no PG_VERSION): move its files away"
    fi
    return 1
}

create_cluster() {
    # Made aside and renamed once it is complete and on disk: a kill half-way leaves no half cluster behind.
    unfinished=${PGDATA}.unfinished
    rm -rf "${unfinished}"
    initdb --pgdata="${unfinished}" --username=postgres --pwfile="${PASSWORD_FILE}" --data-checksums \
        --encoding=UTF8 --locale=C.UTF-8 --locale-provider=builtin --builtin-locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 > /dev/null
    mv -T "${unfinished}" "${PGDATA}"
    sync "$(dirname "${PGDATA}")"
    echo "postgres: created a cluster in ${PGDATA}" >&2
}

write_hba() {
    # Inside the container only, and only for its own user: healthcheck, dumps, maintenance.
    echo "local all postgres peer" > "${RUN}/pg_hba.conf"
    kind=host
    [ "${POSTGRES_TLS}" != required ] || kind=hostssl
    # The administrator comes from the platform's network (pgAdmin, the jobs, the host), never from outside.
    {
        echo "${kind} all postgres samenet scram-sha-256"
        echo "${kind} all postgres all reject"
        echo "${kind} all all all scram-sha-256"
    } >> "${RUN}/pg_hba.conf"
}

write_conf() {
    zone=${TZ:-Etc/UTC}
    [ -f "/usr/share/zoneinfo/${zone}" ] || refuse "TZ is '${zone}', which is no time zone name"
    {
        /usr/local/lib/dap/tuning "${POSTGRES_PROFILE}"
        echo "timezone = '${zone}'"
        echo "log_timezone = '${zone}'"
        echo "log_line_prefix = '%m [%p] %q%u@%d '"
        # The libraries it would load are not in the image.
        echo "jit = off"
        # The usual kind lives in /dev/shm, 64 MB in a container: parallel queries fail there with
        # "could not resize shared memory segment".
        echo "dynamic_shared_memory_type = sysv"
        [ ! -e "${OPERATOR_CONF}" ] || echo "include '${OPERATOR_CONF}'"
    } > "${RUN}/postgresql.conf"
}

set_admin_password() { # so that a changed secret heals with a restart, without the old one
    quoted=$(sed "s/'/''/g" "${PASSWORD_FILE}")
    printf "ALTER ROLE postgres PASSWORD '%s'\n" "${quoted}" |
        postgres --single -D "${PGDATA}" -c config_file="${RUN}/postgresql.conf" -c data_directory="${PGDATA}" \
            -c log_min_messages=fatal -c log_min_error_statement=panic -c password_encryption=scram-sha-256 \
            postgres > /dev/null || refuse "the admin password could not be set; the lines above say why"
}

case ${POSTGRES_TLS} in
off) ;;
required)
    for file in "${TLS_CERTIFICATE}" "${TLS_KEY}"; do
        [ -r "${file}" ] || refuse "POSTGRES_TLS is required and ${file} cannot be read by uid $(id -u)"
    done
    ;;
*) refuse "POSTGRES_TLS is '${POSTGRES_TLS}'; it must be off or required" ;;
esac
[ -s "${PASSWORD_FILE}" ] && [ -r "${PASSWORD_FILE}" ] ||
    refuse "${PASSWORD_FILE} is missing, empty or not readable by uid $(id -u)"
[ -w "$(dirname "${PGDATA}")" ] || refuse "$(dirname "${PGDATA}") does not belong to uid $(id -u)"

check_cluster || create_cluster
write_hba
write_conf
set_admin_password

# As arguments, what no file and no ALTER SYSTEM may change.
set -- -c config_file="${RUN}/postgresql.conf" -c data_directory="${PGDATA}" -c hba_file="${RUN}/pg_hba.conf" \
    -c ident_file="${PGDATA}/pg_ident.conf" -c unix_socket_directories="${RUN}" -c listen_addresses='*' -c port=5432 \
    -c logging_collector=off -c log_destination=stderr -c password_encryption=scram-sha-256 \
    -c fsync=on -c full_page_writes=on -c synchronous_commit=on
if [ "${POSTGRES_TLS}" = required ]; then
    set -- "$@" -c ssl=on -c ssl_cert_file="${TLS_CERTIFICATE}" -c ssl_key_file="${TLS_KEY}" \
        -c ssl_min_protocol_version=TLSv1.2 -c ssl_ciphers=ECDHE+AESGCM:ECDHE+CHACHA20
fi
exec postgres "$@"
