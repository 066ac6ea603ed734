#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The plan is what is admitted: at ten times the rate, and within a second after it was changed.
#
#   client ══ 10 x the plan ══▶ limiter ─▶ units_admitted grows at the plan's rate; the rest: RATE_LIMITED
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber greedy --rate 5000 --burst 100)

# "CLOCK_MONOTONIC ns, units admitted by then" of the subscriber, both read in control at one moment.
sample() {
	millrace --json show limits | jq -r '"\(.. | .at_ns? // empty) \(.. | objects | select(.name? == "greedy") | .units_admitted)"'
}

# One load of ten times RATE; in the middle the plan is changed from FROM to RATE, a second later 2 s are measured.
# 0 = within 1 %, 1 = more was admitted than the plan has, 2 = less (a client that stalls offers nothing).
measure() {
	local from=$1 rate=$2 burst=$(($2 / 50)) a b client
	millrace subscriber set greedy --rate "$from" --burst $((from / 50)) >/dev/null
	load "$key" --seconds 5 --rate $((10 * rate)) --attempts 1 --timeout-ms 20 &
	client=$!
	sleep 1
	millrace subscriber set greedy --rate "$rate" --burst "$burst" >/dev/null
	sleep 1
	a=$(sample) && sleep 2 && b=$(sample)
	wait "$client"
	awk -v a="$a" -v b="$b" -v want="$rate" -v burst="$burst" 'BEGIN {
		split(a, x); split(b, y); t = (y[1] - x[1]) / 1e9; units = y[2] - x[2]
		printf "        admitted %.0f a second, plan %d, error %.2f %%\n", units / t, want, 100 * (units / t / want - 1)
		if (units - burst > 1.01 * want * t) exit 1
		exit units < 0.99 * want * t ? 2 : 0 }'
}

# Never more than the plan; and the plan in full, given a client that did not stall, in one of five tries.
admitted() {
	local try rc
	for try in 1 2 3 4 5; do
		measure "$@"
		rc=$?
		((rc == 2)) || return "$rc"
		echo "        try $try: the client did not offer enough"
	done
	return 1
}

is "ten times the plan is admitted at the plan's rate within 1 %" admitted 5000 5000
is "a second after subscriber set, the new rate is admitted within 1 %" admitted 5000 2000
is "what is over the plan gets its typed answer" report '.status.rate_limited > 0'
millrace subscriber set greedy --rate 100000 --burst 5000 >/dev/null
load "$key" --count 3600 --window 4
is "within the plan everything is answered" report '.status.result == 3600 and .wrong_rows == 0'
t_end
