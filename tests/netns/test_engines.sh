#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# An engine core end to end: with a slice of a microsecond every run of a convolution is long (one of the dense digits is not, on
# a fast machine), so the worker hands all of them over and seals what comes back.
#
#   client ══▶ worker (core 1) ═jobs═▶ engine (core 0) ═answers═▶ worker ══▶ client
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
MR_ENGINE_CORES=0 MR_SLICE_US=1 MR_HANG_MS=5000
(($(nproc) > 1)) || { echo "an engine needs a core of its own"; exit 77; }
t_enter "$@"

MODEL=digits-cnn

engine() { millrace --json show workers | jq -e ".engines | length == 1 and (.[0] | $1)" >/dev/null; }

must "the appliance starts with an engine core" stack_up "$MODEL"
is "the engine polls on the core it was given" engine '.cpu == 0 and .state == "polling"'
is "show workers has a table of it" eval 'millrace show workers | grep -E "^ *0 +0 +polling" >/dev/null'
key=$(stack_subscriber first --rate 1000000 --burst 100000)
sleep 0.5 # the cost of a run has been measured
must "a client is answered" load "$key" --seconds 3 --window 8 --timeout-ms 500
is "every request, and rightly" report '.status.result == .sent and .wrong_rows == 0 and .sent > 500'
is "the engine did the runs" engine ".runs > 100"
before=$(millrace --json show workers | jq '.engines[0].runs')
load "$key" --seconds 3 --rate 300 --timeout-ms 500 &
client=$!
for _ in 1 2 3; do
	sleep 0.6
	stack_model "$MODEL"
done
wait "$client"
is "under swaps of the model, too" report '.status.result == .sent and .wrong_rows == 0 and .sent >= 800'
is "by the engine" engine ".runs > $before + 100"
is "nothing is left waiting" eval 'millrace --json show workers | jq -e ".workers[0].waiting == 0" >/dev/null'
t_end
