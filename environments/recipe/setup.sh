#!/bin/sh
# What is to be done as root when all packages are there.
