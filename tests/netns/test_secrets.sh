#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Session keys are nowhere that a core dump, a log, a process list or the statistics would show them, and gone when
# their session is.
# shellcheck disable=SC2016,SC2317
set -uo pipefail
[[ -z ${SAN:-} ]] || { echo "an instrumented process has terabytes of shadow memory, too much to look through"; exit 77; }
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

# The layout of a slot from the header: secrets.py shall not know it better.
layout() {
	cat >"$MR_WORK/layout.c" <<-'END'
	#include <stdio.h>
	#include "abi/session.h"
	int main(void)
	{
		printf("capacity=%zu slot=%zu state=%zu keys=%zu key_stride=%zu epochs=%d c2s_key=%zu s2c_key=%zu secrets=%zu\n",
			offsetof(struct session_table, capacity), sizeof(struct session_slot), offsetof(struct session_slot, state),
			offsetof(struct session_slot, keys), sizeof(struct session_keys), SESSION_EPOCHS,
			offsetof(struct session_keys, c2s_key), offsetof(struct session_keys, s2c_key),
			offsetof(struct session_slot, secrets));
	}
	END
	gcc -D_GNU_SOURCE -Idataplane -I. -o "$MR_WORK/layout" "$MR_WORK/layout.c" && "$MR_WORK/layout"
}
SESSION_LAYOUT=$(layout) || exit 1
export SESSION_LAYOUT
secrets() { /usr/bin/python3 tests/netns/secrets.py "$@"; }
found() { [[ $(secrets "$@") != 0 ]]; }
none() { local n; n=$(secrets "$@") && { [[ $n == 0 ]] || { echo "found $n times"; return 1; }; }; }

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber first --rate 1000000 --burst 100000)
load "$key" --seconds 60 --rate 500 & # its session lives until the subscriber is removed
client=$!
has_session() { [[ $(millrace --json show sessions | jq .total) == 1 ]]; }
is "a client has a session" wait_for 10 "a session" has_session
sleep 1
pid=$(stack_dataplane_pid)
keys=$MR_WORK/keys
secrets keys "$pid" >"$keys"
is "its keys are known to this test: $(wc -w <"$keys")" grep -q . "$keys"
is "they are in the dataplane's memory" found all "$keys" "$pid" 2>/dev/null
is "but in nothing that a core dump would hold" none dump "$keys" "$pid"
is "control has none, dumped or not" none all "$keys" "$CONTROL_PID"
is "no log and no file of the state has them" none text "$keys" "$MR_WORK"/log/* "$MR_WORK"/run/*.log "$MR_WORK"/state/*
is "no command line and no environment has them" none text "$keys" /proc/[0-9]*/cmdline /proc/[0-9]*/environ
is "nor has the statistics region" none text "$keys" "$(find "/proc/$pid/fd" -lname '*millrace-stats*' | head -1)"
is "nor a log the API key" eval '! grep -rqF "$key" "$MR_WORK/log" "$MR_WORK/run"'

is "the subscriber is removed" millrace subscriber remove first
no_session() { [[ $(millrace --json show sessions | jq .total) == 0 ]]; }
is "and its sessions with it" wait_for 5 "no session" no_session
kill "$client" 2>/dev/null
is "then the keys are nowhere in the dataplane, within seconds" wait_for 5 "the keys to be wiped" none all "$keys" "$pid" 2>/dev/null

# A crash leaves no core file where another process' crash does.
is_file_pattern() { [[ $(</proc/sys/kernel/core_pattern) != [\|/]* ]]; }
if is_file_pattern; then
	ulimit -c unlimited
	(cd "$MR_WORK" && mkdir cores && cd cores && sh -c 'kill -ABRT $$') 2>/dev/null
	is "a process that crashes here leaves a core file" eval 'compgen -G "$MR_WORK/cores/core*" >/dev/null'
	here=$(readlink "/proc/$pid/cwd")
	prlimit --pid "$pid" --core=unlimited
	kill -ABRT "$pid"
	is "another dataplane follows one that aborts" wait_for 5 "a new dataplane" eval '[[ $(stack_dataplane_pid) != "$pid" && $(stack_dataplane_pid) -gt 0 ]] && stack_is_ready'
	is "and the dead one left no core file" eval "! compgen -G '$here/core*' >/dev/null"
fi
t_end
