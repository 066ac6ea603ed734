#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# One core, shared: plans with weights and caps, what runs cost, a shouter beside a quiet client, and a worker
# that sleeps when nothing comes.
#
#   small plan ══ shouts ══▶ ┐
#   big plan   ── asks ────▶ ┴ one worker      the quiet one is answered all the same
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
MR_POLL=adaptive
t_enter "$@"

worker() { millrace --json show workers | jq -e "(.result // .).workers[0] | $1" >/dev/null; }

must "the appliance starts with a worker that may sleep" stack_up digits
is "a plan takes a weight and a cap" eval 'millrace --json plan set small --rate 20000 --burst 200 --weight 1 --concurrent 64 |
	jq -e ".plan.weight == 1 and .plan.concurrent == 64"'
is "and another weighs more" eval 'millrace --json plan set big --rate 1000000 --burst 100000 --weight 8 | jq -e ".plan.weight == 8"'
is "a weight of 0 is refused" refused 'weight' millrace plan set big --rate 1000 --burst 10 --weight 0
cost_shown() { # the service thread writes the tables down every so often
	wait_for 3 "the cost table" eval 'millrace --json show models |
		jq -e "any(.models[]; .name == \"digits\" and (.current.run_ns | length) == 8 and .current.run_ns[0][1] > 0)" >/dev/null'
}
is "what a run costs is shown" cost_shown

loud=$(stack_subscriber loud --plan small)
quiet=$(stack_subscriber quiet --plan big)
sleep 1
is "an idle worker sleeps" worker '.sleeps > 50'
sleep 1
is "and has measured how long waking takes" worker '.wake_p50_us > 0'
is "status says so" eval 'millrace status | grep -q "adaptive  slept"'

must "a paced client is answered by a worker that sleeps in between" load "$quiet" --seconds 2 --rate 500
is "every one of its requests" report '.answered == .sent and .wrong_rows == 0'
jq -c '{sent, p50_us, p99_us}' "$MR_WORK/report.json"

stack_bench "$loud" digits --rows-file "$ZOO/digits/heldout_x.npy" --order rr --seconds 5 --window 512 --attempts 1 \
	--json "$MR_WORK/loud.json" --quiet 2>>"$MR_WORK/log/bench.log" &
shouter=$!
sleep 1
load "$quiet" --seconds 3 --rate 2000
wait "$shouter"
is "beside a shouter on a small plan the quiet one keeps 95 % of its answers" report '.status.result >= 0.95 * .sent and .wrong_rows == 0'
jq -c '{sent, answered, p50_us, p99_us, status}' "$MR_WORK/report.json" "$MR_WORK/loud.json"
t_end
