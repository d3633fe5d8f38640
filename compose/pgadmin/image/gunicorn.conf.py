"""gunicorn's settings for pgAdmin."""

bind = "0.0.0.0:5050"
# One, because pgAdmin keeps its users' database connections in the process that opened them.
workers = 1
worker_class = "gthread"
threads = 25
# The first start migrates the database before the worker can say that it is alive.
timeout = 120
graceful_timeout = 5
keepalive = 75
limit_request_line = 8190
# Heartbeats are file times; on a disk they would keep it awake.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the container's own
control_socket_disable = True
forwarded_allow_ips = "*"
accesslog = None
errorlog = "-"
loglevel = "warning"
