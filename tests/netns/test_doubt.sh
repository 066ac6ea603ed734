#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A command that is not acknowledged in time may have been carried out after all: control asks the dataplane anew
# what it holds, and both agree again.
#
#   millrace model activate ──▶ control ──command──▶ dataplane (stopped; goes on later and obeys)
#                        timeout ◀──┘  └──attach, offers──▶
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
# shellcheck disable=SC2034
MR_HANG_MS=30000 # or control would put an end to it
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber first --rate 1000000 --burst 100000)
number() { millrace --json show models | jq ".models[0].$1.number // 0"; }
is_current() { [[ $(number current) == "$1" ]]; }
first=$(number current)
must "a second version is staged" millrace model load "$MODELS/digits.mrm"
second=$(number next)

# in_doubt COMMAND...: while the dataplane is stopped the command is refused for want of an answer.
in_doubt() {
	local pid status
	pid=$(stack_dataplane_pid)
	kill -STOP "$pid"
	refused 'no acknowledgement in time' "$@"
	status=$?
	kill -CONT "$pid"
	return "$status"
}
is "an activation without an answer is said to be in doubt" in_doubt millrace model activate digits
is "control learns that it was carried out" wait_for 5 "the second version" is_current "$second"
is "the first is the previous one now" test "$(number previous)" = "$first"
is "the dataplane is ready again" stack_wait_ready 5
is "a roll-back without an answer is in doubt" in_doubt millrace model rollback digits
is "control learns that this was carried out too" wait_for 5 "the first version" is_current "$first"
is "the dataplane is ready again" stack_wait_ready 5
is "nobody restarted anything" eval 'millrace --json status | jq -e ".dataplane.crashes == 0 and .dataplane.hangs == 0" >/dev/null'
load "$key" --count 720
is "and it serves" report '.answered == 720 and .wrong_rows == 0'
is "what a refusing dataplane says reaches the operator" refused 'digits|slot|previous|staged|version' millrace model rollback digits
t_end
