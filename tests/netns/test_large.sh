#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Requests of several datagrams through the whole machine: kernel sockets, XDP, AF_XDP, worker and back, with
# recorded answers; what they cost the subscriber; what the operator sees of it.
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber large --rate 10000000 --burst 1000000)
must "a subscriber gets an API key" test -n "$key"

units() { millrace --json show limits | jq '.subscribers[0].units_admitted'; }

# A row is 256 bytes: 5 rows are 2 datagrams, 28 are 7, with an answer that just fits one.
for shape in 5:2 28:7; do
	rows=${shape%:*} datagrams=${shape#*:} before=$(units)
	load "$key" --count 1000 --window 4 --rows-per-request "$rows"
	is "requests of $datagrams datagrams are all answered with the recorded output" \
		report '.answered == .sent and .sent == 1000 and .status.result == 1000 and .wrong_rows == 0'
	is "and cost their rows and one unit a datagram" test "$(($(units) - before))" -ge $((1000 * (rows + datagrams)))
done
is "dropped packets are none of ours" test "$(millrace --json show drops |
	jq '[.dataplane[]? | select(.name | test("auth|short|length|oversize")) | .count] | add // 0')" = 0
is "the operator sees the memory of large requests and of kept replies" eval \
	'millrace --json show workers | jq -e "(.result // .).workers[0] | .wide_bytes > 4000000 and .store_bytes == 16777216 and .store_used_bytes > 0" >/dev/null'
is "more rows than a request takes are refused by the client, with the number" \
	refused 'do not fit a request: at most 71' stack_bench "$key" digits --count 1 --rows-per-request 72

t_end
