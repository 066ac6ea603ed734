#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The real programs, killed at every named place while key epochs step: control brings the dataplane back or adopts it, no
# reply counter is used twice, no request is taken twice. tests/kill does it a thousand times without the network.
#
#   millrace-bench ══ 8 sessions, and 64 requests of its own again and again ══▶ dataplane ✗ SIGKILL at a failpoint
#   kills.py watch ── every (key id, epoch, lane, counter) on the wire          control   ✗ SIGKILL after every fourth
# timeout: 240
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
[[ -n ${MR_INSIDE:-} ]] || make -s --no-print-directory FAILPOINTS=1 SAN="${SAN:-}" \
	"${BUILD:-build}/failpoints/bin/millrace-dataplane" >/dev/null || exit 1
t_enter "$@"

ATTACKER=${MR_CLIENT_DATA%.*}.66
ORDERS=$MR_WORK/orders
ROUNDS=("reply.counter reply.sealed adopt.session replay.bit"
	"replay.highest ratchet.promoted adopt.locked ratchet.secret"
	"mailbox.taken artifact.opened artifact.published adopt.generation"
	"ratchet.derived ratchet.keys adopt.limits ratchet.epoch"
	"session.filled session.added mailbox.acked ratchet.wiped"
	"session.closed session.lanes session.keys session.free"
	"replay.clear")
MR_HANG_MS=5000

start() {
	lib_net
	stack_licence "$MR_WORK/license.json" && stack_config &&
		sed -i "s#^dataplane:#&\n  program: $(realpath "$BUILD/failpoints/bin/millrace-dataplane")#" "$MR_WORK/millrace.yaml" &&
		truncate -s 128 "$ORDERS" && export MILLRACE_FAILPOINTS=$ORDERS && stack_start_control && stack_wait_ready 30 &&
		millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1 && stack_model digits
}

watch_begin() { # OUT
	nsenter --net=/run/netns/client -- /usr/bin/python3 tests/netns/kills.py watch data1 "$1" &
	watcher=$!
	sleep 0.5
}
watch_end() { kill -TERM "$watcher" && wait "$watcher"; }
watched() { jq -e "$1" "$2" >/dev/null || { jq -c . "$2"; return 1; }; }

# Sessions that come and go, whatever happens.
guests() {
	while sleep 0.05; do
		stack_bench "$guest" digits --count 20 --attempts 2 --quiet >/dev/null 2>&1
	done
}

# With both processes gone the sessions are gone, too: control is not killed before the new dataplane is there.
ready_and_alive() {
	local pid
	pid=$(millrace --json status | jq -r '.dataplane | select(.state == "ready") | .pid')
	[[ -n $pid && -r /proc/$pid/stat && $(cut -d' ' -f3 "/proc/$pid/stat") != Z ]]
}

# Deaths in a row bring control's brake; a new control knows of none.
new_control() {
	kill -KILL "$CONTROL_PID"
	wait "$CONTROL_PID" 2>/dev/null
	stack_start_control
	stack_wait_ready 20
}

kill_all() {
	local round place bad=0
	for round in "${ROUNDS[@]}"; do
		for place in $round; do
			# Some time to serve between two deaths, unless it is to die while it starts.
			[[ $place == adopt.* || $place == artifact.* || $place == mailbox.* ]] ||
				{ wait_for 10 "a dataplane before $place" ready_and_alive && sleep 0.5; }
			/usr/bin/python3 tests/netns/kills.py order "$ORDERS" "$place" 10 || { echo "        nobody died at $place" && bad=1; }
			deaths=$((deaths + 1))
		done
		sleep 0.2 # control sees the death
		if ! wait_for 10 "a dataplane after $place" ready_and_alive || ! new_control; then
			echo "        not ready after $place"
			bad=1
		fi
	done
	return "$bad"
}

must "the appliance starts with a dataplane that obeys failpoints" start
ip -n client address add "$ATTACKER/24" dev data1
key=$(stack_subscriber first --rate 1000000 --burst 100000)
guest=$(stack_subscriber guest --rate 1000000 --burst 100000)

deaths=0
watch_begin "$MR_WORK/nonces.json"
# As load of t.sh, but so that it can be ended: by a signal that millrace-bench itself receives.
MILLRACE_FLOOD_KEY=$guest MILLRACE_API_KEY=$key nsenter --net=/run/netns/client -- nice -n -10 millrace-bench --port "udp:$MR_CLIENT_DATA" \
	--url "$MR_SERVER_MGMT:8443" --pin "$(stack_pin)" --model digits --core "$MR_CLIENT_CORE" --rows-file "$ZOO/digits/heldout_x.npy" \
	--order rr --expect "$ZOO/digits/expected.npy" --json "$MR_WORK/report.json" --quiet --sessions 8 --epoch-datagrams 100 \
	--rate 400 --seconds 200 --attempts 16 --timeout-ms 150 --flood replay --flood-rate 1000 --flood-address "$ATTACKER" \
	2>>"$MR_WORK/log/bench.log" &
client=$!
guests &
visitors=$!
sleep 1
is "a dataplane dies at every place, and control brings it back or adopts it" kill_all
kill "$visitors"
kill -TERM "$client" # it sends no more, and waits for what it has sent
wait "$client"
wait "$visitors" 2>/dev/null
watch_end
echo "        $deaths deaths, $(jq -c 'del(.first)' "$MR_WORK/nonces.json")"
is "the client's own requests were answered, and rightly, without enrolling again" \
	report '.sent >= 4000 and .status.result + .status.overloaded == .sent and .status.overloaded <= .sent * 0.01 and .wrong_rows == 0'
is "no reply came that its replay window had to refuse" report '.refused.replay == 0 and .refused.tag == 0'
is "of the 64 requests that were sent again and again none was taken twice" report '.flood_sent > 5000 and .flood_replies <= 64'
is "no key id, epoch, lane and counter of a reply was seen twice" watched '.repeated == 0 and .missed == 0 and .nonces > 4000' "$MR_WORK/nonces.json"
is "and epochs stepped meanwhile" watched '.epochs >= .keys + 8' "$MR_WORK/nonces.json"

# Would it have been noticed? A dataplane that forgets to publish what it reserved.
/usr/bin/python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(56); f.write(b"send_counter.publish")' "$ORDERS"
watch_begin "$MR_WORK/mutant.json"
load "$key" --sessions 4 --rate 2000 --seconds 4 --attempts 8 --timeout-ms 50 &
client=$!
sleep 1
for _ in 1 2; do
	/usr/bin/python3 tests/netns/kills.py order "$ORDERS" reply.sealed 10
done
wait "$client"
watch_end
is "with a step left out the same watch sees counters again" watched '.repeated > 0' "$MR_WORK/mutant.json"
t_end
