#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A model is exchanged under load and nobody notices.
#
#   client ══ load ══▶ digits v1 ─▶ activate v2 ─▶ rollback v1 ─▶ ...      every answer right, none lost
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber first --rate 1000000 --burst 100000)
millrace-model compile "$ZOO/digits/model.onnx" -o "$MR_WORK/v2.mrm" --name digits --version 2 >/dev/null

load "$key" --seconds 5 --window 32 &
client=$!
sleep 1
swaps=0
for i in 1 2 3; do
	millrace --json model load "$MR_WORK/v2.mrm" --activate >>"$MR_WORK/log/swap.log" 2>&1 && swaps=$((swaps + 1))
	sleep 0.2
	millrace --json model rollback digits >>"$MR_WORK/log/swap.log" 2>&1 && swaps=$((swaps + 1))
	sleep 0.2
	: "$i"
done
is "three activations and three roll-backs under load succeed" test "$swaps" = 6
wait "$client"
is "no request is lost and no answer wrong" report '.answered == .sent and .unanswered == 0 and .wrong_rows == 0 and .status.result == .sent'
is "the first version is current again" eval 'millrace --json show models | jq -e "any(.models[]; .name == \"digits\" and .current.version == 1)"'

load "$key" --seconds 3 --window 32 &
client=$!
sleep 1
head -c 30000 "$MR_WORK/v2.mrm" >"$MR_WORK/cut.mrm"
is "a truncated artifact is refused under load" refused 'bytes' millrace model load "$MR_WORK/cut.mrm" --activate
is "and the current model stays" eval 'millrace --json show models | jq -e "any(.models[]; .name == \"digits\" and .current.version == 1)"'
wait "$client"
is "its kernels are shown" eval 'millrace --json show models | jq -e ".models[0].current.kernels | startswith(\"native \")"'
is "nobody noticed" report '.answered == .sent and .wrong_rows == 0'
t_end
