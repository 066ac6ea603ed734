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

# admitted SECONDS WANT: the admitted rate over that time is WANT within 1 %.
admitted() {
	local a b
	a=$(sample) && sleep "$1" && b=$(sample)
	awk -v a="$a" -v b="$b" -v want="$2" 'BEGIN {
		split(a, x); split(b, y); rate = (y[2] - x[2]) * 1e9 / (y[1] - x[1]); error = 100 * (rate / want - 1)
		printf "        admitted %.0f a second, plan %d, error %.2f %%\n", rate, want, error
		exit !(error <= 1 && error >= -1) }'
}

# A burst may come on top of the rate whenever the client stalls, so it is kept below 1 % of what is measured.
load "$key" --seconds 13 --rate 50000 --attempts 1 --timeout-ms 20 &
client=$!
sleep 1.5 # the burst is used up
is "ten times the plan is admitted at the plan's rate within 1 %" admitted 4 5000
millrace subscriber set greedy --rate 2000 --burst 40 >/dev/null
sleep 1
is "a second after subscriber set, the new rate is admitted within 1 %" admitted 4 2000
wait "$client"
is "what is over the plan gets its typed answer" report '.status.rate_limited > 0'
millrace subscriber set greedy --rate 100000 --burst 5000 >/dev/null
load "$key" --count 3600 --window 4
is "within the plan everything is answered" report '.status.result == 3600 and .wrong_rows == 0'
t_end
