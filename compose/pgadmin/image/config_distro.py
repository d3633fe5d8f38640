"""pgAdmin's settings. An /etc/dap/config_system.py, where there is one, is read later and wins."""

import logging

DATA_DIR = "/var/lib/pgadmin"

# To the container's log; a file of its own would grow in nobody's sight.
CONSOLE_LOG_LEVEL = logging.WARNING
LOG_FILE = "/dev/null"
FILE_LOG_LEVEL = logging.CRITICAL

# One proxy in front, which ends TLS and passes the name on.
PROXY_X_FOR_COUNT = 1
PROXY_X_PROTO_COUNT = 1
PROXY_X_HOST_COUNT = 1
PROXY_X_PORT_COUNT = 1
SESSION_COOKIE_SECURE = True

# Nobody may have to type a second password after the login.
MASTER_PASSWORD_REQUIRED = False
# Any visitor could lock the only administrator out with three wrong passwords; the proxy slows guessing down.
MAX_LOGIN_ATTEMPTS = 0
# There is no mail server, so only the method that needs none.
MFA_SUPPORTED_METHODS = ["authenticator"]
# Names of private networks. pgAdmin otherwise refuses such addresses at the login.
ALLOW_SPECIAL_EMAIL_DOMAINS = ["example", "home.arpa", "internal", "invalid", "local", "localhost", "test"]
GLOBALLY_DELIVERABLE = False

# It asks nobody outside for anything.
UPGRADE_CHECK_ENABLED = False
SHOW_GRAVATAR_IMAGE = False
LLM_ENABLED = False

DEFAULT_BINARY_PATHS = {"pg": "/usr/lib/postgresql/17/bin", "pg-17": "/usr/lib/postgresql/17/bin"}
