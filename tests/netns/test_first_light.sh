#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A real packet gets a real answer through the whole machine; what may not be answered is refused.
#
#   client namespace                                    server namespace
#   millrace-bench ──TLS 10.78.0.2 ▶ 10.78.0.1:8443──▶ millrace-control ──▶ millrace-dataplane
#        └────────── UDP 10.77.0.2 ▶ 10.77.0.1:4433──▶ data0: XDP ──▶ AF_XDP ──▶ worker ──▶ digits
# shellcheck disable=SC2016,SC2317
set -uo pipefail
# shellcheck source=tests/netns/t.sh
. "$(dirname "$0")/t.sh"
t_enter "$@"

must "the appliance starts and serves digits" stack_up digits
key=$(stack_subscriber first --rate 1000000 --burst 100000)
must "a subscriber gets an API key" test -n "$key"

load "$key" --count 7200 --window 16
is "every request over AF_XDP is answered with the recorded output" \
	report '.answered == .sent and .sent == 7200 and .status.result == 7200 and .wrong_rows == 0'
load "$key" --count 2000 --window 64 --sessions 12 --order random
is "twelve sessions share a subscriber" report '.answered == 2000 and .wrong_rows == 0'
is "a seventeenth session is refused" refused too_many_sessions stack_bench "$key" digits --count 1 --sessions 17
is "dropped packets are none of ours" test "$(millrace --json show drops | jq '[.dataplane[]? | select(.name | test("auth|replay|short|length")) | .count] | add // 0')" = 0


# Junk from the client's own address: dropped in XDP, counted by name, nobody answers.
drops() { millrace --json show drops | jq .total; }
before=$(drops)
mr_client bash -c 'for i in {1..50}; do head -c 60 /dev/urandom >/dev/udp/10.77.0.1/4433; done' 2>/dev/null
is "fifty datagrams of noise are dropped and counted" wait_for 2 "fifty drops" eval '(($(drops) >= before + 50))'
is "and each of them under a name" eval 'millrace --json show drops | jq -e "[(.dataplane[], .xdp[]) | select(.count > 0)] | all(.name != \"\")" >/dev/null'

is "a wrong API key is refused at enrolment" refused 'api.?key|401' stack_bench "mr_$(printf '0%.0s' {1..40})" digits --count 1
is "an unknown model is refused by the client's list" refused 'model' stack_bench "$key" nosuch --count 1
is "a certificate that is not pinned is refused" refused 'certificate|trust|pin' \
	env MILLRACE_API_KEY="$key" nsenter --net=/run/netns/client -- "$BIN/millrace-bench" --port "udp:$MR_CLIENT_DATA" \
	--url "$MR_SERVER_MGMT:8443" --pin "$(printf '0%.0s' {1..64})" --model digits --count 1

# The same model over HTTPS, asked with curl: real held-out rows, the answers of millrace-model run.
infer() {
	/usr/bin/python3 - "$ZOO/digits/heldout_x.npy" >"$MR_WORK/ask.json" <<-'END'
	import json, sys, numpy
	x = numpy.load(sys.argv[1])[:30]
	print(json.dumps({"id": "curl", "inputs": [{"name": "pixels", "datatype": "FP32", "shape": x.shape,
	    "data": x.astype(float).tolist()}]}))
	END
	mr_client curl -sS --max-time 10 -k -o "$MR_WORK/answer.json" -w '%{http_code}' -H "Authorization: Bearer $1" \
		-H 'Content-Type: application/json' -d "@$MR_WORK/ask.json" "https://$MR_SERVER_MGMT:8443/v2/models/digits/infer"
}
same_as_model_run() {
	millrace-model run "$MODELS/digits.mrm" "$ZOO/digits/heldout_x.npy" -o "$MR_WORK/run.npy" >/dev/null &&
		/usr/bin/python3 - "$MR_WORK/answer.json" "$MR_WORK/run.npy" <<-'END'
	import json, sys, numpy
	answer = json.load(open(sys.argv[1]))
	out = answer["outputs"][0]
	assert answer["id"] == "curl" and out["name"] == "probabilities", answer
	numpy.testing.assert_allclose(numpy.reshape(out["data"], out["shape"]), numpy.load(sys.argv[2])[:30],
	    rtol=1e-5, atol=1e-6)
	END
}
units() { millrace --json show limits | jq '.subscribers[0].units_admitted'; }
before=$(units)
is "thirty images over HTTPS are answered" test "$(infer "$key")" = 200
is "with the answers of millrace-model run" same_as_model_run
is "and charged to the subscriber's plan" test "$(($(units) - before))" = 30
is "a wrong key gets none" test "$(infer "mr_$(printf '0%.0s' {1..40})")" = 401
millrace subscriber set first --suspended true >/dev/null
is "a suspended subscriber gets none, over HTTPS either" test "$(infer "$key")" = 429
millrace subscriber set first --suspended false >/dev/null
is "a data address outside the configured networks is refused" refused 'source_not_allowed|data_networks' \
	env MILLRACE_API_KEY="$key" nsenter --net=/run/netns/client -- "$BIN/millrace-bench" --port "udp:203.0.113.9" \
	--url "$MR_SERVER_MGMT:8443" --pin "$(stack_pin)" --model digits --count 1

# Figures about subscribers are not for other subscribers.
page() { curl -sS --max-time 10 -k -o /dev/null -w '%{http_code}' "https://$MR_SERVER_MGMT:8443$1"; }
client_page() { mr_client curl -sS --max-time 10 -k -o /dev/null -w '%{http_code}' "https://$MR_SERVER_MGMT:8443$1"; }
is "the operator's host reads metrics and dashboard" test "$(page /metrics) $(page /)" = "200 200"
is "a subscriber's host reads neither" test "$(client_page /metrics) $(client_page /)" = "403 403"
is "but the health" test "$(client_page /v2/health/ready)" = 200

# Artifacts that are not what they say: refused by name, the running model stays.
cp "$MODELS/digits.mrm" "$MR_WORK/bad.mrm"
printf '\xff' | dd of="$MR_WORK/bad.mrm" bs=1 seek=9000 conv=notrunc status=none
is "a flipped byte in an artifact is refused naming the chunk" refused 'chunk 0' millrace model load "$MR_WORK/bad.mrm"
head -c 20000 "$MODELS/digits.mrm" >"$MR_WORK/bad.mrm"
is "a truncated artifact is refused" refused 'truncated|bytes' millrace model load "$MR_WORK/bad.mrm"
head -c 3000 "$MODELS/digits.mrm" >"$MR_WORK/bad.mrm"
is "half a header is refused" refused 'less than|no size' millrace model load "$MR_WORK/bad.mrm"
is "an artifact of another name is refused" refused "is named digits" millrace model load "$MODELS/digits.mrm" --name other
millrace --dry-run model load "$MODELS/risk.mrm" >/dev/null
is "neither leaves its name behind" refused "risk. was ever loaded" millrace plan set p --rate 1 --burst 1 --models risk
is "a directory is refused" refused 'regular|directory' millrace model load "$MR_WORK/log"
is "a path that is not there is refused" refused 'no such file|not_found|cannot open' millrace model load "$MR_WORK/none.mrm"
load "$key" --count 720
is "the old model still answers, rightly" report '.answered == 720 and .wrong_rows == 0'
t_end
