#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What no honest client sends: dropped, counted by name, never answered, and everybody else is served on.
#
#   hostile.py ── raw frames on data1 ══ veth ══ data0: XDP ▸ AF_XDP ▸ worker ─▶ nothing comes back
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber hostile --rate 1000000 --burst 100000)
mac=$(cat /sys/class/net/data0/address)
pid=$(stack_dataplane_pid)

drops() { millrace --json show drops; }

# attack KIND: run it; what was sent, what came back and which counters grew by how much are in $MR_WORK/KIND.json.
attack() {
	drops >"$MR_WORK/before.json"
	MILLRACE_API_KEY=$key mr_client /usr/bin/python3 tests/netns/hostile.py "$1" --url "$MR_SERVER_MGMT:8443" \
		--interface data1 --server-mac "$mac" >"$MR_WORK/said.json" || return 1
	sleep 0.1 # control reads the counters twenty times a second
	drops >"$MR_WORK/after.json"
	jq -cn --slurpfile b "$MR_WORK/before.json" --slurpfile a "$MR_WORK/after.json" --slurpfile s "$MR_WORK/said.json" '
		def all(d): [d.dataplane[], d.xdp[]] | map({(.name): .count}) | add;
		$s[0] + {grew: (all($a[0]) as $n | all($b[0]) as $o |
			$n | with_entries(.value -= $o[.key]) | with_entries(select(.value > 0)))}' >"$MR_WORK/$1.json"
	echo "        $(cat "$MR_WORK/$1.json")"
	jq -e '.replies == 0' "$MR_WORK/$1.json" >/dev/null
}

# counted KIND FILTER: of that report, as a truth.
counted() { jq -e "$2" "$MR_WORK/$1.json" >/dev/null; }
dropped='([.grew[]] | add // 0)'

is "truncated packets get no answer, and the next honest one does" attack truncated
is "each of them is counted: too short on the wire, or a tag that does not match" \
	counted truncated '.grew.malformed + .grew.drop_auth == .sent'
is "packets with one flipped bit get no answer" attack flipped
is "they are counted as forgeries, strangers, unknown versions and bad checksums" \
	counted flipped ".grew.drop_auth > 2000 and .grew.unknown_key >= 32 and .grew.drop_version > 0 and
		.grew.drop_checksum > 0 and .grew.malformed > 0 and $dropped >= .sent * 0.97"
is "a thousand replays get no answer" attack replayed
is "all of them are counted as replays" counted replayed '.grew.drop_replay == 1000'
is "two thousand forgeries of a known key id get no answer" attack forged
is "most are dropped unopened, all are counted" \
	counted forged '.grew.drop_auth + .grew.drop_failed_budget == .sent and .grew.drop_failed_budget > 0'
is "genuine packets under another key id get no answer" attack stranger
is "XDP counts all of them" counted stranger '.grew.unknown_key == .sent'
is "genuine packets from another address get no answer" attack elsewhere
is "XDP counts all of them" counted elsewhere '.grew.wrong_source == .sent'
is "oversized and fragmented packets get no answer" attack oversized
is "all of them are counted: length, malformed, fragment" \
	counted oversized '.grew.drop_length == 272 and .grew.malformed == 4 and .grew.fragment == 4'

units() { millrace --json show limits | jq '[.. | objects | select(.name? == "hostile") | .units_admitted][0]'; }
is "the plan was charged for the fifteen honest requests and for nothing else" test "$(units)" = 15
load "$key" --count 3600
is "everybody is served on, rightly" report '.status.result == 3600 and .wrong_rows == 0'
is "by the same process" test "$(stack_dataplane_pid)" = "$pid"
t_end
