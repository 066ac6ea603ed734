#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Reduced weights, calibration, tuning and the accuracy report of millrace-model, judged by numpy.
exec /usr/bin/python3 -W ignore "$(dirname "$0")/precision_check.py"
