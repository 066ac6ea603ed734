#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 600
# Random tree ensembles of every kind ONNX-ML knows against numpy; malformed ones are refused by name.
exec /usr/bin/python3 "$(dirname "$0")/trees_check.py"
