#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A model gets a response cache while it serves: hits are seen, metered, never a former version's answer, and
# the cache comes back with the dataplane and with control, and is warm when it was told to be.
#
#   client ══ load ══▶ digits v1, cache on ─▶ other weights as v2 ─▶ rollback ─▶ kill -9 ─▶ new control
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

# The digits network with another last layer: same inputs, other answers.
other_weights() {
	/usr/bin/python3 -c 'import onnx, sys
from onnx import numpy_helper
m = onnx.load(sys.argv[1])
for t in m.graph.initializer:
    if t.name.endswith(("5.weight", "5.bias")):
        t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t)[::-1].copy(), t.name))
onnx.save(m, sys.argv[2])' "$ZOO/digits/model.onnx" "$MR_WORK/other.onnx" &&
		millrace-model compile "$MR_WORK/other.onnx" -o "$MR_WORK/v2.mrm" --name digits --version 2 >/dev/null &&
		millrace-model run "$MR_WORK/v2.mrm" "$ZOO/digits/heldout_x.npy" -o "$MR_WORK/expected2.npy" >/dev/null
}
cache() { millrace --json show models | jq -e ".models[0].cache | $1" >/dev/null ||
	{ millrace --json show models | jq -c '.models[0].cache'; return 1; }; }
# Counters come four times a second.
settled() { sleep 0.4 && cache "$1"; }
units() { millrace --json show limits | jq '.subscribers[0].units_admitted'; }
load2() { load "$@" --expect "$MR_WORK/expected2.npy"; }

must "the appliance starts and serves digits" stack_up digits
must "another network of the same shape is compiled" other_weights
key=$(stack_subscriber first --rate 1000000 --burst 100000)
rows=$(/usr/bin/python3 -c 'import numpy, sys; print(len(numpy.load(sys.argv[1])))' "$ZOO/digits/heldout_x.npy")

is "a model has no cache unless it was given one" cache '. == null'
is "too little memory is refused by name" refused 'memory_kb [0-9]+ is the least' millrace model cache digits --memory_kb 1
is "too much by name, too" refused 'memory_kb' millrace model cache digits --memory_kb 1000000000
is "a wrong TTL, too" refused 'ttl_ms' millrace model cache digits --memory_kb 1024 --ttl_ms 1.5
is "an unknown model, too" refused 'no model nothing' millrace model cache nothing --memory_kb 1024
is "so is to ask for nothing" refused 'nothing to change' millrace model cache digits
is "a dry run changes nothing" eval 'millrace --dry-run model cache digits --memory_kb 1024 >/dev/null && cache ". == null"'

load "$key" --seconds 4 --window 32 &
client=$!
sleep 1
is "a cache is given under load" millrace --json model cache digits --memory_kb 2048 >"$MR_WORK/log/cache.log"
wait "$client"
is "every answer is right, with the cache and before" report '.status.result == .sent and .wrong_rows == 0'
is "hits are seen" settled '.hits > 1000 and .hit_ratio > 0.5 and .shared == false'
is "each row is kept once for its subscriber" cache ".entries == $rows and .bytes == 2048 * 1024 and .evicted == 0"
is "the table shows it" eval 'millrace show models | grep -q "each subscriber"'
is "status shows it" eval 'millrace --json status | jq -e ".cache.hits > 1000" >/dev/null'
metrics() { curl -sk --max-time 5 "https://127.0.0.1:8443/metrics" || curl -sk --max-time 5 "https://$MR_SERVER_MGMT:8443/metrics"; }
is "metrics show it" eval 'metrics | grep -E "^millrace_model_cache_hits_total.*digits.* [0-9]{4,}$" >/dev/null'

before=$(units)
hits=$(millrace --json show models | jq '.models[0].cache.hits')
load "$key" --count 720
is "answers from the cache are right" report '.answered == 720 and .wrong_rows == 0'
is "they are hits" settled ".hits >= $hits + 720"
is "and each is charged" test $(($(units) - before)) -ge 720

second=$(stack_subscriber second --rate 1000000 --burst 100000)
misses=$(millrace --json show models | jq '.models[0].cache.misses')
load "$second" --count 720
is "another subscriber's are computed" settled ".misses >= $misses + $((rows < 720 ? rows : 720))"

