# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-3-Clause
# A private world for one instance: `make run`, the end-to-end tests and the benchmarks live in one each.
#
#   the host                                 what lib_enter makes, and nobody else sees
#   +---------------------------+            +----------------------------------------------------+
#   | guardian (outer shell)    |  unshare   | inner shell = PID 1 of its own mount, PID and net   |
#   |  huge pages up / down     |----------->| namespaces; own /sys, /sys/fs/bpf, /run             |
#   |  forwards Ctrl-C as TERM  |            |  data0 10.77.0.1 ==veth== data1 10.77.0.2 +--------+ |
#   |  checks the host after    |            |  mgmt0 10.78.0.1 ==veth== mgmt1 10.78.0.2 | client | |
#   +---------------------------+            +----------------------------------------------------+
#
# The inner shell is PID 1: when it ends, however it ends, the kernel ends every process, mount, interface
# and pinned map with it. Only the huge-page count belongs to the host; the guardian puts it back.

MR_SERVER_DATA=10.77.0.1   # the dataplane's address on the subscribers' network
MR_CLIENT_DATA=10.77.0.2
MR_SERVER_MGMT=10.78.0.1   # HTTPS: never on the data port's interface
MR_CLIENT_MGMT=10.78.0.2
MR_HUGE_FILE=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

mr_say() { printf '%s\n' "$*"; }
mr_warn() { printf 'warning: %s\n' "$*" >&2; }
mr_die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# ---- guardian ------------------------------------------------------------------------------------------

# Pages that are ours to count: one still held after its number was taken down is "surplus", goes by itself with its
# process, and would stay for good if the next instance added to the whole number.
mr_huge_persistent() { echo $(($(<"$MR_HUGE_FILE") - $(<"${MR_HUGE_FILE%/*}/surplus_hugepages"))); }

# Change the number of huge pages by $1; prints by how many it really changed. A lock keeps two instances
# from losing each other's change; changing by a difference keeps theirs.
mr_huge_change() {
	local before after wanted i
	(
		flock -w 10 9 || true
		before=$(mr_huge_persistent)
		wanted=$((before + $1 > 0 ? before + $1 : 0))
		echo "$wanted" >"$MR_HUGE_FILE"
		for ((i = 0; i < 100; i++)); do # pages of a process that has just ended come back a little later
			after=$(<"$MR_HUGE_FILE")
			(($1 < 0 && after > wanted)) || break
			sleep 0.02
		done
		(($1 < 0)) || after=$(mr_huge_persistent)
		echo $((after - before))
	) 9<"$MR_HUGE_FILE"
}

# A guardian that was killed by -9 puts nothing back: whoever comes next does it. A living one holds a lock on its
# file, and so does everything in its world; the file says how many huge pages it raised.
mr_sweep() {
	local dir raised
	for dir in /tmp/millrace.*; do
		[[ -d $dir && ! -L $dir && -O $dir && -f $dir/guardian ]] || continue
		(
			flock -n 8 || exit 0
			read -r raised <&8 && [[ $raised =~ ^[0-9]+$ ]] || raised=0
			((raised == 0)) || mr_huge_change "-$raised" >/dev/null
			rm -rf "$dir"
			mr_warn "an earlier run was killed: gave back its $raised huge pages and removed $dir"
		) 8<"$dir/guardian"
	done
}

# What of the host could carry our traces: one line each.
mr_host_traces() {
	grep -F "$MR_WORK" /proc/self/mounts
	ip -o link show 2>/dev/null | grep -oE ' (data0|data1|mgmt0|mgmt1)[@:]'
	[[ ! -d $MR_WORK ]] || echo "$MR_WORK"
}

# Called by the guardian's EXIT trap: everything back, and a look whether it is true.
mr_guardian_leave() {
	local changed traces
	trap '' INT TERM HUP
	if ((${MR_HUGE_RAISED:-0} > 0)); then
		changed=$(mr_huge_change "-$MR_HUGE_RAISED")
		((changed == -MR_HUGE_RAISED)) ||
			mr_warn "huge pages: $MR_HUGE_RAISED raised, $((-changed)) given back (some are still in use); see $MR_HUGE_FILE"
	fi
	[[ -z ${MR_WORK:-} || -n ${MR_KEEP_WORK:-} ]] || rm -rf "$MR_WORK"
	if [[ -n ${MR_WORK:-} && -z ${MR_KEEP_WORK:-} ]]; then
		traces=$(mr_host_traces)
		[[ -z $traces ]] || mr_warn "left on the host: ${traces//$'\n'/, }"
	fi
}

