#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Operator families on random shapes against torch (Debian's python3 has it).
exec /usr/bin/python3 "$(dirname "$0")/differential_check.py"
