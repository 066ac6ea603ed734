#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Floods beside a paying subscriber (F1, F2, F5, K11, K13): every request of his is answered rightly, what floods is
# dropped by name, who floods is boxed, and limits change meanwhile.
#
#   millrace-bench ══ requests from .2, flood from .66 ══ veth ══ data0: XDP ▸ shield ▸ worker
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

FLOODER=${MR_CLIENT_DATA%.*}.66
RATE=40000

must "the appliance starts and serves digits" stack_up digits
ip -n client address add "$FLOODER/24" dev data1
key=$(stack_subscriber payer --rate 1000000 --burst 100000)
small=$(stack_subscriber small --rate 100 --burst 100)
pid=$(stack_dataplane_pid)

counters() { millrace --json show drops | jq -c '[.dataplane[], .xdp[]] | map({(.name): .count}) | add'; }

# beside KIND [options]: the payer's load with that flood beside it; what the counters grew by is in $MR_WORK/grew.json.
beside() {
	local kind=$1 before
	shift
	before=$(counters)
	MILLRACE_FLOOD_KEY=$small load "$key" --sessions 4 --rate 4000 --seconds 2 --attempts 5 --timeout-ms 100 --flood "$kind" \
		--flood-rate "$RATE" --flood-address "$FLOODER" "$@"
	sleep 0.1 # control reads the counters twenty times a second
	jq -n --argjson b "$before" --argjson a "$(counters)" --slurpfile r "$MR_WORK/report.json" \
		'$a | with_entries(.value -= $b[.key]) | . + {sent: $r[0].flood_sent}' >"$MR_WORK/grew.json"
	echo "        $(jq -c 'with_entries(select(.value > 0))' "$MR_WORK/grew.json")"
	report '.status.result == .sent and .wrong_rows == 0 and .first_try_losses <= .sent * 0.05 and .flood_sent > 20000'
}
grew() { jq -e "$1" "$MR_WORK/grew.json" >/dev/null; }
boxed() { millrace --json show drops | jq -e --arg a "$FLOODER" 'any(.boxed[]; .source == $a and .packets > 10000)' >/dev/null; }

is "beside noise every request is answered" beside junk
is "all of the noise is dropped in XDP, and most of it from the box" \
	grew '.malformed + .unknown_key + .flood + .boxed == .sent and .boxed > .sent * 0.8'
is "show drops names the source" boxed
is "beside strange key ids, from an address that is boxed already, too" beside unknown
is "and those are dropped in XDP" grew '.unknown_key + .flood + .boxed == .sent'
is "beside forgeries in the name of one of the payer's sessions, too" beside forged --flood-address "$MR_CLIENT_DATA"
is "and those are dropped by the worker, nobody boxed for them" \
	grew '.drop_auth + .drop_failed_budget + .drop_replay >= .sent * 0.99 and .boxed + .flood == 0'
is "beside replays, too" beside replay
is "and those are dropped by the replay window" grew '.drop_replay >= .sent * 0.99'
is "beside a subscriber at four hundred times its plan, too" beside overlimit
is "and what is over the plan is dropped once its refusals are spent, most of it in XDP" \
	grew '.shouting + .drop_shouting > .sent * 0.95 and .shouting > .drop_shouting'

# F5: plans and subscribers change under load.
(
	for i in {1..10}; do
		millrace subscriber set payer --rate $((1000000 + i)) --burst 100000
		millrace subscriber add "passing$i" --rate 10 --burst 10
		sleep 0.1
		millrace subscriber remove "passing$i"
	done
) >"$MR_WORK/log/changes.log" 2>&1 &
changes=$!
load "$key" --sessions 4 --rate 4000 --seconds 2 --attempts 5 --timeout-ms 100
wait "$changes"
is "while limits and subscribers change, every request is answered" report '.status.result == .sent and .wrong_rows == 0'
is "the changes were made" test "$(millrace --json show limits | jq '[.. | objects | select(.name? == "payer") | .rate][0]')" = 1000010
is "all that by the same process" test "$(stack_dataplane_pid)" = "$pid"
t_end
