# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: BSD-3-Clause
# Load against misbehaviour: floods, noisy subscribers, and latency against load. Sourced by bench.sh.
#
# Sender, flood and (on veth) the receiving softirq share the client's core: a flood that the XDP program drops
# costs nothing on the worker's core, but its sending costs the client. So each run accounts for CPU seconds of
# the client, of the dataplane and of softirqs on the client's core, and the rates offered are those achieved.

FLOOD_ADDRESS=${MR_CLIENT_DATA%.*}.66 # strays come from here; replays and over-limit requests too
FLOOD_SECONDS=${BENCH_FLOOD_SECONDS:-1}
FLOOD_TRIES=3     # of a point of a curve
FLOOD_ROW_TRIES=7 # of a figure of the table, and of the quiet one beside it
NOISY_MODEL=digits # the most expensive of the bench models
FLOOD_KINDS="junk unknown forged replay overlimit"
POINTS=$RIG_ROOT/points.jsonl
: >"$POINTS"

# Wall clock, CPU seconds of the dataplane, and of softirqs on the client's core, so far.
flood_cpu() {
	local hz pid
	hz=$(getconf CLK_TCK)
	pid=$(stack_dataplane_pid)
	printf '%s ' "$EPOCHREALTIME"
	awk -v hz="$hz" '{ sub(/.*\) /, ""); printf "%.3f ", ($12 + $13) / hz }' "/proc/$pid/stat"
	awk -v hz="$hz" -v cpu="cpu$RIG_CLIENT_CORE" '$1 == cpu { printf "%.3f\n", $8 / hz }' /proc/stat
}

# flood_run CURVE KIND REPORT [options]: one open-loop run of $FLOOD_LEGIT requests a second from four sessions,
# each request sent once. A run in which requests are lost is a result, not an error.
flood_run() {
	local curve=$1 kind=$2 report=$3 before after
	shift 3
	rm -f "$report"
	before=$(flood_cpu)
	RIG_CLIENT_NICE=-20 rig_bench fraud "$report" --rate "$FLOOD_LEGIT" --seconds "$FLOOD_SECONDS" --poisson --sessions 4 --order rr \
		--attempts 1 --timeout-ms 200 --flood "$kind" --flood-address "$FLOOD_ADDRESS" "$@"
	after=$(flood_cpu)
	[[ -s $report ]] || return 1
	jq -c --arg curve "$curve" --arg kind "$kind" --arg before "$before" --arg after "$after" --argjson s "$FLOOD_SECONDS" '
		($before | split(" ") | map(tonumber)) as $b | ($after | split(" ") | map(tonumber)) as $a |
		($a[0] - $b[0]) as $wall |
		{curve: $curve, kind: $kind, flood_rate, rate: (.sent / $s),
		goodput_pct: (100 * (.status.result - .victim_results) / (.sent - .victim_sent)),
		victim_goodput_pct: (if .victim_sent > 0 then 100 * .victim_results / .victim_sent else null end),
		p50_us, p99_us, max_us, client_cpu_pct: (100 * (.cpu_user_s + .cpu_system_s) / $s),
		dataplane_cpu_pct: (100 * ($a[1] - $b[1]) / $wall), softirq_pct: (100 * ($a[2] - $b[2]) / $wall),
		flood_sent, flood_replies}' "$report" >"$RIG_ROOT/point.json"
}

# keep_least REPORT BEST: BEST becomes REPORT unless it has the lower p99.
keep_least() {
	[[ -s $2 ]] && jq -es '.[0].p99_us >= .[1].p99_us' "$1" "$2" >/dev/null || cp "$1" "$2"
}

# flood_point ...: the least disturbed of $FLOOD_TRIES runs, that with the lowest p99, into $POINTS. Whoever else
# lives on this machine can only add to a tail; quiet runs are chosen alike.
flood_point() {
	local try best=$RIG_ROOT/least.json
	rm -f "$best"
	for ((try = 0; try < FLOOD_TRIES; try++)); do
		flood_run "$@" || return 1
		keep_least "$RIG_ROOT/point.json" "$best"
	done
	mv "$best" "$RIG_ROOT/point.json"
	cat "$RIG_ROOT/point.json" >>"$POINTS"
}
point() { jq -r ".$1 // empty" "$RIG_ROOT/point.json"; }

