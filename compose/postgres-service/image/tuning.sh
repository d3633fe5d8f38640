#!/bin/sh
# Prints the settings of a profile, from what this container may use: tuning small|bulk
set -eu

ROOT=${TUNING_ROOT:-}
PROFILE=${1:?usage: tuning small|bulk}

first_number() { # FILE: its first word where that is a number, else nothing
    [ -r "$1" ] || return 0
    read -r word _ < "$1" || return 0
    case ${word} in *[!0-9]* | '') ;; *) echo "${word}" ;; esac
}

smaller() { if [ "$1" -lt "$2" ]; then echo "$1"; else echo "$2"; fi; }
larger() { if [ "$1" -gt "$2" ]; then echo "$1"; else echo "$2"; fi; }

memory_mb() { # the container's memory limit (cgroup v2, then v1), or the machine's memory where there is none
    total=$(awk '/^MemTotal:/ { print int($2 / 1024) }' "${ROOT}/proc/meminfo")
    for file in "${ROOT}/sys/fs/cgroup/memory.max" "${ROOT}/sys/fs/cgroup/memory/memory.limit_in_bytes"; do
        limit=$(first_number "${file}")
        if [ -n "${limit}" ]; then
            # v1 says "no limit" by a number near 2^63, so the smaller of the two is meant.
            smaller $((limit / 1048576)) "${total}"
            return
        fi
    done
    echo "${total}"
}

cpus() { # whole processors, at least one
    quota='' period=''
    if [ -r "${ROOT}/sys/fs/cgroup/cpu.max" ]; then
        read -r quota period < "${ROOT}/sys/fs/cgroup/cpu.max"
    elif [ -r "${ROOT}/sys/fs/cgroup/cpu/cpu.cfs_quota_us" ]; then
        read -r quota < "${ROOT}/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
        read -r period < "${ROOT}/sys/fs/cgroup/cpu/cpu.cfs_period_us"
    fi
    count=$(nproc)
    case ${quota} in max | -1 | '') ;; *) count=$(smaller "${count}" $(((quota + period - 1) / period))) ;; esac
    larger "${count}" 1
}

max_wal_mb() { # a tenth of the disk, 1 to 16 GiB: the write-ahead log must never be what fills it
    disk=$(df -Pm "$(dirname "${PGDATA}")" | awk 'NR == 2 { print $2 }')
    smaller 16384 "$(larger 1024 $((disk / 10)))"
}

memory=$(memory_mb)
cpus=$(cpus)

case ${PROFILE} in
small) # many short transactions of the platform's services, beside everything else on the machine
    cat << END
max_connections = 200
shared_buffers = $(larger 32 "$(smaller 1024 $((memory / 4)))")MB
effective_cache_size = $(larger 64 $((memory / 2)))MB
maintenance_work_mem = $(larger 32 "$(smaller 256 $((memory / 16)))")MB
work_mem = 4MB
END
    ;;
bulk) # few connections that load and scan large tables
    wal=$(max_wal_mb)
    half=$(((cpus + 1) / 2))
    cat << END
max_connections = 100
shared_buffers = $(larger 128 $((memory / 4)))MB
effective_cache_size = $(larger 256 $((memory * 3 / 4)))MB
maintenance_work_mem = $(larger 64 "$(smaller 2048 $((memory / 16)))")MB
autovacuum_work_mem = $(larger 32 "$(smaller 512 $((memory / 32)))")MB
work_mem = $(larger 8 "$(smaller 256 $((memory / 64)))")MB
max_wal_size = ${wal}MB
min_wal_size = $((wal / 8))MB
checkpoint_timeout = 30min
wal_compression = lz4
wal_buffers = 64MB
max_worker_processes = $((cpus + 8))
max_parallel_workers = ${cpus}
max_parallel_workers_per_gather = $(smaller 8 "$(larger 2 "${half}")")
max_parallel_maintenance_workers = $(smaller 8 "$(larger 2 "${half}")")
effective_io_concurrency = 200
maintenance_io_concurrency = 200
random_page_cost = 1.1
autovacuum_vacuum_cost_limit = 2000
END
    ;;
*)
    echo "postgres: POSTGRES_PROFILE is '${PROFILE}'; it must be small or bulk" >&2
    exit 78
    ;;
esac