# Swaps under load. What is asked after an activation has been confirmed must be the new version's.
load "$key" --seconds 8 --window 32 &
client=$!
stale=0
for i in 1 2 3; do
	millrace --json model load "$MR_WORK/v2.mrm" --activate >>"$MR_WORK/log/swap.log" 2>&1 || stale=1
	load2 "$second" --count 1440 --json "$MR_WORK/second.json" || stale=1
	jq -e '.wrong_rows == 0 and .answered == 1440' "$MR_WORK/second.json" >/dev/null || stale=1
	millrace --json model rollback digits >>"$MR_WORK/log/swap.log" 2>&1 || stale=1
	load "$second" --count 1440 --json "$MR_WORK/second.json" || stale=1
	jq -e '.wrong_rows == 0 and .answered == 1440' "$MR_WORK/second.json" >/dev/null || stale=1
	: "$i"
done
wait "$client"
is "three swaps to other weights and back under load: never a former version's answer" test "$stale" = 0

millrace --json model cache digits --shared true >>"$MR_WORK/log/cache.log"
load "$key" --count 720
misses=$(sleep 0.4; millrace --json show models | jq '.models[0].cache.misses')
load "$second" --count 720
is "shared: another subscriber's question has been answered before" settled ".shared and .misses == $misses"

pid=$(stack_dataplane_pid)
kill -KILL "$pid"
is "a new dataplane comes" wait_for 5 "a new dataplane" eval '[[ $(stack_dataplane_pid) != "$pid" && $(stack_dataplane_pid) -gt 0 ]] && stack_is_ready'
load "$key" --count 1440
is "it has the cache again" settled '.bytes == 2048 * 1024 and .hits > 0 and .shared'
hits=$(millrace --json show models | jq '.models[0].cache.hits')
kill -KILL "$CONTROL_PID"
wait "$CONTROL_PID" 2>/dev/null
stack_start_control
is "a new control is ready" stack_wait_ready 15
is "it knows the cache, and has not emptied it" settled ".memory_kb == 2048 and .entries > 0 and .hits == $hits"

# Record what is asked, throw the cache away, warm it: nothing is a miss.
load "$key" --seconds 3 --rate 2000 &
client=$!
is "rows are recorded" eval 'millrace --json model record digits --rows 1500 --seconds 10 >"$MR_WORK/log/record.log"'
wait "$client"
trace=$(jq -r .path "$MR_WORK/log/record.log")
is "into a file that only root reads" test "$(stat -c %a "$trace")" = 600
is "they are the rows that were asked" /usr/bin/python3 -c 'import numpy, sys
got = {r.tobytes() for r in numpy.load(sys.argv[1])}
assert got and got <= {r.tobytes() for r in numpy.load(sys.argv[2])}, len(got)' "$trace" "$ZOO/digits/heldout_x.npy"
millrace --json model cache digits --shared false >>"$MR_WORK/log/cache.log"
is "a private cache is not warmed for nobody" refused 'name the subscriber' millrace model warm digits
is "nor with something else" refused 'rows of' millrace model warm digits --subscriber first --path "$ZOO/digits/expected.npy"
is "nor without a file" refused 'No such file' millrace model warm digits --subscriber first --path /nowhere.npy
is "it is warmed for one subscriber" eval 'millrace --json model warm digits --subscriber first --path "$ZOO/digits/heldout_x.npy" | jq -e ".kept == $rows" >/dev/null'
misses=$(sleep 0.4; millrace --json show models | jq '.models[0].cache.misses')
load "$key" --count 1440
is "who then hits, always" settled ".misses == $misses and .entries == $rows"
is "with right answers" report '.answered == 1440 and .wrong_rows == 0'
millrace --json model cache digits --shared true >>"$MR_WORK/log/cache.log"
is "a shared one is warmed with the recorded rows" eval 'millrace --json model warm digits | jq -e ".rows == 1500 and .kept > 0" >/dev/null'
millrace --json model cache digits --memory_kb 0 >>"$MR_WORK/log/cache.log"
is "and takes it away" cache '. == null'
load "$key" --count 720
is "without it all is as before" report '.answered == 720 and .wrong_rows == 0'
t_end