# Run the same script again inside the new namespaces, forward signals, return its exit status.
mr_guard() {
	local status=143 pid interrupted
	# A guardian killed by -9 takes unshare with it, and that one the inner shell, by TERM.
	setpriv --pdeathsig KILL unshare --mount --pid --net --fork --mount-proc --kill-child=TERM --propagation private \
		-- setsid env MR_INSIDE=1 MR_WORK="$MR_WORK" MR_HUGE_MISSING="$MR_HUGE_MISSING" "$BASH" "$0" "$@" <&0 &
	pid=$!
	# shellcheck disable=SC2064
	trap "interrupted=1; pkill -TERM -P $pid" INT TERM HUP
	until pgrep -P "$pid" >"$MR_WORK/pid" || ! kill -0 "$pid" 2>/dev/null; do
		sleep 0.01
	done
	# A wait that a signal ended tells of the signal, not of the child, even when that has ended meanwhile.
	interrupted=1
	while [[ -n $interrupted ]]; do
		interrupted=''
		wait "$pid"
		status=$?
	done
	return "$status"
}

# lib_enter HUGE_MB "$@": in the guardian never returns; in the inner shell returns with MR_WORK set and an
# empty private world. HUGE_MB is the memory in 2 MiB pages this instance needs.
lib_enter() {
	local need=$(($1 / 2)) free
	shift
	if [[ -n ${MR_INSIDE:-} ]]; then
		mr_inner_start
		return 0
	fi
	[[ $(id -u) -eq 0 ]] || mr_die "root is needed (namespaces, AF_XDP, huge pages): run with sudo"
	mr_sweep
	MR_WORK=$(mktemp -d /tmp/millrace.XXXXXX)
	chmod 755 "$MR_WORK"
	exec 8>"$MR_WORK/.guardian" && flock 8 && mv "$MR_WORK/.guardian" "$MR_WORK/guardian"
	MR_HUGE_RAISED=0 MR_HUGE_MISSING=0
	trap mr_guardian_leave EXIT
	trap 'exit 130' INT TERM HUP
	if ((need > 0)) && [[ -w $MR_HUGE_FILE ]]; then
		free=$(<"${MR_HUGE_FILE%/*}/free_hugepages")
		MR_HUGE_RAISED=$(mr_huge_change "$need")
		echo "$MR_HUGE_RAISED" >&8
		if ((MR_HUGE_RAISED + free < need)); then
			MR_HUGE_MISSING=$((need - MR_HUGE_RAISED))
			mr_warn "$MR_HUGE_MISSING of $need huge pages could not be had (memory is fragmented or full): running on normal pages"
		fi
	fi
	mr_guard "$@"
	exit $?
}

# ---- inner shell ---------------------------------------------------------------------------------------

mr_inner_start() {
	trap mr_inner_leave EXIT
	trap 'exit 143' TERM
	trap 'exit 130' INT
	mount -t sysfs sysfs /sys || mr_die "mounting /sys"
	mount -t bpf bpf /sys/fs/bpf || mr_warn "no bpffs: XDP is not available"
	mount -t tmpfs -o mode=755 tmpfs /run || mr_die "mounting /run"
	mkdir -p /run/netns "$MR_WORK/run" "$MR_WORK/state" "$MR_WORK/log"
	export MILLRACE_RUN=$MR_WORK/run MILLRACE_STATE=$MR_WORK/state
	ip link set lo up
}

# Everybody in here gets a TERM and a moment; the kernel ends the rest when PID 1 goes.
mr_inner_leave() {
	local status=$? i others
	trap '' INT TERM HUP
	declare -F mr_on_leave >/dev/null && mr_on_leave "$status"
	kill -TERM -1 2>/dev/null
	for ((i = 0; i < 60; i++)); do
		others=(/proc/[0-9]*) # PID 1 is us
		((${#others[@]} > 1)) || break
		sleep 0.05
	done
	exit "$status"
}

# A veth pair $1 (here, address $2) to $3 (in the client's namespace, address $4). An empty address leaves that
# end without one. Checksum offload is off: a veth hands unfinished checksums to AF_XDP.
mr_veth() {
	ip link add "$1" type veth peer name "$3" netns client
	[[ -z $2 ]] || ip address add "$2/24" dev "$1"
	[[ -z $4 ]] || ip -n client address add "$4/24" dev "$3"
	ethtool -K "$1" tx off >/dev/null 2>&1 || mr_warn "$1: cannot switch off tx checksum offload"
	mr_client ethtool -K "$3" tx off >/dev/null 2>&1 || true
	ip link set "$1" up
	ip -n client link set "$3" up
}

# The demo network of the drawing. data0 has no kernel address: the dataplane answers for it.
lib_net() {
	ip netns add client
	ip -n client link set lo up
	mr_veth data0 "" data1 "$MR_CLIENT_DATA"
	mr_veth mgmt0 "$MR_SERVER_MGMT" mgmt1 "$MR_CLIENT_MGMT"
}

# Run a command as the client's machine.
mr_client() { nsenter --net=/run/netns/client -- "$@"; }

# wait_for SECONDS "what" COMMAND...: until the command succeeds; 1 when the time is over.
wait_for() {
	local end=$(($(date +%s%N) + ${1%.*} * 1000000000)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		if (($(date +%s%N) > end)); then
			echo "gave up waiting for $what" >&2
			return 1
		fi
		sleep 0.05
	done
}