# The flood may not come from an address that the host does not have, where the kernel sends it.
flood_address() {
	[[ $RIG_KIND != af_xdp ]] || ip -n client address replace "$FLOOD_ADDRESS/24" dev data1
}

# Control lives on the client's core here, because there is no third, and reads statistics twenty times a second: it
# goes behind the client. The service thread does not: it shares a group with the worker, and would starve.
flood_housekeeping() {
	local task
	for task in /proc/"$CONTROL_PID"/task/*; do
		renice -n 19 -p "${task##*/}" >/dev/null 2>&1
	done
}

# flood_pair ID CURVE KIND [options]: quiet and flooded, one right after the other: the machine's own tail changes
# within minutes. The rows ID.* from the two.
flood_pair() {
	local id=$1 curve=$2 kind=$3 quiet FLOOD_TRIES=$FLOOD_ROW_TRIES
	shift 3
	flood_point "$curve" none "$RIG_ROOT/flood.json" || return 1
	quiet=$(point p99_us)
	flood_point "$curve" "$kind" "$RIG_ROOT/flood.json" "$@" && flood_rows "$id" "$quiet"
}

# flood_rows ID QUIET_P99: the figures of the last point.
flood_rows() {
	row "$1.goodput_pct" "$(point goodput_pct)" %
	row "$1.p99_ratio" "$(ratio "$(point p99_us)" "$2")" ratio
	[[ -z $(point victim_goodput_pct) ]] || row "$1.victim_goodput_pct" "$(point victim_goodput_pct)" %
	row "$1.offered" "$(point flood_rate)" packets/s
	row "$1.cpu.client" "$(point client_cpu_pct)" "% of a core"
	row "$1.cpu.dataplane" "$(point dataplane_cpu_pct)" "% of a core"
	row "$1.cpu.softirq" "$(point softirq_pct)" "% of client's core"
	say "  $1  $(jq -r '"\(.flood_rate | round)/s beside \(.rate | round)/s: goodput \(.goodput_pct) %, p99 \(.p99_us) us" +
		(if .victim_goodput_pct then ", victim \(.victim_goodput_pct) %" else "" end)' "$RIG_ROOT/point.json") (quiet $2 us)"
}

# measure_floods LEGIT RATE...: the five kinds against the appliance that is up, at each rate; the last makes the rows.
measure_floods() {
	local kind rate from prefix=flood
	FLOOD_LEGIT=$1
	shift
	[[ $RIG_KIND == af_xdp ]] || prefix=flood.$RIG_KIND
	flood_address
	flood_housekeeping
	FLOOD_KEY=$(stack_subscriber small --rate 1000 --burst 1000) || { problem "no subscriber to flood with"; return; }
	export MILLRACE_FLOOD_KEY=$FLOOD_KEY
	for kind in $FLOOD_KINDS; do
		want "$prefix.$kind" || continue
		from=$FLOOD_ADDRESS
		[[ $kind != forged ]] || from=$MR_CLIENT_DATA
		flood_pair "$prefix.$kind" "$RIG_KIND" "$kind" --flood-rate "${*: -1}" --flood-address "$from" ||
			{ problem "$kind: $(tail -1 "$MR_WORK/log/bench.log")"; continue; }
		for rate in "${@:1:$#-1}"; do
			flood_point "$RIG_KIND" "$kind" "$RIG_ROOT/flood.json" --flood-rate "$rate" --flood-address "$from" ||
				{ problem "$kind: $(tail -1 "$MR_WORK/log/bench.log")"; continue 2; }
		done
	done
}

# flood_capacity [MODEL [COUNT]]: the highest closed-loop rate of three: what shares of "the core's capacity" are of.
flood_capacity() {
	local try top=0 rate count=${2:-1500000}
	for ((try = 0; try < FLOOD_TRIES; try++)); do
		rig_bench "${1:-fraud}" "$RIG_ROOT/capacity.json" --count "$count" --preseal --window 256 --warmup $((count / 10))
		rate=$(field "$RIG_ROOT/capacity.json" .req_s)
		top=$(awk -v a="$top" -v b="${rate:-0}" 'BEGIN { print (a > b ? a : b) }')
	done
	[[ $top != 0 ]] && echo "$top"
}

share() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.0f", a * b / 100 }'; }

# noisy_run ID PLAN_RATE OFFERED [options]: a subscriber on that plan beside others at 30 % of capacity.
noisy_run() {
	local id=$1 plan=$2 offered=$3
	shift 3
	FLOOD_KEY=$(stack_subscriber "${id//./-}" --rate "$plan" --burst $((plan / 100 + 1000))) &&
		MILLRACE_FLOOD_KEY=$FLOOD_KEY flood_pair "$id" "$id" overlimit --flood-rate "$offered" "$@" ||
		problem "$id: $(tail -1 "$MR_WORK/log/bench.log")"
}

# One subscriber on a small plan offers half of what the core can do; one asks only for the most expensive model,
# five times what its plan allows, which is a fifth of the core.
measure_noisy() {
	local capacity dear units
	capacity=$(flood_capacity) || { problem "noisy: no capacity"; return; }
	FLOOD_LEGIT=$(share "$capacity" 30)
	flood_housekeeping
	noisy_run noisy 1000 "$(share "$capacity" 50)"
	stack_model "$NOISY_MODEL" && dear=$(flood_capacity "$NOISY_MODEL" 200000) &&
		units=$(millrace --json show models | jq --arg name "$NOISY_MODEL" '[.. | objects | select(.name? == $name and .cost_units?)][0].cost_units') ||
		{ problem "noisy.expensive: no $NOISY_MODEL"; return; }
	noisy_run noisy.expensive "$(share "$dear" $((20 * units)))" "$dear" --flood-model "$NOISY_MODEL"
	say "  capacity: fraud $capacity/s, $NOISY_MODEL $dear/s at $units units"
}

# curve_point RATE: the least disturbed of the tries into curve.json.
curve_point() {
	local try rate=$1 report=$RIG_ROOT/try.json
	rm -f "$RIG_ROOT/curve.json"
	for ((try = 0; try < FLOOD_TRIES; try++)); do
		rm -f "$report"
		RIG_CLIENT_NICE=-20 rig_bench fraud "$report" --rate "$rate" --poisson --count $((rate * FLOOD_SECONDS)) --preseal \
			--warmup $((rate / 10)) --attempts 1 --timeout-ms 200
		[[ -s $report ]] || return 1
		keep_least "$report" "$RIG_ROOT/curve.json"
	done
}

# Open loop over memif at shares of the highest closed-loop rate.
measure_curve() {
	local capacity percent rate
	capacity=$(flood_capacity) || { problem "curve: no capacity"; return; }
	flood_housekeeping
	for percent in 10 25 50 75 90 95; do
		rate=$(share "$capacity" "$percent")
		curve_point "$rate" || { problem "curve, $percent %: $(tail -1 "$MR_WORK/log/bench.log")"; continue; }
		row "curve.$percent.p50_us" "$(field "$RIG_ROOT/curve.json" .p50_us)" us
		row "curve.$percent.p99_us" "$(field "$RIG_ROOT/curve.json" .p99_us)" us
		jq -c --argjson percent "$percent" '{curve: "load", percent: $percent, rate: .req_s, p50_us, p99_us, p999_us}' \
			"$RIG_ROOT/curve.json" >>"$POINTS"
		say "  curve  $percent % = $rate/s: $(field "$RIG_ROOT/curve.json" '"p50 \(.p50_us) us, p99 \(.p99_us) us, \(.req_s | round) results/s"')"
	done
	row curve.50.p99_over_p50 "$(jq -s 'map(select(.percent? == 50))[0] | .p99_us / .p50_us' "$POINTS")" ratio
}

# One SVG a curve, into build/perf.
flood_plots() {
	[[ ! -s $POINTS ]] || cp "$POINTS" "$BUILD/perf/points.jsonl"
	[[ ! -s $POINTS ]] || /usr/bin/python3 perf/plot.py "$POINTS" "$BUILD/perf" || problem "no plots: python3-matplotlib?"
}
