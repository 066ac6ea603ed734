#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Peers of a memif port that vanish in mid-load: the dataplane lives on, and the next one is served.
#
#   millrace-bench ══ memif ══ worker, on a core it has to share with a busy loop
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"
ROUNDS=40

lib_net
stack_licence "$MR_WORK/license.json" && stack_config
sed -i "s|kind: af_xdp|kind: memif|; s|device: data0|device: $MR_WORK/run/memif.sock|
	s|^https:|&\\n  sessions_per_subscriber: 64|" "$MR_WORK/millrace.yaml"
stack_start_control
must "the appliance starts with a memif port and serves digits" eval 'stack_wait_ready 30 &&
	millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1 && stack_model digits'
key=$(stack_subscriber peer --rate 100000000 --burst 1000000)
pid=$(stack_dataplane_pid)

peer() { load "$key" --port "memif:$MR_WORK/run/memif.sock" --address "$MR_CLIENT_DATA" --window 256 "$@"; }

# A worker that loses its core in the middle of a ring is the one whose memory goes away under it.
taskset -c "$MR_WORKER_CORE" nice -n -15 sh -c 'while :; do :; done' &
hog=$!
gone=0
for ((i = 0; i < ROUNDS; i++)); do
	peer --seconds 30 &
	client=$!
	wait_for 10 "the peer to connect" eval '(($(millrace --json show sessions | jq ".sessions | length") > 0))'
	sleep 0.3
	pkill -KILL -x millrace-bench && gone=$((gone + 1))
	wait "$client"
done 2>/dev/null
kill "$hog" 2>/dev/null
is "$ROUNDS peers were killed under load" test "$gone" = "$ROUNDS"
is "nothing crashed" eval 'millrace --json status | jq -e ".dataplane.crashes == 0 and .dataplane.hangs == 0"'
is "the same dataplane is there" test "$(stack_dataplane_pid)" = "$pid"
peer --count 3600
is "and serves the next peer, rightly" report '.status.result == 3600 and .wrong_rows == 0'
t_end
