#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The zoo and random networks against torch and numpy (Debian's python3 has them).
exec /usr/bin/python3 "$(dirname "$0")/zoo_check.py"
