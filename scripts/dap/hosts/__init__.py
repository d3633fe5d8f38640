"""The way to the hosts: connections, Ansible, and what is found out about them."""
