"""Provisioning jobs: bring databases, roles, buckets, keys and accounts into the desired state.

The package runs in the toolbox container, on the platform's network, where it is called ``jobs``; it must not
import anything else of ``dap``. It creates what is missing, repairs what differs, and never removes data.
"""
