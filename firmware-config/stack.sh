# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-3-Clause
# One appliance inside the private world of lib.sh: licence, configuration, start, subscribers, load.
# Used by `make run`, the end-to-end tests and the benchmarks. Needs lib_enter and lib_net first.

BUILD=${BUILD:-build}
BIN=$(cd "$BUILD/bin" 2>/dev/null && pwd) || mr_die "nothing is built in $BUILD: run make all"
ZOO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../models/zoo" && pwd)
MODELS=$(cd "$BUILD/models" 2>/dev/null && pwd)
export PATH=$BIN:$PATH

# The worker polls one core for itself; everything else shares the others.
MR_WORKER_CORE=$(($(nproc) > 1 ? 1 : 0))
MR_CLIENT_CORE=0

# One setting of the instance's YAML can be changed per variable; the keys are millrace.yaml's.
stack_config() {
	local pages=required
	((${MR_HUGE_MISSING:-0} == 0)) || pages=preferred
	cat >"$MR_WORK/millrace.yaml" <<-END
	instance: ${MR_INSTANCE:-demo}
	run_dir: $MR_WORK/run
	state_dir: $MR_WORK/state
	log_level: ${MR_LOG_LEVEL:-info}
	ports:
	  - kind: af_xdp
	    device: data0
	    queues: 1
	    cores: [$MR_WORKER_CORE]
	    ipv4: $MR_SERVER_DATA
	    udp_port: 4433
	dataplane:
	  memory_mb: ${MR_MEMORY_MB:-256}
	  huge_pages: $pages
	  sessions: 1024
	  hang_ms: ${MR_HANG_MS:-2000}
	  poll: ${MR_POLL:-busy}
	  slice_us: ${MR_SLICE_US:-200}
	  engine_cores: [${MR_ENGINE_CORES:-}]
	limits:
	  slots: 256
	https:
	  listen: "$MR_SERVER_MGMT:8443"
	  data_networks: ["${MR_SERVER_DATA%.*}.0/24"]
	license:
	  keys: ["$MR_WORK/vendor/license-public.pem"]
	END
}

# The vendor's side: a key pair, once.
stack_vendor() {
	[[ -d $MR_WORK/vendor ]] || millrace-license keygen --out "$MR_WORK/vendor" >"$MR_WORK/log/license.log" 2>&1
}

# stack_licence FILE [options of millrace-license issue]
stack_licence() {
	local out=$1
	shift
	stack_vendor && millrace-license issue --key "$MR_WORK/vendor/license-private.pem" --customer demo \
		--days 30 --subscribers 16 --models 8 --rate 100000000 "$@" --out "$out" \
		>>"$MR_WORK/log/license.log" 2>&1
}

# Start control in the background; it starts the dataplane. CONTROL_PID is its.
stack_start_control() {
	nice -n -10 millrace-control --config "$MR_WORK/millrace.yaml" >>"$MR_WORK/log/control.log" 2>&1 &
	CONTROL_PID=$!
}

stack_state() { millrace --json status 2>/dev/null | jq -r .dataplane.state; }
stack_is_ready() { [[ $(stack_state) == ready ]]; }
stack_dataplane_pid() { millrace --json status | jq -r .dataplane.pid; }

# Fails at once when control has ended instead of using up the time.
stack_ready_or_ended() { stack_is_ready || ! kill -0 "$CONTROL_PID" 2>/dev/null; }
stack_wait_ready() {
	wait_for "${1:-20}" "the dataplane to be ready" stack_ready_or_ended || return 1
	stack_is_ready || { echo "control ended before it was ready" >&2; return 1; }
}

# stack_subscriber NAME [options]: prints the API key.
stack_subscriber() { millrace --json subscriber add "$@" | jq -er '.api_key // empty'; }

# SHA-256 of control's certificate: what the client pins.
stack_pin() { millrace --json status | jq -er .https.fingerprint; }

# The zoo's model NAME: load, wait, make it current.
stack_model() {
	millrace --json model load "$MODELS/$1.mrm" --activate >"$MR_WORK/log/model-$1.log" 2>&1
}

# stack_bench KEY MODEL [options]: the client's machine drives the appliance.
stack_bench() {
	local key=$1 model=$2
	shift 2
	MILLRACE_API_KEY=$key mr_client nice -n -10 "$BIN/millrace-bench" --port "udp:$MR_CLIENT_DATA" \
		--url "$MR_SERVER_MGMT:8443" --pin "$(stack_pin)" --model "$model" --core "$MR_CLIENT_CORE" "$@"
}

# Everything up to a served model: licence, configuration, control, dataplane, model NAME.
stack_up() {
	lib_net
	stack_licence "$MR_WORK/license.json" && stack_config && stack_start_control && stack_wait_ready 30 &&
		millrace license install "$MR_WORK/license.json" >"$MR_WORK/log/install.log" 2>&1 && stack_model "$1"
}

# After a failure: what the programs said last.
stack_last_words() {
	local log
	for log in "$MR_WORK"/log/{control,bench,load}.log "$MR_WORK"/run/dataplane.log; do
		[[ -s $log ]] || continue
		echo "--- last lines of ${log##*/}" >&2
		tail -n "${1:-12}" "$log" | cut -c1-220 >&2
	done
}
