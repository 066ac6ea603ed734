# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-3-Clause
# Appliances and peers to measure, inside the private world of firmware-config/lib.sh. One at a time.

RIG_SERVER_CORE=$(($(nproc) > 1 ? 1 : 0))
RIG_CLIENT_CORE=0
RIG_XDP_SESSIONS=131072 # compiled into the XDP map
RIG_PEER_ADDRESS=10.79.0.1 # kernel peers: a veth pair of their own
RIG_PEER_CLIENT=10.79.0.2
RIG_PEER_SESSION=7:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

# rig_config KIND: memif or af_xdp.
rig_config() {
	local device=data0 pages=required sessions=$RIG_SESSIONS
	[[ $1 == af_xdp ]] || device=$MR_WORK/run/memif.sock
	[[ $1 != af_xdp ]] || ((sessions <= RIG_XDP_SESSIONS)) || sessions=$RIG_XDP_SESSIONS
	((${MR_HUGE_MISSING:-0} == 0)) || pages=preferred
	cat >"$MR_WORK/millrace.yaml" <<-END
	instance: bench-$1
	run_dir: $MR_WORK/run
	state_dir: $MR_WORK/state
	ports:
	  - kind: $1
	    device: $device
	    queues: 1
	    cores: [$RIG_SERVER_CORE]
	    ipv4: $MR_SERVER_DATA
	    udp_port: 4433
	dataplane:
	  service_core: $RIG_CLIENT_CORE
	  memory_mb: $RIG_MEMORY_MB
	  huge_pages: $pages
	  sessions: $sessions
	  hang_ms: 2000
	  poll: ${RIG_POLL:-busy}
	limits:
	  slots: 64
	https:
	  listen: "$MR_SERVER_MGMT:8443"
	  sessions_per_subscriber: $sessions
	  data_networks: ["${MR_SERVER_DATA%.*}.0/24"]
	license:
	  keys: ["$MR_WORK/vendor/license-public.pem"]
	END
}

# rig_up KIND: an appliance serving risk and fraud; RIG_KEY is a subscriber's key without a felt limit.
rig_up() {
	RIG_KIND=$1
	MR_WORK=$RIG_ROOT/$1
	rm -rf "$MR_WORK" # of an appliance measured before: its subscribers are not ours
	mkdir -p "$MR_WORK/run" "$MR_WORK/state" "$MR_WORK/log"
	export MILLRACE_RUN=$MR_WORK/run MILLRACE_STATE=$MR_WORK/state
	rm -f /sys/fs/bpf/mr_* 2>/dev/null
	stack_licence "$MR_WORK/license.json" --rate 1000000000 && rig_config "$1" || return 1
	stack_start_control
	stack_wait_ready 30 && millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1 &&
		stack_model risk && stack_model fraud &&
		millrace plan set bench --rate 500000000 --burst 50000000 >"$MR_WORK/log/plan.log" 2>&1 &&
		RIG_KEY=$(stack_subscriber bench --plan bench) && RIG_PIN=$(stack_pin)
}

rig_down() {
	local pid
	pid=$(stack_dataplane_pid 2>/dev/null)
	kill -TERM "$CONTROL_PID" 2>/dev/null
	wait "$CONTROL_PID" 2>/dev/null
	if [[ $pid =~ ^[0-9]+$ ]] && ((pid > 1)); then
		kill -TERM "$pid" 2>/dev/null
		wait_for 5 "the dataplane to end" eval "! kill -0 $pid" || kill -KILL "$pid"
	fi
	rm -rf "$BUILD/perf/logs/$RIG_KIND" && mkdir -p "$BUILD/perf/logs" && cp -r "$MR_WORK/log" "$BUILD/perf/logs/$RIG_KIND"
	cp "$MR_WORK/run/dataplane.log" "$BUILD/perf/logs/$RIG_KIND/" 2>/dev/null
	MR_WORK=$RIG_ROOT
}

# rig_bench MODEL REPORT [options]: load the appliance that is up; 0 when everything was answered.
rig_bench() {
	local model=$1 report=$2 port=udp:$MR_CLIENT_DATA
	shift 2
	[[ $RIG_KIND == af_xdp ]] || port=memif:$MR_WORK/run/memif.sock
	[[ -z ${RIG_CLIENT_XDP:-} || $RIG_KIND != af_xdp ]] || port=af_xdp:data1
	MILLRACE_API_KEY=$RIG_KEY mr_client nice -n "${RIG_CLIENT_NICE:-0}" millrace-bench --port "$port" --address "$MR_CLIENT_DATA" \
		--url "$MR_SERVER_MGMT:8443" --pin "$RIG_PIN" --model "$model" --core "$RIG_CLIENT_CORE" \
		${RIG_HUGE:+--huge} --quiet --json "$report" "$@" >>"$MR_WORK/log/bench.log" 2>&1
}

# rig_peer_up MODEL sleep|spin: the kernel-socket server; RIG_PEER_PID is its.
rig_peer_up() {
	OPENBLAS_NUM_THREADS=1 "$BUILD/perf/millrace-peer-udp" --artifact "$MODELS/$1.mrm" --mode "$2" \
		--listen "$RIG_PEER_ADDRESS:4433" --session "$RIG_PEER_SESSION" --core "$RIG_SERVER_CORE" \
		2>>"$RIG_ROOT/log/peer.log" &
	RIG_PEER_PID=$!
	sleep 0.3
	kill -0 "$RIG_PEER_PID"
}

rig_peer_down() {
	kill -TERM "$RIG_PEER_PID" 2>/dev/null
	wait "$RIG_PEER_PID" 2>/dev/null
}

# rig_peer_bench MODEL REPORT [options]
rig_peer_bench() {
	local model=$1 report=$2
	shift 2
	mr_client millrace-bench --port "udp:$RIG_PEER_CLIENT" --fixed-session "$RIG_PEER_SESSION" \
		--artifact "$MODELS/$model.mrm" --server "$RIG_PEER_ADDRESS:4433" --core "$RIG_CLIENT_CORE" \
		--quiet --json "$report" "$@" >>"$RIG_ROOT/log/bench.log" 2>&1
}

# Cycles of each stage and completed requests so far, as one JSON object.
rig_cycles() { millrace --json show workers | jq -c '(.result // .).workers[0] | .stage_cycles + {completed}'; }
