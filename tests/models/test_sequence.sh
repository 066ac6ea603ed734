#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Attention, norms, activations and recurrent layers freshly exported by torch, on random sizes and masks.
exec /usr/bin/python3 -W ignore "$(dirname "$0")/sequence_check.py" "$@"
