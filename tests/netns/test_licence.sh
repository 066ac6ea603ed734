#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What the licence says holds: none, expired, another vendor's, and one subscriber too many.
#
#   vendor: millrace-license ──licence file──▶ millrace-control ──▶ enrolment, plans, NOT_LICENSED
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

lib_net
must "control and dataplane start without a licence" eval 'stack_vendor && stack_config && stack_start_control && stack_wait_ready 30'
is "status says that there is no licence" eval '[[ $(millrace --json status | jq -r .license.state) != valid ]]'

stack_licence "$MR_WORK/old.json" --not-before 2020-01-01T00:00:00Z --not-after 2021-01-01T00:00:00Z ||
	millrace-license issue --key "$MR_WORK/vendor/license-private.pem" --customer demo --subscribers 2 --models 2 \
		--not-before 2020-01-01T00:00:00Z --not-after 2021-01-01T00:00:00Z --out "$MR_WORK/old.json"
is "an expired licence is refused with its reason" refused 'expired' millrace license install "$MR_WORK/old.json"
millrace-license keygen --out "$MR_WORK/stranger" >/dev/null
millrace-license issue --key "$MR_WORK/stranger/license-private.pem" --customer x --subscribers 9 --models 9 \
	--out "$MR_WORK/strange.json" >/dev/null
is "another vendor's licence is refused" refused 'sign|key' millrace license install "$MR_WORK/strange.json"
is "nobody can be subscribed without a licence" refused licen.e millrace subscriber add early --rate 1000 --burst 100
is "nor is a model served" eval '! stack_model digits || refused "licen" stack_bench none digits --count 1'

stack_licence "$MR_WORK/two.json" --subscribers 2 --rate 1000000
must "a valid licence is installed" millrace license install "$MR_WORK/two.json"
must "and a model under it" stack_model digits
a=$(stack_subscriber a --rate 10000 --burst 1000)
b=$(stack_subscriber b --rate 10000 --burst 1000)
is "two subscribers are within it" test -n "$a" -a -n "$b"
is "a third is refused with its reason" refused 'licen.e' millrace subscriber add c --rate 1 --burst 1
is "a rate over the licence's sum is refused" refused 'licen.e|rate' millrace subscriber set a --rate 5000000
load "$a" --count 360 --window 4
is "those within it are served" report '.answered == 360 and .wrong_rows == 0'
t_end
